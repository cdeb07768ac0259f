"""`GET /api/openapi.json`: the OpenAPI document, public because it contains no secret.

The document is written by hand; tests check the routes and their responses against it.
"""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

DOCUMENT = Path(__file__).with_name("openapi.json").read_bytes()


def document_routes() -> list[Route]:
    """Return the route."""
    return [Route("/api/openapi.json", _show, methods=["GET"])]


async def _show(_: Request) -> Response:
    return Response(DOCUMENT, media_type="application/json")

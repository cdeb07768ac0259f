"""The page's stylesheet, script and icon, served from memory."""

import hashlib
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from receiver.service import Service
from receiver.web.hooks import not_found

FOLDER = Path(__file__).parent / "static"
TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
CONTENTS = {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir())}
FOREVER = "public, max-age=31536000, immutable"


def address_of(name: str) -> str:
    """Return the asset's URL; it changes with the content, so browsers may cache it forever."""
    return f"/static/{name}?v={hashlib.sha256(CONTENTS[name]).hexdigest()[:12]}"


async def serve_asset(request: Request) -> Response:
    """Return one of the page's own files."""
    service: Service = request.app.state.service
    name = request.path_params["name"]
    if service.settings.admin_password is None or name not in CONTENTS:
        return not_found()
    headers = {"Cache-Control": FOREVER, "X-Content-Type-Options": "nosniff"}
    return Response(CONTENTS[name], headers=headers, media_type=TYPES[Path(name).suffix])

"""The API's routes for what a person looks at: the overview, and an app's versions."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from receiver.catch_up import CATCH_UP
from receiver.ledger.cursors import read_cursors
from receiver.ledger.overviews import overview
from receiver.ledger.stories import Row
from receiver.service import CONFIGURATION, Service
from receiver.telling import as_json
from receiver.web.guarding import guarded, refusal
from receiver.web.versions import Shelf


def looking_routes(shelf: Shelf) -> list[Route]:
    """Return the routes, over what Edgegap was asked last."""

    async def versions(service: Service, request: Request) -> Response:
        app = request.query_params.get("app", "")
        known = sorted({rule.app for rule in service.settings.rules})
        if not app:
            return refusal(400, f"say which app: ?app=…; rules name: {', '.join(known)}")
        if app not in known:
            return refusal(404, f"no rule names this app; rules name: {', '.join(known)}")
        return JSONResponse(as_json(await shelf.of(service, app)))

    return [
        Route("/api/overview", guarded(_overview), methods=["GET"]),
        Route("/api/versions", guarded(versions), methods=["GET"]),
    ]


async def _overview(service: Service, _: Request) -> Response:
    return JSONResponse(as_json(await overview_of(service)))


async def overview_of(service: Service) -> Row:
    """Return the overview, with a failing catch-up and a refused reload."""
    rules, refused = service.settings.rules, service.refused
    found, cursors = await service.ledger.read(lambda tx: (overview(tx, rules), read_cursors(tx)))
    catch_up = service.catch_up.failing(cursors)
    if catch_up is not None:
        since = catch_up.since
        row = {"name": CATCH_UP, "sentence": catch_up.sentence, "since_at": since}
        found["degraded"].append(row)
    if refused is not None:
        told = {"sentence": refused.sentence, "since_at": refused.since}
        found["degraded"].append({"name": CONFIGURATION, **told})
    return found

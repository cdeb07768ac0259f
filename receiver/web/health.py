"""The health endpoints: whether the receiver lives, and whether a push could be recorded now."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from receiver.service import Service
from receiver.upkeep.health import Code, Health
from receiver.web.guarding import has_token

NOT_READY = "the ledger cannot be written now: the log says why, and so does this with an API token"


async def live(request: Request) -> Response:
    """Answer 200 while the worker's loops turn."""
    service: Service = request.app.state.service
    alive = service.worker.alive
    return JSONResponse({"alive": alive}, 200 if alive else 503)


async def ready(request: Request) -> Response:
    """Answer 200 while a push could be recorded; `degraded` lists what else is wrong.

    The sentences are for an API token: anybody on the Internet may ask here.
    """
    service: Service = request.app.state.service
    found = await service.health.lately()
    in_full = has_token(service, request)
    body = _body(found, in_full=in_full)
    if in_full:
        body["replica"] = service.worker.owner  # as the ledger knows this process
    return JSONResponse(body, 200 if found.ready else 503)


def _body(found: Health, *, in_full: bool) -> dict[str, object]:
    if not found.ready:
        why = [one.message for one in found.conditions if one.code is Code.LEDGER]
        return {"ready": False, "error": why[0] if in_full and why else NOT_READY}
    if in_full:
        return {
            "ready": True,
            "degraded": [f"{one.code}: {one.message}" for one in found.conditions],
        }
    return {"ready": True, "degraded": list(dict.fromkeys(one.code for one in found.conditions))}

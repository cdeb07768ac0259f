"""The health endpoints: whether the worker runs, and whether a push could be recorded now."""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from receiver.service import Service
from receiver.upkeep.health import Code, Health
from receiver.web.guarding import has_token

NOT_READY = "the ledger cannot be written now: see the log, or send an API token for details"


async def live(request: Request) -> Response:
    """Return 200 while the worker's loops are running."""
    service: Service = request.app.state.service
    alive = service.worker.alive
    return JSONResponse({"alive": alive}, 200 if alive else 503)


async def ready(request: Request) -> Response:
    """Return 200 while a push could be recorded; `degraded` lists other problems.

    Their messages require an API token, because this endpoint is public.
    """
    service: Service = request.app.state.service
    health = await service.health.lately()
    in_full = has_token(service, request)
    body = _body(health, in_full=in_full)
    if in_full:
        body["replica"] = service.worker.owner  # as the ledger knows this process
    return JSONResponse(body, 200 if health.ready else 503)


def _body(health: Health, *, in_full: bool) -> dict[str, object]:
    if not health.ready:
        why = [found.message for found in health.conditions if found.code is Code.LEDGER]
        return {"ready": False, "error": why[0] if in_full and why else NOT_READY}
    if in_full:
        return {
            "ready": True,
            "degraded": [f"{found.code}: {found.message}" for found in health.conditions],
        }
    return {
        "ready": True,
        "degraded": list(dict.fromkeys(found.code for found in health.conditions)),
    }

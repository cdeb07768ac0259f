"""The controls of a fake over HTTP, for tests that run in another process."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from receiver.sandbox.calls import CONTROLS, Call
from receiver.sandbox.faults import Fault, Faults


def control_routes(
    *,
    calls: Sequence[Call],
    faults: Faults,
    change: Callable[[dict[str, Any]], None],
    shows: Mapping[str, Callable[[], Any]],
) -> list[Route]:
    """Return the routes under `/_sandbox/`.

    - `POST misbehave` adds a JSON list of faults, `POST behave` clears the faults
    - `POST state` passes a JSON object to `change`; its `ValueError` becomes a 400
    - `GET calls`, and `GET` of each name in `shows`, return the current data
    """

    async def misbehave(request: Request) -> Response:
        faults.add(*(Fault(**fault) for fault in await request.json()))
        return JSONResponse({"success": True})

    async def behave(_: Request) -> Response:
        faults.clear()
        return JSONResponse({"success": True})

    async def state(request: Request) -> Response:
        change(await request.json())
        return JSONResponse({"success": True})

    async def show_calls(_: Request) -> Response:
        return JSONResponse([asdict(call) for call in calls])

    def showing(read: Callable[[], Any]) -> Callable[[Request], Awaitable[Response]]:
        async def show(_: Request) -> Response:
            return JSONResponse(read())

        return show

    return [
        Route(f"{CONTROLS}misbehave", _reporting(misbehave), methods=["POST"]),
        Route(f"{CONTROLS}behave", behave, methods=["POST"]),
        Route(f"{CONTROLS}state", _reporting(state), methods=["POST"]),
        Route(f"{CONTROLS}calls", show_calls),
        *(Route(CONTROLS + name, showing(read)) for name, read in shows.items()),
    ]


def _reporting(
    endpoint: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    """Wrap a control so that invalid input returns 400 with the reason."""

    async def respond(request: Request) -> Response:
        try:
            return await endpoint(request)
        except (AttributeError, TypeError, ValueError) as wrong:
            return JSONResponse({"message": str(wrong)}, 400)

    return respond

"""The controls of a stand-in over HTTP, for tests that run in another process than it does."""

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
    """Make the routes under `/_sandbox/`.

    - `POST misbehave` takes a JSON list of faults, `POST behave` forgets those to come
    - `POST state` hands a JSON object to `change`; what it finds wrong (`ValueError`) is a 400
    - `GET calls`, and `GET` of each name in `shows`, answer with what there is
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

    def showing(what: Callable[[], Any]) -> Callable[[Request], Awaitable[Response]]:
        async def show(_: Request) -> Response:
            return JSONResponse(what())

        return show

    return [
        Route(f"{CONTROLS}misbehave", _telling(misbehave), methods=["POST"]),
        Route(f"{CONTROLS}behave", behave, methods=["POST"]),
        Route(f"{CONTROLS}state", _telling(state), methods=["POST"]),
        Route(f"{CONTROLS}calls", show_calls),
        *(Route(CONTROLS + name, showing(what)) for name, what in shows.items()),
    ]


def _telling(
    endpoint: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    """Answer 400 with the reason where a control was given nonsense."""

    async def answer(request: Request) -> Response:
        try:
            return await endpoint(request)
        except (AttributeError, TypeError, ValueError) as wrong:
            return JSONResponse({"message": str(wrong)}, 400)

    return answer

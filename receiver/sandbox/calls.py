"""The requests that a fake received, in order."""

import json
from collections.abc import MutableSequence, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTROLS = "/_sandbox/"
"""The paths of the fake itself; they are neither recorded nor affected by faults."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `status` is None until the response, and stays None if there is none."""

    method: str
    path: str
    body: dict[str, Any] | None
    status: int | None
    authorization: str | None
    query: str = ""
    host: str = ""


class Recording:
    """Middleware that records each call when it arrives, and its status when it is answered."""

    def __init__(self, app: ASGIApp, calls: MutableSequence[Call]) -> None:
        self._app = app
        self._calls = calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Record, then pass on."""
        if not is_call(scope):
            await self._app(scope, receive, send)
            return
        body = await read_body(receive)
        headers = Headers(scope=scope)
        call = Call(
            method=scope["method"],
            path=scope["path"],
            body=_as_object(body),
            status=None,
            authorization=headers.get("authorization"),
            query=scope["query_string"].decode("latin-1"),
            host=headers.get("host", ""),
        )
        index = len(self._calls)
        self._calls.append(call)

        async def send_noting_status(message: Message) -> None:
            # Before the response is sent, so that its receiver finds the status recorded. A test
            # may have cleared the list meanwhile.
            if message["type"] == "http.response.start" and self._calls[index:][:1] == [call]:
                self._calls[index] = replace(call, status=message["status"])
            await send(message)

        await self._app(scope, replay(body, receive), send_noting_status)


def calls_route(calls: Sequence[Call]) -> Route:
    """Return the route that shows the calls to another process."""

    async def show(_: Request) -> Response:
        return JSONResponse([asdict(call) for call in calls])

    return Route(f"{CONTROLS}calls", show)


def is_call(scope: Scope) -> bool:
    """Return whether a request is a call to the fake, not to the fake itself."""
    return scope["type"] == "http" and not scope["path"].startswith(CONTROLS)


async def read_body(receive: Receive) -> bytes:
    """Return a request's body, or the part before a disconnect."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return body
        body += cast("bytes", message.get("body", b""))
        if not message.get("more_body", False):
            return body


def replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that returns the body again, then the messages after it."""
    unread = True

    async def receive_again() -> Message:
        nonlocal unread
        if unread:
            unread = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return receive_again


def _as_object(body: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(body)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None

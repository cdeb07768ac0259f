"""What was asked of a stand-in, in the order in which it came."""

import json
from collections.abc import MutableSequence
from dataclasses import dataclass, replace
from typing import Any, cast

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

CONTROLS = "/_sandbox/"
"""The paths by which a stand-in is steered; they are neither recorded nor made to fail."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `status` is None until it is answered, and stays so if it never is."""

    method: str
    path: str
    body: dict[str, Any] | None
    status: int | None
    authorization: str | None
    query: str = ""
    host: str = ""


class Recording:
    """Middleware that appends each call when it arrives and fills in the status it was told."""

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
        place = len(self._calls)
        self._calls.append(call)

        async def send_noting_status(message: Message) -> None:
            # Before the answer leaves: whoever has it finds the status already here. A test may
            # have emptied the list meanwhile.
            if message["type"] == "http.response.start" and self._calls[place:][:1] == [call]:
                self._calls[place] = replace(call, status=message["status"])
            await send(message)

        await self._app(scope, replay(body, receive), send_noting_status)


def is_call(scope: Scope) -> bool:
    """Tell a call to the outside party from one to the stand-in's own controls."""
    return scope["type"] == "http" and not scope["path"].startswith(CONTROLS)


async def read_body(receive: Receive) -> bytes:
    """Read all of a request's body; what came before a disconnect, if it is cut short."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return body
        body += cast("bytes", message.get("body", b""))
        if not message.get("more_body", False):
            return body


def replay(body: bytes, receive: Receive) -> Receive:
    """Give back a body that was read, then whatever comes after it."""
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

"""The requests that a fake received, in order, and the faults that it answers chosen ones with."""

import asyncio
import contextlib
import gzip
import json
import threading
from collections.abc import AsyncIterator, Mapping, MutableSequence, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, cast, get_args

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from receiver.sandbox.serving import HANG_UP, HangUp

CONTROLS = "/_sandbox/"
"""The paths of the fake itself; they are neither recorded nor affected by faults."""
Kind = Literal[
    "status", "slow", "timeout", "reset", "hang_up", "truncated", "garbage", "huge", "declined",
    "bomb", "late",
]  # fmt: skip

FAULT_HEADER = "x-sandbox-fault"
"""Marks a response that a fault created, so that it is not checked against a contract."""

_HTML = "<html><body><h1>502 Bad Gateway</h1></body></html>"
_CHUNK = 65_536


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


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault and the calls that it applies to.

    - `status`: returns `status` with `{"message": message}`, or with `body` as it is
    - `slow`: the real response, `seconds` late, or when `proceed` is called; the call is done even
      if the client hangs up
    - `timeout`: no response; the connection is closed after `seconds`
    - `reset`, `hang_up`: no response; a TCP reset, or a plain close
    - `truncated`: a 200 that ends before its content-length of `size`
    - `garbage`: a 200 that is not JSON: `body`, or a page of HTML
    - `huge`: a 200 of valid JSON, chunked, of more than `size` bytes
    - `declined`: a 200 with `success: false` and `message`, or with `body` as it is
    - `bomb`: a 200 of valid JSON of `size` bytes, compressed twice to a few bytes
    - `late`: returns `status` at once, as a gateway does, and does the call `seconds` later, or
      when `proceed` is called

    With `after`, the real call is done first and its response discarded (`slow` keeps it).
    `method` and `path_contains` select the calls; `times=None` continues until `behave`.
    `retry_after` is sent as it is: seconds, or an HTTP date. `headers` are added to the created
    response: a `status` of 302 with a `location` redirects the caller.
    """

    kind: Kind
    method: str | None = None
    path_contains: str | None = None
    times: int | None = 1
    after: bool = False
    status: int = 500
    message: str = "Something went wrong"
    retry_after: int | str | None = None
    body: str | None = None
    content_type: str = "text/html"
    seconds: float = 60.0
    size: int = 20_000_000
    headers: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        """Refuse an unknown kind."""
        if self.kind not in get_args(Kind):
            raise ValueError(f"no such kind of fault: {self.kind}")

    def applies_to(self, method: str, path: str) -> bool:
        """Return whether the fault applies to a call."""
        if self.method is not None and self.method.upper() != method:
            return False
        return self.path_contains is None or self.path_contains in path


class Faults:
    """The queued faults; the first that applies to a call is used for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # tests add faults while the server's thread takes them
        self._waiting: list[tuple[Fault, int | None]] = []
        self._held: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self._proceeds = False

    def add(self, *faults: Fault) -> None:
        """Append faults to the queue."""
        with self._lock:
            self._waiting += [(fault, fault.times) for fault in faults]
            self._proceeds = False

    def clear(self) -> None:
        """Clear the queue."""
        with self._lock:
            self._waiting.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """Return the fault for a call, if any, and count its use."""
        with self._lock:
            for index, (fault, left) in enumerate(self._waiting):
                if fault.applies_to(method, path):
                    if left is not None and left <= 1:
                        del self._waiting[index]
                    elif left is not None:
                        self._waiting[index] = (fault, left - 1)
                    return fault
        return None

    def hold(self) -> asyncio.Event:
        """Return what is set when a call that is held back is to go on."""
        going = asyncio.Event()
        with self._lock:
            if self._proceeds:
                going.set()
            else:
                self._held.append((asyncio.get_running_loop(), going))
        return going

    def proceed(self) -> None:
        """Go on with the calls that are held back, also with those that come before more faults."""
        with self._lock:
            held, self._held, self._proceeds = self._held, [], True
        for loop, going in held:
            if not loop.is_closed():
                loop.call_soon_threadsafe(going.set)


class Misbehaving:
    """Middleware that applies the faults to the calls."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self._app = app
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a call on, unless a fault is queued for it."""
        fault = self._faults.take(scope["method"], scope["path"]) if is_call(scope) else None
        if fault is None:
            await self._app(scope, receive, send)
            return
        body = await read_body(receive)
        response: list[Message] = []

        async def keep(message: Message) -> None:
            response.append(message)

        if fault.after:
            await self._app(scope, replay(body, receive), keep)
        match fault.kind:
            case "slow":
                await _idle(receive, fault.seconds, self._faults.hold())
                if not fault.after:
                    await self._app(scope, replay(body, receive), keep)
                for message in response:
                    await send(message)
            case "timeout":
                await _idle(receive, fault.seconds)
                await _hang_up(scope, receive)
            case "reset" | "hang_up":
                await _hang_up(scope, receive, reset=fault.kind == "reset")
            case "truncated":
                await _send_half(fault.size, send)
                await _hang_up(scope, receive)
            case "status" | "garbage" | "huge" | "declined" | "bomb":
                await _made_up(fault)(scope, receive, send)
            case "late":
                going = self._faults.hold()
                await _made_up(fault)(scope, receive, send)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(going.wait(), fault.seconds)
                await self._app(scope, replay(body, receive), keep)


def _made_up(fault: Fault) -> Response:
    headers: dict[str, str] = {FAULT_HEADER: fault.kind, **(fault.headers or {})}
    if fault.kind == "huge":
        return StreamingResponse(
            _endless_message(fault.size), headers=headers, media_type="application/json"
        )
    if fault.kind == "declined":
        declined = json.dumps({"success": False, "message": fault.message})
        body = declined if fault.body is None else fault.body
        return Response(body, 200, headers, "application/json")
    if fault.kind == "bomb":
        bomb = gzip.compress(gzip.compress(b'{"message": "' + b"x" * fault.size + b'"}'))
        return Response(bomb, 200, headers | {"content-encoding": "gzip, gzip"}, "application/json")
    if fault.kind == "garbage":
        body = _HTML if fault.body is None else fault.body
        return Response(body, 200, headers, fault.content_type)
    if fault.retry_after is not None:
        headers["retry-after"] = str(fault.retry_after)
    if fault.body is not None:
        return Response(fault.body, fault.status, headers, fault.content_type)
    return JSONResponse({"message": fault.message}, fault.status, headers)


async def _endless_message(size: int) -> AsyncIterator[bytes]:
    yield b'{"message": "'
    for _ in range(0, size, _CHUNK):
        yield b"x" * _CHUNK
    yield b'"}'


async def _send_half(size: int, send: Send) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(size).encode()),
        (FAULT_HEADER.encode(), b"truncated"),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    half = b'{"success": true, "version": {'
    await send({"type": "http.response.body", "body": half, "more_body": True})


async def _idle(receive: Receive, seconds: float, going: asyncio.Event | None = None) -> None:
    """Do nothing for `seconds`, or until the client disconnects or `going` is set."""

    async def left() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    ends: list[asyncio.Task[Any]] = [asyncio.create_task(left())]
    if going is not None:
        ends.append(asyncio.create_task(going.wait()))
    try:
        await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for end in ends:
            end.cancel()


async def _hang_up(scope: Scope, receive: Receive, *, reset: bool = False) -> None:
    """Close the connection; return when the server has noticed, so that it adds no response."""
    hang_up = scope.get("extensions", {}).get(HANG_UP)
    if hang_up is None:
        raise RuntimeError("only an app run by receiver.sandbox.serving can hang up")
    cast("HangUp", hang_up)(reset)
    while (await receive())["type"] != "http.disconnect":
        pass

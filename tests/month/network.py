"""A network within one process: requests go to ASGI applications, and may be broken off."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
from starlette.types import ASGIApp, Message

from receiver.sandbox.serving import HANG_UP

QUICKEST, SLOWEST = 0.005, 0.25  # seconds to an application and back


class Network(httpx.AsyncBaseTransport):
    """Carries each request to the application at its port of this machine.

    There is no connection to a port where nothing is, or that is in `cut_off`.
    """

    def __init__(self, chance: random.Random) -> None:
        self.apps: dict[int, ASGIApp] = {}
        self.cut_off: set[int] = set()
        self.sees: Callable[[httpx.Request, bytes], None] = lambda *_: None
        self._chance = chance
        self.failures: list[str] = []  # exceptions of the applications: there must be none
        self._tasks: set[asyncio.Task[None]] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send it, and return the response when its headers are there."""
        body = await request.aread()
        await asyncio.sleep(self._chance.uniform(QUICKEST, SLOWEST))
        app = self.apps.get(request.url.port or 0)
        if app is None or request.url.port in self.cut_off:
            raise httpx.ConnectError("connection refused", request=request)
        self.sees(request, body)
        exchange = _Exchange(request, body)
        task = asyncio.create_task(exchange.run(app))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        try:
            start = await exchange.next()
        except BaseException:
            await exchange.aclose()
            raise
        if start is None:
            raise httpx.RemoteProtocolError("no response", request=request)
        return httpx.Response(start["status"], headers=start["headers"], stream=exchange)

    async def end(self) -> None:
        """Abort what the applications still do."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.failures.append(repr(task.exception()))


class _Exchange(httpx.AsyncByteStream):
    """One request and its response: the stream of its body, as far as it comes."""

    def __init__(self, request: httpx.Request, body: bytes) -> None:
        self._request = request
        self._body: bytes | None = body
        self._seconds = request.extensions.get("timeout", {}).get("read")
        self._came: asyncio.Queue[Message | httpx.TransportError | None] = asyncio.Queue()
        self._over = asyncio.Event()

    async def run(self, app: ASGIApp) -> None:
        """Have the application answer; like a server's, it goes on when the client has gone."""
        url = self._request.url
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self._request.method,
            "scheme": url.scheme,
            "path": url.path,
            "raw_path": url.raw_path.partition(b"?")[0],
            "query_string": url.query,
            "root_path": "",
            "headers": [(name.lower(), value) for name, value in self._request.headers.raw],
            "server": (url.host, url.port),
            "client": ("127.0.0.1", 40_000),
            "extensions": {HANG_UP: self._hang_up},
            "state": {},
        }
        try:
            await app(scope, self._receive, self._send)
        finally:
            self._came.put_nowait(None)

    async def next(self) -> Message | None:
        """Return the next part of the response, None at its end."""
        try:
            async with asyncio.timeout(self._seconds):
                part = await self._came.get()
        except TimeoutError:
            raise httpx.ReadTimeout("no response in time", request=self._request) from None
        if isinstance(part, httpx.TransportError):
            raise part
        return part

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            part = await self.next()
            if part is None:
                return
            yield part.get("body", b"")
            if not part.get("more_body", False):
                return

    async def aclose(self) -> None:
        """Close the connection from the client's side."""
        self._over.set()

    def _hang_up(self, reset: bool) -> None:
        kind = httpx.ReadError if reset else httpx.RemoteProtocolError
        self._came.put_nowait(kind("the connection was closed", request=self._request))
        self._over.set()

    async def _receive(self) -> dict[str, Any]:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if not self._over.is_set():
            self._came.put_nowait(message)
            await asyncio.sleep(0)

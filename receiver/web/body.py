"""Reads request bodies, with limits on size and time."""

import asyncio

from starlette.requests import Request
from starlette.types import Receive

from receiver.errors import BadBody
from receiver.http.client import BodyTooLarge, UnreadableBody, decompressed
from receiver.reasons import Reason, explain

MAX_BODY_BYTES = 1024 * 1024
SMALL_BODY = 64 * 1024  # Docker Hub's bodies are under 5 KiB
MAX_IN_MEMORY = 16 * 1024 * 1024  # bytes of all bodies over SMALL_BODY that are being read
MAX_BODY_SECONDS = 10.0
LOOKS_IN_A_BODYS_TIME = 20


class ClientDisconnected(Exception):
    """The sender closed the connection before its body was complete."""


class _Memory:
    """The memory used by large bodies while they are read, for all requests together."""

    def __init__(self) -> None:
        self.used = 0

    def take(self, size: int) -> None:
        """Reserve memory of this size, in bytes; raise BadBody if that exceeds the limit."""
        if self.used + size > MAX_IN_MEMORY:
            raise BadBody(Reason.TOO_MANY_BODIES, explain(Reason.TOO_MANY_BODIES))
        self.used += size


_memory = _Memory()


async def read_body(request: Request, largest: int = MAX_BODY_BYTES) -> bytes:
    """Return the whole body, chunked or not.

    A body that is too large is not read: the protocol discards what follows an early response.

    Raises BadBody if the body is larger than `largest` bytes, takes longer than
    MAX_BODY_SECONDS or than the server runs, or finds no memory left for large bodies; raises
    ClientDisconnected if the sender disconnects.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > largest:
        raise _too_large(largest)
    receive = request.receive
    parts: list[bytes] = []
    size, charged, more = 0, 0, True
    task = asyncio.current_task()
    watch = _watch_of(asyncio.get_running_loop())
    watch.begin(task)
    try:
        while more and size <= largest:
            part, more = await _part(receive)
            size += len(part)
            if size > SMALL_BODY:
                _memory.take(size - charged)
                charged = size
            parts.append(part)
        if size > largest:
            raise _too_large(largest)
    except asyncio.CancelledError:  # by the watch, or at the end of the server's shutdown timeout
        if task is not None:
            task.uncancel()
        raise BadBody(Reason.BODY_TOO_SLOW, explain(Reason.BODY_TOO_SLOW)) from None
    finally:
        watch.end(task)
        _memory.used -= charged
    return b"".join(parts)


def decoded(request: Request, body: bytes) -> bytes:
    """Return a body without the compression that a relay added; unchanged if it has none.

    Raises BadBody if the body is then larger than MAX_BODY_BYTES bytes.
    """
    if "content-encoding" not in request.headers:
        return body
    try:
        return decompressed(body, MAX_BODY_BYTES)
    except BodyTooLarge:
        raise _too_large(MAX_BODY_BYTES) from None
    except UnreadableBody:
        return body


def _too_large(largest: int) -> BadBody:
    limit = f"{largest // 1024} KiB"
    return BadBody(Reason.BODY_TOO_LARGE, explain(Reason.BODY_TOO_LARGE, limit=limit))


async def _part(receive: Receive) -> tuple[bytes, bool]:
    """Return the body's next part, and whether more follows; raises ClientDisconnected."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientDisconnected
    return message.get("body", b""), message.get("more_body", False)


class _Watch:
    """Cancels slow body reads. A shared timer: one for each body costs a tenth more (ADR 14)."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._reading: dict[asyncio.Task[object] | None, float] = {}  # sorted by deadline
        self._looking = False

    def begin(self, task: asyncio.Task[object] | None) -> None:
        self._reading[task] = self._loop.time() + MAX_BODY_SECONDS
        if not self._looking:
            self._looking = True
            self._later()

    def end(self, task: asyncio.Task[object] | None) -> None:
        self._reading.pop(task, None)

    def _later(self) -> None:
        self._loop.call_later(MAX_BODY_SECONDS / LOOKS_IN_A_BODYS_TIME, self._look)

    def _look(self) -> None:
        now = self._loop.time()
        for task, end in list(self._reading.items()):
            if end > now:
                break
            self.end(task)
            if task is not None:
                task.cancel()
        if self._reading:
            self._later()
        else:
            self._looking = False
            _watches.pop(self._loop, None)


_watches: dict[asyncio.AbstractEventLoop, _Watch] = {}


def _watch_of(loop: asyncio.AbstractEventLoop) -> _Watch:
    watch = _watches.get(loop)
    if watch is None:
        watch = _watches[loop] = _Watch(loop)
    return watch

"""Reading a request's body with a limit on its size and on its time."""

import asyncio
from contextlib import suppress

from starlette.requests import Request
from starlette.types import Receive

from receiver.errors import BadBody
from receiver.explanations import explain
from receiver.reasons import Reason

LARGEST_BODY = 1024 * 1024
SMALL_BODY = 64 * 1024  # Docker Hub's are under 5 KiB
MOST_IN_MEMORY = 16 * 1024 * 1024  # bytes of all bodies over SMALL_BODY that are being read
# What is too large is read on a little and thrown away, so that its sender can read our answer.
LARGEST_DRAIN = 8 * 1024 * 1024
SLOWEST_DRAIN_SECONDS = 0.5
SLOWEST_BODY_SECONDS = 10.0
LOOKS_IN_A_BODYS_TIME = 20


class SenderLeft(Exception):
    """The sender closed the connection before its body was whole."""


class _Memory:
    """The memory that large bodies take while they are read, over all requests."""

    def __init__(self) -> None:
        self.used = 0

    def take(self, size: int) -> None:
        """Take this many bytes; raises BadBody if that is more than there may be."""
        if self.used + size > MOST_IN_MEMORY:
            raise BadBody(Reason.TOO_MANY_BODIES, explain(Reason.TOO_MANY_BODIES))
        self.used += size


_memory = _Memory()


async def read_body(request: Request, largest: int = LARGEST_BODY) -> bytes:
    """Return the whole body, chunked or not.

    Raises BadBody when it is over `largest` bytes or slower than SLOWEST_BODY_SECONDS (or than the
    server's end), or when other large bodies take all the memory there is for them; SenderLeft.
    """
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
            parts.clear()
            await _drain(receive, size, more=more)
            limit = f"{largest // 1024} KiB"
            raise BadBody(Reason.BODY_TOO_LARGE, explain(Reason.BODY_TOO_LARGE, limit=limit))
    except asyncio.CancelledError:  # by the watch, or the server is ending and has waited enough
        if task is not None:
            task.uncancel()
        raise BadBody(Reason.BODY_TOO_SLOW, explain(Reason.BODY_TOO_SLOW)) from None
    finally:
        watch.end(task)
        _memory.used -= charged
    return b"".join(parts)


async def _part(receive: Receive) -> tuple[bytes, bool]:
    """Return the body's next part, and whether more is to come; raises SenderLeft."""
    message = await receive()
    if message["type"] == "http.disconnect":
        raise SenderLeft
    return message.get("body", b""), message.get("more_body", False)


async def _drain(receive: Receive, size: int, *, more: bool) -> None:
    with suppress(TimeoutError, SenderLeft):
        async with asyncio.timeout(SLOWEST_DRAIN_SECONDS):
            while more and size <= LARGEST_DRAIN:
                part, more = await _part(receive)
                size += len(part)


class _Watch:
    """Cancels who reads a body for too long. One timer for all: one each costs a twentieth more."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._reading: dict[asyncio.Task[object] | None, float] = {}  # in the order of their ends
        self._looking = False

    def begin(self, task: asyncio.Task[object] | None) -> None:
        self._reading[task] = self._loop.time() + SLOWEST_BODY_SECONDS
        if not self._looking:
            self._looking = True
            self._later()

    def end(self, task: asyncio.Task[object] | None) -> None:
        self._reading.pop(task, None)

    def _later(self) -> None:
        self._loop.call_later(SLOWEST_BODY_SECONDS / LOOKS_IN_A_BODYS_TIME, self._look)

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

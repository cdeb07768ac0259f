"""What is done again and again beside the doors, however often it goes wrong."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from receiver.errors import LedgerError
from receiver.logs import get_logger

log = get_logger()


@contextmanager
def surviving(fault: str, **told: object) -> Iterator[None]:
    """Go on after the block whatever goes wrong in it: log a ledger that is away, or the fault."""
    try:
        yield
    except LedgerError as error:
        log.error("ledger_unavailable", error=str(error))
    except Exception:
        log.exception(fault, **told)


class Background:
    """Does one thing at once, then every so often, until it is stopped.

    `once` returns the seconds to wait this time, None for the usual; `every` tells the usual ones,
    None for waiting till woken. `fault` is the event an error is logged as.
    """

    def __init__(
        self,
        once: Callable[[], Awaitable[float | None]],
        *,
        every: Callable[[], float | None],
        fault: str,
    ) -> None:
        self._once = once
        self._every = every
        self._fault = fault
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, at once."""
        self._task = asyncio.create_task(self._run())

    def wake(self) -> None:
        """Do it now; once more where it is just being done."""
        self._woken.set()

    async def stop(self) -> None:
        """End, in the midst of it too; harmless when it never began."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            wait = self._every()
            with surviving(self._fault):
                wait = await self._once() or wait
            try:
                async with asyncio.timeout(wait):
                    await self._woken.wait()
            except TimeoutError:
                pass

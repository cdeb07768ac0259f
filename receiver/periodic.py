"""Periodic tasks, which continue after errors."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

from receiver.errors import LedgerError
from receiver.logs import get_logger

log = get_logger()


@contextmanager
def log_errors(fault: str, **facts: object) -> Iterator[None]:
    """Log an exception of the block and continue: an unavailable ledger, or the event `fault`."""
    try:
        yield
    except LedgerError as error:
        log.error("ledger_unavailable", error=str(error))
    except Exception:
        log.exception(fault, **facts)


class PeriodicTask:
    """Calls `once` immediately, then periodically, until it is stopped.

    `once` returns the seconds to wait this time, None for the usual time. `every` returns the
    usual time, None for waiting until `wake` is called. `fault` is the log event for an error.
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
        """Start the task; the first run is immediate."""
        self._task = asyncio.create_task(self._run())

    def wake(self) -> None:
        """Run it now; if it is running, run it once more afterwards."""
        self._woken.set()

    async def stop(self) -> None:
        """Stop the task, also during a run; harmless if it was never started."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            wait = self._every()
            with log_errors(self._fault):
                wait = await self._once() or wait
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._woken.wait()

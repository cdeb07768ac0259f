"""A clock that jumps to the next timer, and an event loop that lives by it."""

import asyncio
import selectors
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Given = TypeVarTuple("Given")

BEGIN = 1_790_000_000.0  # epoch seconds
BOOTED = 100_000.0  # what a monotonic clock shows at the begin
THREADS_AT_WORK_SECONDS = 0.05


class Clock:
    """Shows the same time to all, and moves only when the loop moves it."""

    def __init__(self) -> None:
        self.passed = 0.0

    def time(self) -> float:
        """Return the epoch seconds."""
        return BEGIN + self.passed

    def time_ns(self) -> int:
        """Return the epoch nanoseconds."""
        return int(self.time() * 1_000_000) * 1000

    def monotonic(self) -> float:
        """Return seconds that only increase."""
        return BOOTED + self.passed

    def install(self) -> None:
        """Have everything in this process read this clock; before the receiver is imported."""
        time.time = self.time
        time.time_ns = self.time_ns
        time.monotonic = self.monotonic


class AtOnce(Executor):
    """In place of a pool of threads: it does each work when that is submitted."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        done: Future[T] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - of the caller
            done.set_exception(error)
        return done


class JumpingLoop(asyncio.SelectorEventLoop):
    """Instead of waiting for a timer it moves the clock, unless a thread is at work for it."""

    def __init__(self, clock: Clock) -> None:
        self._jumping = JumpingSelector(clock, lambda: self.at_work > 0)
        super().__init__(self._jumping)
        self._own = clock
        self.at_work = 0

    def time(self) -> float:
        return self._own.monotonic()

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Given]], T], *args: *Given
    ) -> asyncio.Future[T]:
        if not isinstance(executor, AtOnce):
            future = super().run_in_executor(executor, func, *args)
            self.at_work += 1
            future.add_done_callback(self._is_back)
            return future
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - of the caller
            done.set_exception(error)
        return done

    def _is_back(self, _: asyncio.Future[Any]) -> None:
        self.at_work -= 1


class JumpingSelector(selectors.DefaultSelector):
    """A selector that moves the clock instead of waiting."""

    def __init__(self, clock: Clock, threads_at_work: Callable[[], bool]) -> None:
        super().__init__()
        self._clock = clock
        self._threads_at_work = threads_at_work

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None or self._threads_at_work():
            return super().select(THREADS_AT_WORK_SECONDS)
        self._clock.passed += timeout
        return super().select(0)

"""How fast Edgegap is called: so many requests a second, so many at once."""

import asyncio
import time
from types import TracebackType


class Pace:
    """`async with pace:` around each call; waits its turn, first come first served.

    A second's worth may go at once after a rest, so that one push alone never waits.
    """

    def __init__(self, per_second: float, at_once: int) -> None:
        self._per_second = per_second
        self.share(1)
        self._slots = asyncio.Semaphore(at_once)
        self._earned = 0.0  # when the calls made so far are earned back

    def changed(self, per_second: float, at_once: int) -> "Pace":
        """Return another pace that takes over here; calls under way end with this one."""
        other = Pace(per_second, at_once)
        other.share(self._replicas)
        other._earned = self._earned
        return other

    def share(self, replicas: int) -> None:
        """Take only our part of the requests a second, if several replicas call."""
        self._replicas = replicas
        self._interval = replicas / self._per_second
        self._burst = max(0.0, 1.0 - self._interval)

    async def __aenter__(self) -> None:
        await self._slots.acquire()
        now = time.monotonic()
        self._earned = max(now, self._earned) + self._interval
        wait = self._earned - self._interval - self._burst - now
        if wait > 0:
            try:
                await asyncio.sleep(wait)
            except BaseException:
                self._slots.release()
                raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._slots.release()

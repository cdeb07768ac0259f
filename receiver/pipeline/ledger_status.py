"""The worker's view of its ledger: availability, number of replicas, and clock."""

import time
from collections.abc import Callable
from functools import partial

from receiver.errors import LedgerError
from receiver.ledger.clock import Reading
from receiver.logs import get_logger

log = get_logger()


class LedgerStatus:
    """Shared by a worker's loops and tasks, so that each problem is logged once.

    `replicas` is the number of running replicas, including this one. `reading` is the last reading
    of the ledger's clock.
    """

    def __init__(self) -> None:
        self.replicas = 1
        self.reading: Reading | None = None
        self._away = False

    def was_read(self, reading: Reading, step: int) -> None:
        """Use this reading of the ledger's clock; log a warning if the clock was set."""
        if not reading.slow:
            self.reading = reading
        if step:
            log.warning(
                "clock_was_set",
                seconds=round(step / 1000),
                sentence="Waiting work continues as if the clock had not been set. Synchronize the "
                "clock by NTP: the order of pushes and catch-up depend on it.",
            )

    def clock(self) -> Callable[[], int]:
        """Return a clock (epoch ms) that runs steadily from the last reading.

        Work that began before the ledger's clock was set keeps the time base it began with.
        """
        return partial(_since, self.reading or _read_own())

    def is_away(self, error: LedgerError) -> None:
        """Log once that the ledger cannot be written."""
        if not self._away:
            self._away = True
            log.error("ledger_unavailable", error=str(error))

    def is_back(self) -> None:
        """Log that the ledger can be written again, if it was unavailable."""
        if self._away:
            self._away = False
            log.info("ledger_available")


def _read_own() -> Reading:
    return Reading(time.time_ns() // 1_000_000, time.monotonic())


def _since(reading: Reading) -> int:
    return reading.now + round((time.monotonic() - reading.monotonic) * 1000)

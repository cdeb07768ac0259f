"""What the worker knows of its ledger: whether it can be written, how many share it, its clock."""

import time
from collections.abc import Callable
from functools import partial

from receiver.errors import LedgerError
from receiver.ledger.clock import Reading
from receiver.logs import get_logger

log = get_logger()


class LedgerWatch:
    """One for all of a worker's loops and tasks, so that each trouble is logged once.

    `replicas` are at work on it, this one among them. `reading` is the last of its clock.
    """

    def __init__(self) -> None:
        self.replicas = 1
        self.reading: Reading | None = None
        self._away = False

    def was_read(self, reading: Reading, step: int) -> None:
        """Go by this reading of the ledger's clock; say so if the clock was set before it."""
        if not reading.slow:
            self.reading = reading
        if step:
            log.warning(
                "clock_was_set",
                seconds=round(step / 1000),
                sentence="What waits goes on as if the clock had not been set. Keep it right by "
                "NTP: the order of pushes and catch-up go by it.",
            )

    def clock(self) -> Callable[[], int]:
        """Return a clock (epoch ms) that goes on evenly from the last reading, whatever is set.

        What began before a step of the ledger's clock ends by the time it began with.
        """
        return partial(_since, self.reading or _read_own())

    def is_away(self, error: LedgerError) -> None:
        """Say once that it cannot be written."""
        if not self._away:
            self._away = True
            log.error("ledger_unavailable", error=str(error))

    def is_back(self) -> None:
        """Say that it can be again, where it was away."""
        if self._away:
            self._away = False
            log.info("ledger_available")


def _read_own() -> Reading:
    return Reading(time.time_ns() // 1_000_000, time.monotonic())


def _since(reading: Reading) -> int:
    return reading.now + round((time.monotonic() - reading.monotonic) * 1000)

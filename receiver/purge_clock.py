"""The clock that purging goes by: a wrong system clock must not delete history. Pure.

It follows the system clock in small steps only. A step that is too long counts for nothing: the
clock was set, or the receiver was off; in the latter case it catches up while the receiver runs.
"""

from dataclasses import dataclass

LONGEST_STEP = 24 * 60 * 60 * 1000  # ms between two readings; purging reads it once an hour
CATCHES_UP = 4  # times as fast as time passes


@dataclass(frozen=True, slots=True)
class PurgeClock:
    """The last reading of the system clock, and the time that purging goes by (epoch ms)."""

    read_at: int
    trusted: int

    def read(self, now: int) -> "PurgeClock":
        """Return the clock after a reading of the system clock."""
        step = now - self.read_at
        ahead = CATCHES_UP * step if 0 <= step <= LONGEST_STEP else 0
        return PurgeClock(now, min(now, self.trusted + ahead))

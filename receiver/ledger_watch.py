"""What the worker knows of its ledger: whether it can be written, who shares it, its clock."""

import time

from receiver.errors import LedgerError
from receiver.logs import get_logger

log = get_logger()


class LedgerWatch:
    """One for all of a worker's loops and tasks, so that each trouble is told once.

    `replicas` are at work on it, this one among them.
    """

    def __init__(self) -> None:
        self.replicas = 1
        self._away = False
        self._ahead = 0

    def set_by(self, ledgers: int, *, asked_at: int) -> None:
        """Go by the ledger's clock, which replicas share: what it told to who asked then.

        A little late rather than early: a wait is never cut short. Both in epoch ms.
        """
        self._ahead = ledgers - asked_at

    def now(self) -> int:
        """Return the time that gates and waits are told by (epoch ms)."""
        return self.own_now() + self._ahead

    @staticmethod
    def own_now() -> int:
        """Return this machine's own time (epoch ms)."""
        return time.time_ns() // 1_000_000

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

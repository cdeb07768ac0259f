"""Dismissing: a person closes parked registrations, or parks them again."""

from collections.abc import Sequence
from dataclasses import dataclass

from receiver import metrics
from receiver.ledger.ledger import Ledger
from receiver.ledger.parked import Changed, dismiss_all, dismiss_named, reopen
from receiver.reasons import Outcome
from receiver.upkeep.operations import log_operation


@dataclass(frozen=True, slots=True)
class Asker:
    """The `page`, the `api` or a `command` through which a person asks, and their name if known."""

    source: str
    name: str = ""

    def __str__(self) -> str:
        """Return it as it is recorded: `command (anna)`."""
        return f"{self.source} ({self.name})" if self.name else self.source


async def dismiss(ledger: Ledger, asker: Asker, ids: Sequence[str]) -> Changed:
    """Close what is parked of these registrations and deliveries."""
    changed = await ledger.write(lambda tx: dismiss_named(tx, ids, str(asker)))
    _announce(asker, changed)
    return changed


async def dismiss_parked(ledger: Ledger, asker: Asker, reason: str | None) -> Changed:
    """Close all that is parked, or all that is parked for this reason."""
    changed = await ledger.write(lambda tx: dismiss_all(tx, reason, str(asker)))
    _announce(asker, changed)
    return changed


async def undo_dismissal(ledger: Ledger, asker: Asker, ids: Sequence[str]) -> Changed:
    """Park again what was dismissed of these registrations and deliveries."""
    changed = await ledger.write(lambda tx: reopen(tx, ids))
    _log("dismissal_undone", asker, changed)
    return changed


def _announce(asker: Asker, changed: Changed) -> None:
    metrics.count_closed(Outcome.DISMISSED, len(changed.registrations))
    _log("dismissed", asker, changed)


def _log(operation: str, asker: Asker, changed: Changed) -> None:
    if changed.registrations:
        ids = [row["id"] for row in changed.registrations]
        log_operation(operation, source=asker.source, by=asker.name or None, registrations=ids)

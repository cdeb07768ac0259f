"""Dismissing: a person closes parked registrations, or parks them again."""

from collections.abc import Sequence
from dataclasses import dataclass

from receiver import metrics
from receiver.ledger.ledger import Ledger
from receiver.ledger.parked import Changed, dismiss_parked, parked_ids, reopen
from receiver.ledger.transactions import Tx
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


async def dismiss(
    ledger: Ledger,
    asker: Asker,
    ids: Sequence[str] = (),
    *,
    everything: bool = False,
    reason: str | None = None,
) -> Changed:
    """Close what is parked of these registrations and deliveries.

    `everything`: and all that is parked, for this reason if one is given.
    """

    def write(tx: Tx) -> Changed:
        chosen = [*ids, *(parked_ids(tx, reason) if everything else ())]
        return dismiss_parked(tx, chosen, str(asker))

    changed = await ledger.write(write)
    metrics.count_closed(Outcome.DISMISSED, len(changed.registrations))
    _log("dismissed", asker, changed)
    return changed


async def undo_dismissal(ledger: Ledger, asker: Asker, ids: Sequence[str]) -> Changed:
    """Park again what was dismissed of these registrations and deliveries.

    What a later push has made needless since ends as `superseded`.
    """
    changed = await ledger.write(lambda tx: reopen(tx, ids))
    metrics.count_closed(Outcome.SUPERSEDED, len(changed.superseded))
    _log("dismissal_undone", asker, changed)
    return changed


def _log(operation: str, asker: Asker, changed: Changed) -> None:
    rows = changed.registrations + changed.superseded
    if rows:
        ids = [row["id"] for row in rows]
        log_operation(operation, source=asker.source, by=asker.name or None, registrations=ids)

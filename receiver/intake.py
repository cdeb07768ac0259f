"""The first half of the story: a delivery is ruled on and recorded; then it is safe to answer.

Deliveries come from a webhook, a command, or a catch-up; all go this one way.
"""

from collections.abc import Sequence

from receiver import metrics
from receiver.dockerhub.push import Push
from receiver.errors import BadBody
from receiver.ledger.ledger import Ledger
from receiver.ledger.notices import tell
from receiver.ledger.recording import (
    COMMAND,
    NewDelivery,
    Recorded,
    record,
    record_all,
)
from receiver.ledger.transactions import Tx
from receiver.logs import get_logger
from receiver.notices import Happening, Notice
from receiver.reasons import Reason, Verdict
from receiver.rules import Rule, Ruling, rule_on

WEBHOOK = "webhook"
CATCH_UP = "catch-up"
MOST_BYTES_TOLD = 2**31 - 1  # a sender may tell any length; PostgreSQL takes no larger integer

for _source in (WEBHOOK, COMMAND, CATCH_UP):  # known from the start, so that its growth is seen
    metrics.deliveries.labels(_source, Verdict.ACCEPTED.value, metrics.NONE)

_Told = tuple[NewDelivery, Ruling, Sequence[Notice]]

log = get_logger()


async def take(
    ledger: Ledger,
    rules: Sequence[Rule],
    push: Push,
    *,
    source: str,
    body_bytes: int | None = None,
    notices: Sequence[Notice] = (),
) -> Recorded:
    """Rule on a push and record it; when this returns, it is on disk. Raises LedgerError."""
    ruling = rule_on(push, rules)
    delivery = NewDelivery(
        source=source,
        repository=push.repository,
        tag=push.tag,
        media_type=push.media_type,
        pusher=push.pusher,
        pushed_at=push.pushed_at,
        body_bytes=body_bytes,
    )
    recorded = await ledger.write_alike(_record_all, (delivery, ruling, notices))
    count_delivery(source, ruling)
    log.info(
        "delivery_accepted" if ruling.matches else "delivery_ignored",
        delivery=recorded.delivery,
        source=source,
        repository=push.repository,
        tag=push.tag,
        reason=ruling.reason,
        registrations=list(recorded.registrations),
    )
    return recorded


def _record_all(tx: Tx, told: Sequence[_Told]) -> list[Recorded]:
    """Record a group of deliveries; what is parked at once, for its version's name, is told."""
    for _, ruling, notices in told:
        tell_parked_at_once(tx, notices, ruling)
    return record_all(tx, [(delivery, ruling) for delivery, ruling, _ in told])


def tell_parked_at_once(tx: Tx, notices: Sequence[Notice], ruling: Ruling) -> None:
    """Tell of what is parked before any attempt, for its version's name."""
    for match in ruling.matches:
        if match.invalid is not None:
            text = f"{match.app}/{match.version} parked: {match.invalid}"
            tell(tx, notices, Happening.PARKED, text, rule=match.rule)


def count_delivery(source: str, ruling: Ruling) -> None:
    """Count a delivery that is in the ledger, and what of it was parked at once."""
    metrics.count_delivery(source, ruling.verdict, ruling.reason)
    for match in ruling.matches:
        if match.invalid is not None:
            metrics.count_parked(Reason.VERSION_NAME_INVALID)


async def refuse(
    ledger: Ledger, repository: str, error: BadBody, body_bytes: int | None
) -> Recorded:
    """Record that a good link got a body that is no push."""
    size = None if body_bytes is None else min(body_bytes, MOST_BYTES_TOLD)
    delivery = NewDelivery(source=WEBHOOK, repository=repository, body_bytes=size)
    ruling = Ruling(Verdict.REFUSED, Reason(error.reason), str(error))
    recorded = await ledger.write(lambda tx: record(tx, delivery, ruling))
    metrics.count_delivery(WEBHOOK, ruling.verdict, ruling.reason)
    log.warning(
        "delivery_refused",
        delivery=recorded.delivery,
        repository=repository,
        reason=error.reason,
        sentence=str(error),
    )
    return recorded

"""Accepts pushes: applies the rules to a delivery and records it, before the response is sent.

Deliveries from webhooks, commands and catch-up are all recorded here.
"""

from collections.abc import Sequence

import msgspec

from receiver import metrics
from receiver.dockerhub.webhook import Push, start_of_body
from receiver.errors import BadBody
from receiver.ledger.deliveries import (
    COMMAND,
    NOT_RECEIVED,
    NewDelivery,
    Received,
    RecordedDelivery,
    record,
    record_all,
)
from receiver.ledger.ledger import Ledger
from receiver.ledger.outbox import enqueue
from receiver.ledger.transaction import Tx
from receiver.logs import get_logger, masking
from receiver.notifications.destinations import Notice, NotificationEvent
from receiver.reasons import Reason, Verdict
from receiver.rules.rule import Decision, Rule, rule_on
from receiver.secret import MASK

WEBHOOK = "webhook"
CATCH_UP = "catch-up"
TEST = "test"  # a test push: it does not show that Docker Hub's webhooks arrive
MAX_BYTES_RECORDED = 2**31 - 1  # senders can claim any length; PostgreSQL's integers end here

for _source in (WEBHOOK, COMMAND, CATCH_UP):  # so that the first increase is visible
    metrics.deliveries.labels(_source, Verdict.ACCEPTED.value, metrics.NONE)

ANSWERS = {Verdict.ACCEPTED: 202, Verdict.IGNORED: 200}  # of the response
SAMPLE_BYTES, SHOWN, MAX_AGENT, MAX_ADDRESS = 1024, 300, 120, 64
KEPT, MAX_HEADERS = 8192, 1024  # of a webhook while `[ledger] bodies` is set
KEPT_SAMPLE_BYTES = KEPT + SAMPLE_BYTES  # cut once what must not be kept is out of it

_Arrival = tuple[NewDelivery, Decision, Sequence[Notice]]

log = get_logger()


class Sender(msgspec.Struct, frozen=True):
    """The sender of a webhook: its address and agent, and the beginning of the body it sent.

    `headers`: the names of the headers, if these and the body are to be kept.
    """

    address: str
    agent: str
    token: str
    body_start: bytes = b""
    headers: Sequence[str] | None = None

    def received(self, status: int | None, *, accepted: bool = False) -> Received:
        """Return what the ledger keeps of it: the beginning of the body unless it was accepted."""
        start = body = headers = None
        if self.headers is not None:
            body = self._masked(start_of_body(self.body_start))[:KEPT]
            headers = self._masked(", ".join(self.headers))[:MAX_HEADERS]
        if not accepted and self.body_start:
            text = self._masked(start_of_body(self.body_start[:SAMPLE_BYTES]))
            start = f"{text[:SHOWN]}…" if len(text) > SHOWN else text
        agent = self.agent[:MAX_AGENT]
        if not agent.isprintable():
            agent = "".join(letter if letter.isprintable() else " " for letter in agent)
        return Received(self.address[:MAX_ADDRESS], agent, status, start, headers, body)

    def _masked(self, text: str) -> str:
        return masking(text).replace(self.token, MASK)


async def take(
    ledger: Ledger,
    rules: Sequence[Rule],
    push: Push,
    *,
    source: str,
    body_bytes: int | None = None,
    sender: Sender | None = None,
    notices: Sequence[Notice] = (),
    requested_by: str | None = None,
) -> RecordedDelivery:
    """Apply the rules to a push and record it; on return it is on disk. Raises LedgerError."""
    ruling = rule_on(push, rules)
    received = NOT_RECEIVED
    if sender is not None:
        accepted = ruling.verdict is Verdict.ACCEPTED
        received = sender.received(ANSWERS[ruling.verdict], accepted=accepted)
    delivery = NewDelivery.of(
        push, source, body_bytes=body_bytes, received=received, requested_by=requested_by
    )
    recorded = await ledger.write_batched(_record_all, (delivery, ruling, notices))
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


def _record_all(tx: Tx, arrivals: Sequence[_Arrival]) -> list[RecordedDelivery]:
    """Record a group of deliveries; notify of invalid version names, which park at once."""
    recorded = record_all(tx, [(delivery, ruling) for delivery, ruling, _ in arrivals])
    for one, (_, _, notices) in zip(recorded, arrivals, strict=True):
        notify_of_parked_at_once(tx, notices, one)
    return recorded


def notify_of_parked_at_once(tx: Tx, notices: Sequence[Notice], recorded: RecordedDelivery) -> None:
    """Notify of registrations that are parked before any attempt: invalid version names."""
    for match in recorded.ruling.matches:
        if match.invalid is not None:
            text = f"{match.app}/{match.version} parked: {match.invalid}"
            event, about = NotificationEvent.PARKED, recorded.delivery
            enqueue(tx, notices, event, text, rule=match.rule, about=about)


def count_delivery(source: str, ruling: Decision) -> None:
    """Count a recorded delivery, and its registrations that were parked at once."""
    metrics.count_delivery(source, ruling.verdict, ruling.reason)
    for match in ruling.matches:
        if match.invalid is not None:
            metrics.count_parked(Reason.VERSION_NAME_INVALID)


async def refuse(
    ledger: Ledger,
    repository: str,
    error: BadBody,
    body_bytes: int | None,
    received: Received = NOT_RECEIVED,
) -> RecordedDelivery:
    """Record a webhook with a valid link whose body is not a push."""
    size = None if body_bytes is None else min(body_bytes, MAX_BYTES_RECORDED)
    delivery = NewDelivery(
        source=WEBHOOK, repository=repository, body_bytes=size, received=received
    )
    ruling = Decision(Verdict.REFUSED, Reason(error.reason), str(error))
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

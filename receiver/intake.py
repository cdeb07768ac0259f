"""The first half of the story: a delivery is ruled on and recorded; then it is safe to answer.

Deliveries come from a webhook, a command, or a catch-up; all go this one way.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from receiver import metrics
from receiver.dockerhub.push import Push
from receiver.errors import BadBody
from receiver.ledger import stories
from receiver.ledger.gates import probe_now
from receiver.ledger.ledger import Ledger
from receiver.ledger.notices import tell
from receiver.ledger.recording import (
    REQUEUE,
    NewDelivery,
    Recorded,
    open_registrations,
    record,
    record_all,
    rule_again,
)
from receiver.ledger.transactions import Tx
from receiver.logs import get_logger
from receiver.notices import Happening, Notice
from receiver.reasons import REASONS, Outcome, Reason, State, Verdict
from receiver.rules import Mode, Rule, Ruling, names_target, rule_on

WEBHOOK = "webhook"
COMMAND = "command"
CATCH_UP = "catch-up"
MOST_BYTES_TOLD = 2**31 - 1  # a sender may tell any length; PostgreSQL takes no larger integer

for _source in (WEBHOOK, COMMAND, CATCH_UP):  # known from the start, so that its growth is seen
    metrics.deliveries.labels(_source, Verdict.ACCEPTED.value, metrics.NONE)

_Told = tuple[NewDelivery, Ruling, Sequence[Notice]]

log = get_logger()


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay made of one delivery."""

    delivery: str
    verdict: str
    reason: str | None
    sentence: str
    registrations: tuple[str, ...]


async def take(
    ledger: Ledger,
    rules: Sequence[Rule],
    push: Push,
    *,
    source: str,
    body_hash: str | None = None,
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
        body_hash=body_hash,
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


def replay(tx: Tx, rules: Sequence[Rule], delivery: str) -> Replayed | None:
    """Read the rules again for a delivery and set its registrations going from now.

    None when there is no such delivery; a refused one holds no push and stays refused.
    """
    row = stories.delivery_row(tx, delivery)
    if row is None:
        return None
    delivery = str(row["id"])
    if row["verdict"] == Verdict.REFUSED:
        return Replayed(delivery, row["verdict"], row["reason"], row["sentence"], ())
    ruling = rule_on(_push(row), rules)
    rule_again(tx, delivery, ruling)
    opened = open_registrations(
        tx,
        delivery,
        ruling.matches,
        repository=row["repository"],
        tag=row["tag"] or "",
        push_time=row["pushed_at"] or row["received_at"],
        by_person=True,
    )
    for match, identity in zip(ruling.matches, opened, strict=True):
        if match.invalid is None:
            tx.run(REQUEUE, id=identity, now=tx.now)
    if opened:
        _supersede_others(tx, delivery, opened)
    reason = ruling.reason and ruling.reason.value
    return Replayed(delivery, ruling.verdict.value, reason, ruling.sentence, opened)


def replay_many(tx: Tx, rules: Sequence[Rule], deliveries: Iterable[str]) -> list[Replayed]:
    """Replay each of these deliveries; those that do not exist are left out."""
    replayed = (replay(tx, rules, delivery) for delivery in deliveries)
    return [one for one in replayed if one is not None]


def replay_chosen(
    tx: Tx, rules: Sequence[Rule], ids: Iterable[str], *, parked: bool, since: int | None
) -> tuple[list[Replayed], list[str]]:
    """Replay these ids, all that are parked, all since then; with it the ids that do not exist."""
    probe_now(tx)  # a person set something right: the token, perhaps
    chosen = list(ids)
    if parked or since is not None:
        chosen += stories.deliveries_to_replay(tx, parked=parked, since=since)
    found = {identity: replay(tx, rules, identity) for identity in dict.fromkeys(chosen)}
    missing = [identity for identity, one in found.items() if one is None]
    return [one for one in found.values() if one is not None], missing


def read_rules_again(tx: Tx, rules: Sequence[Rule]) -> list[Replayed]:
    """At start and after a reload: queue once more what a change of the config may have mended.

    Replayed are the parked whose reason the config can mend, and the waiting whose rule now says
    otherwise.
    """
    named = {rule.name: rule for rule in rules}
    mendable = {reason.value for reason, explained in REASONS.items() if explained.by_config}
    chosen: dict[str, None] = {}
    for row in stories.open_registration_rows(tx):
        parked = row["state"] == State.PARKED
        if row["reason"] in mendable if parked else _says_otherwise(row, named):
            chosen[row["delivery_id"]] = None
    replayed = replay_many(tx, rules, chosen)
    for one in replayed:
        if not one.registrations:  # no rule takes it any more: the worker parks it, now
            for registration in stories.registrations_of(tx, [one.delivery]):
                tx.run(REQUEUE, id=registration["id"], now=tx.now)
    return replayed


def _says_otherwise(row: Mapping[str, Any], named: Mapping[str, Rule]) -> bool:
    rule = named.get(row["rule"])
    if rule is None or rule.repository != row["repository"]:
        return True
    return not names_target(rule, Mode(row["mode"]), row["tag"], row["app"], row["version"])


def _supersede_others(tx: Tx, delivery: str, kept: Sequence[str]) -> None:
    """End the delivery's open registrations that the rules no longer lead to."""
    for registration in stories.registrations_of(tx, [delivery]):
        if registration["id"] in kept or registration["state"] in {State.DONE, State.WORKING}:
            continue
        tx.run(
            "UPDATE registrations SET state = 'done', outcome = :outcome, reason = NULL,"
            " sentence = :sentence, finished_at = :now, updated_at = :now"
            " WHERE id = :id AND state NOT IN ('done', 'working')",
            id=registration["id"],
            outcome=Outcome.SUPERSEDED.value,
            sentence=f"The rules now lead this push elsewhere: see {', '.join(kept)}.",
            now=tx.now,
        )


def _push(row: Mapping[str, Any]) -> Push:
    return Push(row["repository"], row["tag"], row["media_type"], row["pusher"], row["pushed_at"])

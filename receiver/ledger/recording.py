"""Recording a delivery and the registrations it leads to, in the caller's transaction."""

from collections.abc import Sequence
from typing import Any

import msgspec

from receiver.ledger.ids import new_ids
from receiver.ledger.transactions import Tx
from receiver.reasons import Reason, State, Verdict
from receiver.rules import Match, Ruling

COMMAND = "command"  # the source of what a person asks for
MOST_AHEAD_MS = 10 * 60_000  # of a push's time: Docker Hub's clock may be a little ahead of ours
DELIVERY = "d"
REGISTRATION = "r"

_OPEN = """SELECT id, state FROM registrations
 WHERE app = :app AND version = :version AND repository = :repository AND tag = :tag
  AND state <> 'done' {lock}"""
_LATEST = """SELECT max(push_time) FROM (
 SELECT push_time FROM targets WHERE app = :app AND version = :version
 UNION ALL SELECT push_time FROM registrations
  WHERE app = :app AND version = :version AND state <> 'done') pushes"""
_LED = """SELECT d.id, d.pushed_at FROM led_to l JOIN deliveries d ON d.id = l.delivery_id
 WHERE l.registration_id = :id ORDER BY d.id"""
_DELIVERY_COLUMNS = (
    *("id", "received_at", "source", "repository", "tag", "media_type", "pusher", "pushed_at"),
    *("digest", "body_bytes", "verdict", "reason", "sentence"),
)
_REGISTRATION_COLUMNS = (
    *("id", "rule", "app", "version", "mode", "repository", "tag", "push_time"),
    *("state", "reason", "sentence", "due_at", "created_at", "updated_at"),
)
_LED_TO_COLUMNS = ("delivery_id", "registration_id")
_JOIN = """UPDATE registrations SET rule = :rule, mode = :mode, updated_at = :now,
  replayed = :by_person,
  push_time = CASE WHEN push_time < :push_time THEN :push_time ELSE push_time END,
  look_again = CASE WHEN state = 'working' THEN true ELSE look_again END
 WHERE id = :id"""
REQUEUE = """UPDATE registrations SET state = 'queued', reason = NULL, sentence = '',
  due_at = :now, updated_at = :now, crashes = 0, waiting_reason = NULL,
  waiting_since = 0, waiting_first = 0, waits = 0
 WHERE id = :id AND state IN ('parked', 'waiting', 'queued')"""


class NewDelivery(msgspec.Struct, frozen=True):
    """One telling of a push, before it is in the ledger. Times in epoch milliseconds.

    `repository` is the link's own when the body could not be read.
    """

    source: str
    repository: str
    tag: str | None = None
    media_type: str | None = None
    pusher: str | None = None
    pushed_at: int | None = None
    digest: str | None = None
    body_bytes: int | None = None


class Recorded(msgspec.Struct, frozen=True):
    """What stands in the ledger now: the delivery's id and its registrations'."""

    delivery: str
    ruling: Ruling
    registrations: tuple[str, ...] = ()


def record(
    tx: Tx, delivery: NewDelivery, ruling: Ruling, *, push_time: int | None = None
) -> Recorded:
    """Record a delivery with its verdict, and open or join the registrations it leads to.

    `push_time` (epoch ms) is what they count as pushed at, whatever the delivery tells.
    """
    return record_all(tx, [(delivery, ruling)], push_time=push_time)[0]


def record_all(
    tx: Tx, told: Sequence[tuple[NewDelivery, Ruling]], *, push_time: int | None = None
) -> list[Recorded]:
    """Record many at once: three statements, however many they are."""
    ids = new_ids(DELIVERY, tx.now, len(told))
    rows = [
        _delivery_row(identity, tx.now, delivery, ruling)
        for identity, (delivery, ruling) in zip(ids, told, strict=True)
    ]
    tx.insert("deliveries", _DELIVERY_COLUMNS, rows)
    wanted = [
        _Wanted(
            match,
            delivery.repository,
            delivery.tag or "",
            push_time_of(tx, delivery.pushed_at, match) if push_time is None else push_time,
            identity,
        )
        for identity, (delivery, ruling) in zip(ids, told, strict=True)
        for match in ruling.matches
    ]
    opened = iter(_open_all(tx, wanted))
    return [
        Recorded(identity, ruling, tuple(next(opened) for _ in ruling.matches))
        for identity, (_, ruling) in zip(ids, told, strict=True)
    ]


def rule_again(tx: Tx, delivery: str, ruling: Ruling) -> None:
    """Write what the rules make of a delivery now; a replay reads them again."""
    tx.run(
        "UPDATE deliveries SET verdict = :verdict, reason = :reason, sentence = :sentence"
        " WHERE id = :id AND verdict <> :refused",
        id=delivery,
        verdict=ruling.verdict.value,
        reason=ruling.reason and ruling.reason.value,
        sentence=ruling.sentence,
        refused=Verdict.REFUSED.value,
    )


def open_registrations(
    tx: Tx,
    delivery: str,
    matches: tuple[Match, ...],
    *,
    repository: str,
    tag: str,
    push_time: int,
    by_person: bool = False,
) -> tuple[str, ...]:
    """Open a registration for each match, or join the one already open for target and image.

    A `working` one is looked at once more, a `parked` one is queued again, a waiting one keeps
    its time: what Edgegap asked us to wait is not shortened by a second telling. `by_person`:
    a person looked at it and wants it tried again.
    """
    wanted = [_Wanted(match, repository, tag, push_time, delivery) for match in matches]
    return tuple(_open_all(tx, wanted, by_person=by_person))


def open_channels(
    tx: Tx, registration: str, matches: tuple[Match, ...], *, repository: str, tag: str
) -> tuple[str, ...]:
    """Open what moves channels, for the same deliveries as the registration they follow."""
    row = tx.run("SELECT push_time FROM registrations WHERE id = :id", id=registration).one()
    led = tx.run(_LED, id=registration).all()
    reported = max((one.pushed_at for one in led if one.pushed_at is not None), default=None)
    opened: list[str] = []
    for match in matches:
        push_time, latest = row.push_time, latest_push_time(tx, match)
        if reported != push_time and latest is not None and latest > tx.now + MOST_AHEAD_MS:
            push_time = push_time_by_own_clock(reported, tx.now, latest)
        wanted = [_Wanted(match, repository, tag, push_time, str(one.id)) for one in led]
        opened += [_open_all(tx, [one])[0] for one in wanted][-1:]
    return tuple(opened)


class _Wanted(msgspec.Struct, frozen=True):
    """A registration that a delivery leads to, before it is known whether one is open already."""

    match: Match
    repository: str
    tag: str
    push_time: int
    delivery: str

    @property
    def where(self) -> dict[str, str]:
        return {
            "app": self.match.app,
            "version": self.match.version,
            "repository": self.repository,
            "tag": self.tag,
        }


def _open_all(tx: Tx, wanted: Sequence[_Wanted], *, by_person: bool = False) -> list[str]:
    """Return the id of each one's registration: opened here, or open before and joined."""
    ids = new_ids(REGISTRATION, tx.now, len(wanted))
    rows = [_registration_row(*one, tx.now) for one in zip(ids, wanted, strict=True)]
    # In one order for all, so that replicas with the same pushes wait for, not on, each other.
    rows.sort(key=lambda row: row[2:7])
    if tx.insert("registrations", _REGISTRATION_COLUMNS, rows, unless_there=True) < len(wanted):
        of = dict(zip(ids, wanted, strict=True))
        found = {row[0]: _opened_or_joined(tx, row[0], of[row[0]], by_person) for row in rows}
        ids = [found[identity] for identity in ids]
    led_to = [(one.delivery, identity) for one, identity in zip(wanted, ids, strict=True)]
    tx.insert("led_to", _LED_TO_COLUMNS, led_to, unless_there=True)
    return ids


def _opened_or_joined(tx: Tx, identity: str, wanted: _Wanted, by_person: bool) -> str:
    """Return the id if it was inserted; else join the one that stands in its place."""
    # Locked, so that nobody else ends it between our look and our joining.
    look = _OPEN.format(lock="FOR NO KEY UPDATE" if tx.postgresql else "")
    found = tx.run(look, **wanted.where).first()
    while found is None:  # another replica ended it since
        row = _registration_row(identity, wanted, tx.now)
        tx.insert("registrations", _REGISTRATION_COLUMNS, [row], unless_there=True)
        found = tx.run(look, **wanted.where).first()
    if found.id == identity:
        return identity
    match = wanted.match
    tx.run(
        _JOIN,
        id=found.id,
        rule=match.rule,
        mode=match.mode.value,
        push_time=wanted.push_time,
        by_person=by_person,
        now=tx.now,
    )
    if found.state == State.PARKED and match.invalid is None:
        tx.run(REQUEUE, id=found.id, now=tx.now)
    return str(found.id)


def push_time_of(tx: Tx, reported: int | None, match: Match) -> int:
    """Return when an image counts as pushed for its target (epoch ms), as Docker Hub's time says.

    Without one, and where it lies in the future, our own clock decides; then it is never before
    what the target holds or waits for, for that clock may be behind.
    """
    if reported is not None and reported <= tx.now + MOST_AHEAD_MS:
        return reported
    return push_time_by_own_clock(reported, tx.now, latest_push_time(tx, match))


def latest_push_time(tx: Tx, match: Match) -> int | None:
    """Return the latest time of what the target holds or waits for (epoch ms), None for nothing."""
    latest: int | None = tx.run(_LATEST, app=match.app, version=match.version).scalar()
    return latest


def push_time_by_own_clock(reported: int | None, now: int, latest: int | None) -> int:
    """Return the time of a push that happens now: after the latest one of its target.

    If the latest is as far in the future as Docker Hub's time, our clock is behind, and an older
    push is known by Docker Hub's times. Else Docker Hub's time is wrong: it would keep every later
    push from the target. All in epoch milliseconds.
    """
    if latest is None:
        return now
    if reported is not None and now + MOST_AHEAD_MS < latest:
        return min(reported, latest + 1)
    return max(now, latest + 1)


def _delivery_row(
    identity: str, now: int, delivery: NewDelivery, ruling: Ruling
) -> tuple[object, ...]:
    """In the order of _DELIVERY_COLUMNS."""
    return (
        identity,
        now,
        delivery.source,
        delivery.repository,
        delivery.tag,
        delivery.media_type,
        delivery.pusher,
        delivery.pushed_at,
        delivery.digest,
        delivery.body_bytes,
        ruling.verdict.value,
        ruling.reason and ruling.reason.value,
        ruling.sentence,
    )


def _registration_row(identity: str, wanted: _Wanted, now: int) -> tuple[Any, ...]:
    """In the order of _REGISTRATION_COLUMNS."""
    match = wanted.match
    invalid = match.invalid is not None
    return (
        identity,
        match.rule,
        match.app,
        match.version,
        match.mode.value,
        wanted.repository,
        wanted.tag,
        wanted.push_time,
        (State.PARKED if invalid else State.QUEUED).value,
        Reason.VERSION_NAME_INVALID.value if invalid else None,
        match.invalid or "",
        now,
        now,
        now,
    )

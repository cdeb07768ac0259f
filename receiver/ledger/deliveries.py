"""Recording a delivery and the registrations it leads to, in the caller's transaction."""

from collections.abc import Sequence
from typing import Any, Self

import msgspec
from msgspec.structs import asdict, replace

from receiver.dockerhub.webhook import Push
from receiver.images import ImageReference
from receiver.ledger.approvals import wait_for_other_image
from receiver.ledger.targets import STRETCH, is_new_push
from receiver.ledger.transaction import Tx
from receiver.reasons import Reason, State, Verdict
from receiver.rules.rule import Decision, Match, Mode

COMMAND = "command"  # the source of what a person asks for
RESTORE = "restore"  # of what puts a channel back that has another image at Edgegap
MAX_AHEAD_MS = 10 * 60_000  # of a push's time: Docker Hub's clock may be a little ahead of ours
DELIVERY = "d"
REGISTRATION = "r"

_OPEN = """SELECT id, state, by_hand, digest, push_time FROM registrations
 WHERE app = :app AND version = :version AND repository = :repository AND tag = :tag
  AND mode = :mode AND state <> 'done' {lock}"""
# Of the targets, with the predicate of the index `targets_by_push_time`.
_LATEST = """SELECT max(push_time) FROM (
 SELECT max(push_time) AS push_time FROM targets WHERE app = :app AND push_time > 0
 UNION ALL SELECT push_time FROM registrations WHERE app = :app AND state <> 'done') pushes"""
# Repeats the predicate of the index `deliveries_ahead`, which is empty unless a clock was wrong.
_AHEAD = f"d.pushed_at > d.received_at + {MAX_AHEAD_MS}"
_ANY_AHEAD = f"SELECT 1 FROM deliveries d WHERE {_AHEAD} LIMIT 1"  # noqa: S608 - constant SQL
_COUNTED = f"""SELECT max(r.push_time) FROM deliveries d
  JOIN led_to l ON l.delivery_id = d.id JOIN registrations r ON r.id = l.registration_id
 WHERE d.repository = :repository AND d.tag = :tag AND d.pushed_at = :pushed_at AND {_AHEAD}
  AND r.app = :app AND r.version = :version"""  # noqa: S608 - constant SQL
_DELIVERY_COLUMNS = (
    *("id", "received_at", "source", "repository", "tag", "media_type", "pusher", "pushed_at"),
    *("digest", "body_bytes", "body_start", "address", "user_agent", "status"),
    "requested_by",
    *("verdict", "reason", "sentence"),
)
_REGISTRATION_COLUMNS = (
    *("id", "rule", "app", "version", "mode", "repository", "tag", "push_time"),
    *("by_hand", "to_try", "state", "reason", "sentence", "due_at", "created_at", "updated_at"),
)
_BODY_COLUMNS = ("id", "headers", "body")
_LED_TO_COLUMNS = ("delivery_id", "registration_id")
_LED_BY = """SELECT d.id, d.pushed_at, d.received_at, r.push_time FROM led_to l
  JOIN deliveries d ON d.id = l.delivery_id JOIN registrations r ON r.id = l.registration_id
 WHERE l.registration_id = :id ORDER BY d.id"""
# A deployment that runs is a trial of the digest that it was requested for.
_LEARNED = """UPDATE registrations SET digest = CASE
   WHEN EXISTS (SELECT 1 FROM trials t WHERE t.registration_id = registrations.id
    AND t.requested_at IS NOT NULL AND t.stopped_at IS NULL) THEN digest
   ELSE COALESCE(CAST(:digest AS TEXT), digest) END,
  overwritten = (:overwritten OR overwritten) WHERE id = :id"""
_ORDERED = """SELECT 1 FROM registrations r
  JOIN channels c ON c.app = r.app AND c.name = r.version AND c.ordered = r.id
 WHERE r.id = :id"""
_JOIN = """UPDATE registrations SET rule = :rule, updated_at = :now,
  replayed = :by_person, by_hand = :by_hand, to_try = (to_try OR :to_try),
  push_time = CASE WHEN push_time < :push_time THEN :push_time ELSE push_time END,
  look_again = CASE WHEN state = 'working' THEN true ELSE look_again END
 WHERE id = :id"""
_PUSHED_AT = f"""SELECT max(coalesce(pushed_at, received_at)) FROM (
 SELECT pushed_at, received_at FROM deliveries
  WHERE repository = :repository AND tag = :tag AND source <> :command
  ORDER BY id DESC LIMIT {STRETCH}) newest"""  # noqa: S608 - constant SQL
_NEWER = """SELECT 1 FROM targets t JOIN registrations r ON r.id = t.registration_id
  WHERE t.app = :app AND t.version <> :version AND t.mode = 'create' AND NOT t.by_hand
   AND r.rule = :rule AND t.push_time > :push_time AND t.push_time > 0
 UNION ALL SELECT 1 FROM registrations
  WHERE app = :app AND version <> :version AND mode = 'create' AND state <> 'done'
   AND NOT by_hand AND rule = :rule AND push_time > :push_time LIMIT 1"""
_REQUEUE = """UPDATE registrations SET state = 'queued', reason = NULL, sentence = '',
  due_at = :now, updated_at = :now, crashes = 0, waiting_reason = NULL,
  waiting_since = 0, waiting_first = 0, waits = 0
 WHERE id = :id AND state IN ('parked', 'waiting', 'queued')"""


_SUPERSEDE = """UPDATE registrations SET state = 'done', outcome = 'superseded', reason = NULL,
  sentence = :sentence, finished_at = :now, updated_at = :now
 WHERE id = :id AND state NOT IN ('done', 'working')"""


def requeue(tx: Tx, identity: str) -> None:
    """Try a registration again now, unless it is done or worked on."""
    tx.run(_REQUEUE, id=identity, now=tx.now)


def reassign_to_rule(tx: Tx, identity: str, rule: str) -> None:
    """Let another rule decide on a registration that is open; it waits for what it waited for."""
    named = {"id": identity, "rule": rule}
    tx.run("UPDATE registrations SET rule = :rule WHERE id = :id AND state <> 'done'", **named)


def set_to_try(tx: Tx, identity: str, *, to_try: bool) -> None:
    """Note whether the rule of an open registration tries its version."""
    named = {"id": identity, "to_try": to_try}
    tx.run("UPDATE registrations SET to_try = :to_try WHERE id = :id AND state <> 'done'", **named)


def supersede(tx: Tx, identity: str, sentence: str) -> None:
    """End a registration that nobody works on: something else takes its place."""
    tx.run(_SUPERSEDE, id=identity, sentence=sentence, now=tx.now)


class Reported(msgspec.Struct, frozen=True):
    """A push as it was reported: Docker Hub's time, None if unknown, and ours (epoch ms)."""

    repository: str
    tag: str
    pushed_at: int | None
    received_at: int


class Received(msgspec.Struct, frozen=True):
    """The request of a webhook: its sender, our answer, and the body's first characters.

    `headers` and `body`: the names of its headers and more of its body, if they are to be kept.
    """

    address: str
    user_agent: str
    status: int | None
    body_start: str | None = None
    headers: str | None = None
    body: str | None = None


NOT_RECEIVED = Received("", "", None)  # what no request reported


class NewDelivery(msgspec.Struct, frozen=True):
    """One report of a push, before it is in the ledger. Times in epoch milliseconds.

    `repository` is the link's own when the body could not be read. `requested_by` is the person who
    requested it, None if nobody did.
    """

    source: str
    repository: str
    tag: str | None = None
    media_type: str | None = None
    pusher: str | None = None
    pushed_at: int | None = None
    digest: str | None = None
    body_bytes: int | None = None
    received: Received = NOT_RECEIVED
    requested_by: str | None = None

    @classmethod
    def of(
        cls,
        push: Push,
        source: str,
        *,
        body_bytes: int | None = None,
        received: Received,
        requested_by: str | None = None,
    ) -> Self:
        """Return the report of a push."""
        return cls(
            source=source,
            **asdict(push),
            body_bytes=body_bytes,
            received=received,
            requested_by=requested_by,
        )


class RecordedDelivery(msgspec.Struct, frozen=True):
    """The recorded delivery: its id and the ids of its registrations."""

    delivery: str
    ruling: Decision
    registrations: tuple[str, ...] = ()


def record(
    tx: Tx, delivery: NewDelivery, ruling: Decision, *, push_time: int | None = None
) -> RecordedDelivery:
    """Record a delivery with its verdict, and open or join the registrations it leads to.

    `push_time` (epoch ms) overrides the push time in the delivery.
    """
    return record_all(tx, [(delivery, ruling)], push_time=push_time)[0]


def record_all(
    tx: Tx, ruled: Sequence[tuple[NewDelivery, Decision]], *, push_time: int | None = None
) -> list[RecordedDelivery]:
    """Record many at once: a statement for each table, however many they are."""
    ruled = [(_dated(tx, delivery), ruling) for delivery, ruling in ruled]
    ids = [tx.new_id(DELIVERY) for _ in ruled]
    rows = [
        _delivery_row(identity, tx.now, delivery, ruling)
        for identity, (delivery, ruling) in zip(ids, ruled, strict=True)
    ]
    tx.insert("deliveries", _DELIVERY_COLUMNS, rows)
    bodies = [
        (identity, one.received.headers or "", one.received.body)
        for identity, (one, _) in zip(ids, ruled, strict=True)
        if one.received.body is not None
    ]
    if bodies:
        tx.insert("bodies", _BODY_COLUMNS, bodies)
    # Only a clock that was ahead once can have recorded a push that is reported again.
    doubtful = push_time is None and tx.run(_ANY_AHEAD).first() is not None
    wanted = []
    for identity, (delivery, ruling) in zip(ids, ruled, strict=True):
        push = Reported(delivery.repository, delivery.tag or "", delivery.pushed_at, tx.now)
        for match in ruling.matches:
            counted = push_time
            if counted is None:
                counted = push_time_of(tx, match, push, doubtful=doubtful)
            by_hand = delivery.source == COMMAND and _is_by_hand(tx, match, push, counted)
            wanted.append(_Wanted(match, push.repository, push.tag, counted, identity, by_hand))
    opened = iter(_open_all(tx, wanted))
    return [
        RecordedDelivery(identity, ruling, tuple(next(opened) for _ in ruling.matches))
        for identity, (_, ruling) in zip(ids, ruled, strict=True)
    ]


def update_decision(tx: Tx, delivery: str, ruling: Decision) -> None:
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
    push: Reported,
    *,
    push_time: int | None = None,
    by_person: bool = False,
    asked_for: bool = False,
) -> tuple[str, ...]:
    """Open a registration for each match, or join the one already open for target and image.

    A `working` one is looked at once more, a `parked` one is queued again, a waiting one keeps its
    time: what Edgegap asked us to wait is not shortened by a second report. `push_time` is what it
    counts as pushed at, if that is known. `by_person`: a person wants it tried again. `asked_for`:
    a person wants this very push.
    """
    wanted = []
    for match in matches:
        counted = push_time_of(tx, match, push) if push_time is None else push_time
        stays = not asked_for and _stays_by_hand(tx, match)
        by_hand = stays or (asked_for and _is_by_hand(tx, match, push, counted))
        wanted.append(_Wanted(match, push.repository, push.tag, counted, delivery, by_hand))
    return tuple(_open_all(tx, wanted, by_person=by_person))


def open_following(
    tx: Tx,
    registration: str,
    matches: tuple[Match, ...],
    image: ImageReference,
    *,
    digest: str | None,
    overwritten: bool,
) -> tuple[str, ...]:
    """Open what moves channels or tries a version, for the deliveries of what it follows.

    `digest` and `overwritten` are what was learned of the tag when its own version was created. A
    move that a person requested stays one to the image that was shown.
    """
    opened: tuple[str, ...] = ()
    for delivery in tx.run(_LED_BY, id=registration).all():
        push = Reported(image.repository, image.tag, delivery.pushed_at, delivery.received_at)
        opened = open_registrations(
            tx, str(delivery.id), matches, push, push_time=delivery.push_time
        )
    for identity in opened:
        if tx.run(_ORDERED, id=identity).first() is not None:
            continue
        set_digest(tx, identity, digest, overwritten=overwritten)
    return opened


def set_digest(tx: Tx, identity: str, digest: str | None, *, overwritten: bool) -> None:
    """Write what is known of the tag of a registration that was just opened or joined."""
    seen = tx.run("SELECT digest, push_time FROM registrations WHERE id = :id", id=identity).one()
    tx.run(_LEARNED, id=identity, digest=digest, overwritten=overwritten)
    wait_for_other_image(tx, identity, digest=seen.digest, push_time=seen.push_time)


def forget_digest(tx: Tx, identity: str) -> None:
    """Let a registration move its channel to whatever digest the tag has."""
    tx.run("UPDATE registrations SET digest = NULL WHERE id = :id", id=identity)


class _Wanted(msgspec.Struct, frozen=True):
    """A registration that a delivery leads to, before it is known whether one is open already."""

    match: Match
    repository: str
    tag: str
    push_time: int
    delivery: str
    by_hand: bool = False

    @property
    def where(self) -> dict[str, str]:
        return {
            "app": self.match.app,
            "version": self.match.version,
            "repository": self.repository,
            "tag": self.tag,
            "mode": self.match.mode.value,
        }


def _open_all(tx: Tx, wanted: Sequence[_Wanted], *, by_person: bool = False) -> list[str]:
    """Return the id of each one's registration: opened here, or open before and joined."""
    ids = [tx.new_id(REGISTRATION) for _ in wanted]
    rows = [_registration_row(*one, tx.now) for one in zip(ids, wanted, strict=True)]
    # In a fixed order, so that replicas with the same pushes cannot deadlock.
    rows.sort(key=lambda row: row[2:7])
    if tx.insert("registrations", _REGISTRATION_COLUMNS, rows, unless_there=True) < len(wanted):
        of = dict(zip(ids, wanted, strict=True))
        found = {row[0]: _opened_or_joined(tx, row[0], of[row[0]], by_person) for row in rows}
        ids = [found[identity] for identity in ids]
    led_to = [(one.delivery, identity) for one, identity in zip(wanted, ids, strict=True)]
    tx.insert("led_to", _LED_TO_COLUMNS, led_to, unless_there=True)
    return ids


def _opened_or_joined(tx: Tx, identity: str, wanted: _Wanted, by_person: bool) -> str:
    """Return the id if it was inserted; else join the registration that is open already."""
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
        push_time=wanted.push_time,
        by_person=by_person,
        to_try=match.to_try,
        by_hand=wanted.by_hand or (found.by_hand and not is_new_push(tx, wanted.delivery)),
        now=tx.now,
    )
    if found.state == State.PARKED and match.invalid is None:
        requeue(tx, found.id)
    wait_for_other_image(tx, found.id, digest=found.digest, push_time=found.push_time)
    return str(found.id)


def push_time_of(tx: Tx, match: Match, push: Reported, *, doubtful: bool = True) -> int:
    """Return when an image counts as pushed for its target (epoch ms), as Docker Hub's time says.

    Without one, and if it is in the future, it counts as pushed right after the latest push that
    the app has or waits for: our own clock may be behind that push, or ahead of the next one, and
    versions of one app are compared with each other. Reported again, it keeps that time.
    `doubtful`: it may be such a push that is reported again.
    """
    pushed_at, now = push.pushed_at, push.received_at
    credible = pushed_at is not None and pushed_at <= now + MAX_AHEAD_MS
    if pushed_at is not None and (doubtful or not credible):
        named = {"repository": push.repository, "tag": push.tag, "pushed_at": pushed_at}
        counted = tx.run(_COUNTED, **named, app=match.app, version=match.version).scalar()
        if counted is not None:
            return int(counted)
    if pushed_at is not None and credible:
        return pushed_at
    return push_time_without_clock(pushed_at, now, tx.run(_LATEST, app=match.app).scalar())


def push_time_without_clock(reported: int | None, now: int, latest: int | None) -> int:
    """Return the time (epoch ms) of a push whose own time is unknown, or ahead of our clock.

    A time before the latest one is right, and our clock is behind. A time after it may be wrong,
    and would make every later push an older one: it counts as the next second.
    """
    if latest is None:
        return now
    return latest + 1 if reported is None else min(reported, (latest // 1000 + 1) * 1000)


def _dated(tx: Tx, delivery: NewDelivery) -> NewDelivery:
    """Return what a person asks for with the time of its tag's last push, if any was received."""
    if delivery.source != COMMAND or delivery.pushed_at is not None:
        return delivery
    named = {"repository": delivery.repository, "tag": delivery.tag}
    pushed_at = tx.run(_PUSHED_AT, **named, command=COMMAND).scalar()
    return replace(delivery, pushed_at=pushed_at)


def _is_by_hand(tx: Tx, match: Match, push: Reported, push_time: int) -> bool:
    """Return whether what a person asks for is older than the rule's newest push, or may be.

    Retention does not count such a version and does not delete it.
    """
    if match.mode is not Mode.CREATE:
        return False
    named = {"rule": match.rule, "app": match.app, "version": match.version}
    return push.pushed_at is None or bool(tx.run(_NEWER, **named, push_time=push_time).first())


def _stays_by_hand(tx: Tx, match: Match) -> bool:
    """Return whether its version is one that a person asked for; no new push came for it."""
    named = {"app": match.app, "version": match.version}
    found = tx.run("SELECT by_hand FROM targets WHERE app = :app AND version = :version", **named)
    return match.mode is Mode.CREATE and bool(found.scalar())


def _delivery_row(
    identity: str, now: int, delivery: NewDelivery, ruling: Decision
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
        delivery.received.body_start,
        delivery.received.address or None,
        delivery.received.user_agent or None,
        delivery.received.status,
        delivery.requested_by,
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
        wanted.by_hand,
        match.to_try,
        (State.PARKED if invalid else State.QUEUED).value,
        Reason.VERSION_NAME_INVALID.value if invalid else None,
        match.invalid or "",
        now,
        now,
        now,
    )

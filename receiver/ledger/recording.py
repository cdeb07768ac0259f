"""Recording a delivery and the registrations it leads to, in the caller's transaction."""

from dataclasses import dataclass

from receiver.ledger.ids import new_id
from receiver.ledger.transactions import Tx
from receiver.reasons import Reason, State, Verdict
from receiver.rules import Match, Ruling

DELIVERY = "d"
REGISTRATION = "r"

_DELIVERY = """INSERT INTO deliveries (id, received_at, source, repository, tag, media_type, pusher,
  pushed_at, digest, body_sha256, body_bytes, verdict, reason, sentence)
 VALUES (:id, :now, :source, :repository, :tag, :media_type, :pusher,
  :pushed_at, :digest, :body_hash, :body_bytes, :verdict, :reason, :sentence)"""
_OPEN = """SELECT id, state FROM registrations
 WHERE app = :app AND version = :version AND repository = :repository AND tag = :tag
  AND state <> 'done' {lock}"""
_REGISTRATION = """INSERT INTO registrations (id, rule, app, version, mode, repository, tag,
  push_time, state, reason, sentence, due_at, created_at, updated_at)
 VALUES (:id, :rule, :app, :version, :mode, :repository, :tag,
  :push_time, :state, :reason, :sentence, :now, :now, :now)
 ON CONFLICT DO NOTHING"""
_JOIN = """UPDATE registrations SET rule = :rule, mode = :mode, updated_at = :now,
  replayed = :by_person,
  push_time = CASE WHEN push_time < :push_time THEN :push_time ELSE push_time END,
  look_again = CASE WHEN state = 'working' THEN true ELSE look_again END
 WHERE id = :id"""
REQUEUE = """UPDATE registrations SET state = 'queued', reason = NULL, sentence = '',
  due_at = :now, updated_at = :now, crashes = 0, waiting_reason = NULL,
  waiting_since = 0, waiting_first = 0, waits = 0
 WHERE id = :id AND state IN ('parked', 'waiting', 'queued')"""
_LED_TO = """INSERT INTO led_to (delivery_id, registration_id) VALUES (:delivery, :registration)
 ON CONFLICT DO NOTHING"""


@dataclass(frozen=True, slots=True)
class NewDelivery:
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
    body_hash: str | None = None
    body_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """What stands in the ledger now: the delivery's id and its registrations'."""

    delivery: str
    ruling: Ruling
    registrations: tuple[str, ...] = ()


def record(tx: Tx, delivery: NewDelivery, ruling: Ruling) -> Recorded:
    """Record a delivery with its verdict, and open or join the registrations it leads to."""
    identity = new_id(DELIVERY, tx.now)
    tx.run(
        _DELIVERY,
        id=identity,
        now=tx.now,
        source=delivery.source,
        repository=delivery.repository,
        tag=delivery.tag,
        media_type=delivery.media_type,
        pusher=delivery.pusher,
        pushed_at=delivery.pushed_at,
        digest=delivery.digest,
        body_hash=delivery.body_hash,
        body_bytes=delivery.body_bytes,
        verdict=ruling.verdict.value,
        reason=ruling.reason and ruling.reason.value,
        sentence=ruling.sentence,
    )
    registrations = open_registrations(
        tx,
        identity,
        ruling.matches,
        repository=delivery.repository,
        tag=delivery.tag or "",
        push_time=delivery.pushed_at or tx.now,
    )
    return Recorded(identity, ruling, registrations)


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
    identities = []
    for match in matches:
        identity = _open_or_join(
            tx, match, repository=repository, tag=tag, push_time=push_time, by_person=by_person
        )
        tx.run(_LED_TO, delivery=delivery, registration=identity)
        identities.append(identity)
    return tuple(identities)


def open_channels(
    tx: Tx, registration: str, matches: tuple[Match, ...], *, repository: str, tag: str
) -> tuple[str, ...]:
    """Open what moves channels, for the same deliveries as the registration they follow."""
    row = tx.run("SELECT push_time FROM registrations WHERE id = :id", id=registration).one()
    led = tx.run(
        "SELECT delivery_id FROM led_to WHERE registration_id = :id ORDER BY delivery_id",
        id=registration,
    )
    opened: tuple[str, ...] = ()
    for delivery in [str(one.delivery_id) for one in led]:
        opened = open_registrations(
            tx, delivery, matches, repository=repository, tag=tag, push_time=row.push_time
        )
    return opened


def _open_or_join(
    tx: Tx, match: Match, *, repository: str, tag: str, push_time: int, by_person: bool
) -> str:
    where = {"app": match.app, "version": match.version, "repository": repository, "tag": tag}
    rule = {"rule": match.rule, "mode": match.mode.value, "push_time": push_time, "now": tx.now}
    # Locked, so that nobody else ends it between our look and our joining.
    look = _OPEN.format(lock="FOR UPDATE" if tx.postgresql else "")
    found = tx.run(look, **where).first()
    if found is None:
        identity = new_id(REGISTRATION, tx.now)
        inserted = tx.run(
            _REGISTRATION,
            id=identity,
            **where,
            **rule,
            state=State.QUEUED if match.invalid is None else State.PARKED,
            reason=None if match.invalid is None else Reason.VERSION_NAME_INVALID,
            sentence=match.invalid or "",
        )
        if inserted.rowcount:
            return identity
        found = tx.run(look, **where).one()  # another replica was quicker
    tx.run(_JOIN, id=found.id, by_person=by_person, **rule)
    if found.state == State.PARKED and match.invalid is None:
        tx.run(REQUEUE, id=found.id, now=tx.now)
    return str(found.id)

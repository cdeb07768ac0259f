"""Registrations taken up: claimed with a lease and a fence, with all that is known of them."""

from dataclasses import dataclass, field, replace
from operator import itemgetter

from receiver.channel_order import Holds, Pushed, Report
from receiver.edgegap.answers import Effect
from receiver.images import ImageReference
from receiver.ledger.channels import holds_of, known_report
from receiver.ledger.holding import digest_of_tag, held
from receiver.ledger.transactions import Tx
from receiver.reasons import Reason
from receiver.retry import Waited
from receiver.rules import Mode

LEASE_MS = 30_000
CRASHES_TO_ALONE = 5  # after this many in a row it is worked on with nothing beside it

# Not `IN ('queued', 'waiting')`: for that SQLite takes the index by state, and sorts the whole
# queue; in these words it walks the index of what is due, and stops at the last one it needs.
# A mode that this program does not know is a newer replica's, which an upgrade begins with.
# Of a channel's the newest push comes first: those before it then move nothing.
# The choice stands apart, so that PostgreSQL makes it once, whatever plan it takes.
_CLAIM = """WITH due AS MATERIALIZED (
  SELECT r.id FROM registrations r
   WHERE r.state NOT IN ('done', 'parked', 'working') AND r.due_at <= :now
    AND r.mode IN ('create', 'channel') {which}
    AND NOT EXISTS (SELECT 1 FROM pauses p WHERE p.repository IN (r.repository, '*'))
    AND NOT EXISTS (SELECT 1 FROM registrations w
      WHERE w.app = r.app AND w.version = r.version AND w.state = 'working')
    AND NOT EXISTS (SELECT 1 FROM deletions d
      WHERE d.app = r.app AND d.version = r.version AND d.ended_at IS NULL)
    AND NOT EXISTS (SELECT 1 FROM registrations o
      WHERE o.app = r.app AND o.version = r.version AND o.state <> 'done'
       AND o.state NOT IN ('done', 'parked', 'working')
       AND o.due_at <= :now
       AND CASE WHEN r.mode = 'channel' THEN (o.push_time, o.id) > (r.push_time, r.id)
        ELSE (o.due_at, o.id) < (r.due_at, r.id) END
       AND NOT EXISTS (SELECT 1 FROM pauses q WHERE q.repository IN (o.repository, '*')))
   ORDER BY r.due_at, r.id LIMIT :most {lock})
 UPDATE registrations SET state = 'working', lease_owner = :owner, lease_until = :until,
  attempts = attempts + 1, fence = fence + 1, look_again = false, updated_at = :now
 WHERE state NOT IN ('done', 'parked', 'working') AND id IN (SELECT id FROM due)
 RETURNING id, rule, app, version, mode, repository, tag, push_time, attempts, fence, crashes,
  waiting_reason, waiting_since, waiting_first, waits, created_at, digest, overwritten, replayed,
  by_hand"""
_NOT_ALONE = f"AND r.crashes < {CRASHES_TO_ALONE}"
# In the words of the index `registrations_alone`.
_ALONE = f"AND r.crashes >= {CRASHES_TO_ALONE}"
_WAITS_ALONE = f"""SELECT 1 FROM registrations r
 WHERE r.crashes >= {CRASHES_TO_ALONE} AND r.state NOT IN ('done', 'parked', 'working')
  AND r.due_at <= :now AND r.mode IN ('create', 'update', 'channel')
  AND NOT EXISTS (SELECT 1 FROM pauses p WHERE p.repository IN (r.repository, '*')) LIMIT 1"""  # noqa: S608 - a number
_WRITES = """SELECT method, effect FROM attempts
 WHERE registration_id = :id AND method IN ('POST', 'PATCH', 'DELETE')"""
_FIRST_REPORT = """SELECT min(d.received_at) FROM led_to l
  JOIN deliveries d ON d.id = l.delivery_id WHERE l.registration_id = :id"""
_NEXT_DUE = """SELECT r.due_at FROM registrations r
 WHERE r.state NOT IN ('done', 'parked', 'working')
  AND r.mode IN ('create', 'channel')
  AND NOT EXISTS (SELECT 1 FROM pauses p WHERE p.repository IN (r.repository, '*'))
 ORDER BY r.due_at, r.id LIMIT 1"""


@dataclass(frozen=True, slots=True)
class Claimed:
    """A registration in our hands, until the lease runs out or it is settled.

    `ours`: a POST of ours may have made the version; `moved`: a PATCH of ours may have moved it.
    `made_room`: a version was deleted for it once. `by_hand`: a person asked for it, and its push
    is not the newest. `alone`: its workers died so often that it is worked on with nothing beside
    it. Of a channel: `reported_at` is when the push was first reported (epoch ms), `holds` what the
    channel has by our own doing, `known` what was last reported to it of this tag.
    """

    id: str
    rule: str
    app: str
    version: str
    mode: Mode
    image: ImageReference
    push_time: int
    attempt: int
    fence: int
    waited: Waited
    created_at: int
    ours: bool = False
    moved: bool = False
    made_room: bool = False
    reported_at: int = 0
    holds: Holds = field(default_factory=Holds)
    known: Report | None = None
    overwritten: bool = False
    replayed: bool = False
    by_hand: bool = False
    alone: bool = False
    digest: str | None = None
    known_digest: str | None = None

    @property
    def pushed(self) -> Pushed:
        """The push, as the order of a channel sees it."""
        image = self.image
        return Pushed(
            image.repository, image.tag, self.push_time, self.id, self.reported_at, self.known
        )

    def forgives(self, digest: str | None) -> bool:
        """Return whether a person replayed it after it was parked for this very image."""
        return self.replayed and self.digest in {None, digest}


def claim(tx: Tx, *, owner: str, most: int, alone: bool = False) -> list[Claimed]:
    """Take up to `most` registrations that are due, one for each target; the oldest first.

    `alone`: of those that must be worked on alone, else of the others.
    """
    lock = "FOR UPDATE OF r SKIP LOCKED" if tx.postgresql else ""
    sql = _CLAIM.format(lock=lock, which=_ALONE if alone else _NOT_ALONE)
    rows = tx.run(sql, owner=owner, now=tx.now, until=tx.now + LEASE_MS, most=most)
    return [_claimed(tx, row) for row in sorted(rows.mappings().all(), key=itemgetter("id"))]


def waits_alone(tx: Tx) -> bool:
    """Return whether one that must be worked on alone is due."""
    return tx.run(_WAITS_ALONE, now=tx.now).first() is not None


def next_due(tx: Tx) -> int | None:
    """Return when the next registration is due (epoch ms), None when none is queued."""
    due: int | None = tx.run(_NEXT_DUE).scalar()
    return due


def _claimed(tx: Tx, row: object) -> Claimed:
    values = dict(row)  # type: ignore[call-overload]  # a RowMapping
    reason = values["waiting_reason"]
    claimed = Claimed(
        id=values["id"],
        rule=values["rule"],
        app=values["app"],
        version=values["version"],
        mode=Mode(values["mode"]),
        image=ImageReference(repository=values["repository"], tag=values["tag"]),
        push_time=values["push_time"],
        attempt=values["attempts"],
        fence=values["fence"],
        waited=Waited(
            reason and _known(reason),
            values["waiting_since"],
            values["waits"],
            values["waiting_first"],
        ),
        created_at=values["created_at"],
        overwritten=bool(values["overwritten"]),
        replayed=bool(values["replayed"]),
        by_hand=bool(values["by_hand"]),
        alone=values["crashes"] >= CRASHES_TO_ALONE,
        digest=values["digest"],
    )
    if claimed.attempt > 1:
        writes = [(row.method, row.effect) for row in tx.run(_WRITES, id=claimed.id)]
        made = {method for method, effect in writes if effect != Effect.NONE}
        claimed = replace(
            claimed,
            ours="POST" in made,
            moved="PATCH" in made,
            made_room=any(method == "DELETE" for method, _ in writes),
        )
    return with_what_is_known(tx, claimed)


def with_what_is_known(tx: Tx, claimed: Claimed) -> Claimed:
    """Return it with what the ledger knows of its target and of its tag there."""
    app, version, image = claimed.app, claimed.version, claimed.image
    if claimed.mode is Mode.CHANNEL:
        known = known_report(tx, app, version, image, registration=claimed.id)
        digest = None if known is None else known.digest
        holds = holds_of(tx, app, version)
        first: int | None = tx.run(_FIRST_REPORT, id=claimed.id).scalar()
        at = claimed.created_at if first is None else first
        return replace(claimed, reported_at=at, holds=holds, known=known, known_digest=digest)
    holding = held(tx, app, version)
    digest = digest_of_tag(
        tx, holding, registration=claimed.id, app=app, version=version, image=image
    )
    return replace(claimed, known_digest=digest)


def _known(reason: str) -> Reason:
    """Return the reason; one of a newer program, which an upgrade begins with, is as a fault."""
    return Reason(reason) if reason in set(Reason) else Reason.FAULT

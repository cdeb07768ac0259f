"""Deletions of old versions: each is recorded before Edgegap is asked, and locks its target.

While one is under way no registration of that target is claimed. If Edgegap's answer is missing it
stays so until the call can no longer take effect; then any replica checks what happened.
"""

import msgspec
from msgspec.structs import asdict

from receiver.ledger.targets import BY_REPORTS
from receiver.ledger.transaction import Tx
from receiver.ledger.views import EndedDeletion, HeldBack, read_view
from receiver.timestamps import Time

DELETION = "t"
BEING_DELETED = "The version is being deleted; then it is created again."
MAX_LISTED = 20
CALL_MS = 15_000  # how long we wait for the answer to a DELETE
EFFECT_MS = 30_000  # how long after that a DELETE may still take effect

# Claims are made under this lock, too: neither sees the target free while the other takes it.
_LOCK = "SELECT pg_advisory_xact_lock(hashtext('receiver claim'))"
_IN_USE = """SELECT 1 FROM registrations WHERE app = :app AND state <> 'done'
  AND (version = :version OR (repository = :repository AND tag = :tag))
 UNION ALL SELECT 1 FROM deletions WHERE app = :app AND version = :version AND ended_at IS NULL
 LIMIT 1"""
_INSERT = """INSERT INTO deletions (id, app, version, why, began_at, until_at, ended_at, deleted)
 VALUES (:id, :app, :version, :why, :now, :until, :ended, :deleted)"""
_END = """UPDATE deletions SET ended_at = :now, deleted = :deleted, why = :why
 WHERE id = :id AND (ended_at IS NULL OR (:deleted AND NOT deleted))
 RETURNING app, version, began_at"""
_DELETED = """UPDATE targets SET deleted_at = :now WHERE app = :app AND version = :version"""
_REQUEUE = """UPDATE registrations SET state = 'queued', outcome = NULL, reason = NULL,
  sentence = '', due_at = :now, updated_at = :now, finished_at = NULL
 WHERE id = (SELECT max(id) FROM registrations WHERE app = :app AND version = :version
   AND state = 'done' AND outcome IN ('created', 'updated', 'unchanged')
   AND finished_at >= :since)
  AND NOT EXISTS (SELECT 1 FROM registrations o
   WHERE o.app = registrations.app AND o.version = registrations.version
    AND o.repository = registrations.repository AND o.tag = registrations.tag
    AND o.mode = registrations.mode AND o.state <> 'done')
 RETURNING id"""
_NOT_THERE = """SELECT (SELECT d.why FROM deletions d WHERE d.app = t.app AND d.version = t.version
   AND d.deleted ORDER BY d.id DESC LIMIT 1) AS why
 FROM targets t WHERE t.app = :app AND t.version = :version AND t.deleted_at IS NOT NULL
  AND EXISTS (SELECT 1 FROM led_to l JOIN registrations r ON r.id = l.registration_id
   WHERE l.delivery_id = :delivery AND r.app = t.app AND r.version = t.version
    AND r.state = 'done' AND r.outcome IN ('created', 'updated', 'unchanged'))
  AND NOT EXISTS (SELECT 1 FROM registrations o
   WHERE o.app = t.app AND o.version = t.version AND o.state <> 'done')"""
# Opened by a report of the same tag after the deletion: not by a replay of one from before it, nor
# by a command. A report without a time may be of a new push.
_BEFORE = f"""SELECT (SELECT d.why FROM deletions d WHERE d.app = t.app AND d.version = t.version
   AND d.deleted ORDER BY d.id DESC LIMIT 1) AS why
 FROM registrations r JOIN targets t ON t.app = r.app AND t.version = r.version
  AND t.repository = r.repository AND t.tag = r.tag AND t.deleted_at < r.created_at
 WHERE r.id = :id AND r.mode = 'create'
  AND {BY_REPORTS}"""  # noqa: S608 - constant SQL
_LOOK_AGAIN = """UPDATE registrations SET look_again = true
 WHERE app = :app AND version = :version AND state = 'working'"""
# One whose time is too far ahead began while the clock was wrong.
_TAKE_OVERDUE = """UPDATE deletions SET until_at = :until
 WHERE ended_at IS NULL AND (until_at <= :now OR until_at > :farthest)
 RETURNING id, app, version, why"""
_NEXT_OVERDUE = """SELECT min(CASE WHEN until_at > :farthest THEN 0 ELSE until_at END)
 FROM deletions WHERE ended_at IS NULL"""
_UNDER_WAY = """SELECT began_at, until_at FROM deletions
 WHERE app = :app AND version = :version AND ended_at IS NULL"""
_LAST = """SELECT version, ended_at AS at, deleted, why FROM deletions
 WHERE app = :app AND ended_at IS NOT NULL ORDER BY id DESC LIMIT :most"""


class Deletion(msgspec.Struct, frozen=True):
    """A deletion that is under way."""

    id: str
    app: str
    version: str
    why: str


def is_in_use(tx: Tx, app: str, version: str, *, repository: str, tag: str) -> bool:
    """Return whether work of ours needs a version, and keep all claims out until the commit.

    That is a registration of this target or image that is not done (a parked one, too), or
    another deletion.
    """
    if tx.postgresql:
        tx.run(_LOCK)
    found = tx.run(_IN_USE, app=app, version=version, repository=repository, tag=tag)
    return found.first() is not None


def begin_deletion(tx: Tx, app: str, version: str, *, why: str) -> Deletion:
    """Record that a version is about to be deleted; from the commit on the target is locked."""
    deletion = Deletion(tx.new_id(DELETION), app, version, why)
    _insert(tx, deletion, until=tx.now + CALL_MS + EFFECT_MS)
    return deletion


def end_deletion(tx: Tx, deletion: Deletion, *, deleted: bool, why: str) -> list[str] | None:
    """Record how it ended; a confirmed deletion counts however late it is known.

    Returns None if that was recorded before, by another replica. Otherwise the registrations that
    succeeded while the deletion was under way: they are queued again, and so is a `working`
    registration once it ends. There are none unless this process was suspended until its lock on
    the target was given to another process.
    """
    row = tx.run(_END, id=deletion.id, deleted=deleted, why=why, now=tx.now).first()
    if row is None:
        return None
    if not deleted:
        return []
    target = {"app": row.app, "version": row.version}
    tx.run(_DELETED, **target, now=tx.now)
    tx.run(_LOOK_AGAIN, **target)
    return [str(one.id) for one in tx.run(_REQUEUE, **target, since=row.began_at, now=tx.now)]


def leave_open(tx: Tx, deletion: Deletion) -> None:
    """Keep the target locked until an unanswered DELETE can no longer take effect."""
    tx.run(
        "UPDATE deletions SET until_at = :until WHERE id = :id AND ended_at IS NULL",
        id=deletion.id,
        until=tx.now + EFFECT_MS,
    )


def note_deletion(tx: Tx, app: str, version: str, *, deleted: bool, why: str) -> None:
    """Record one that ended before a DELETE was sent: why the version stays, or is gone already."""
    deletion = Deletion(tx.new_id(DELETION), app, version, why)
    _insert(tx, deletion, until=tx.now, ended=tx.now, deleted=deleted)
    if deleted:
        tx.run(_DELETED, app=app, version=version, now=tx.now)


def deleted_since(tx: Tx, delivery: str, app: str, version: str) -> str | None:
    """Return why the version that a delivery led to was deleted, None if it was not."""
    row = tx.run(_NOT_THERE, delivery=delivery, app=app, version=version).first()
    return None if row is None else str(row.why or "")


def deleted_before(tx: Tx, registration: str) -> str | None:
    """Return why a registration's version was deleted before it was opened by a report.

    None if it was not deleted, or if a person asked for the registration. Whether the report is of
    a new push is not looked at.
    """
    row = tx.run(_BEFORE, id=registration).first()
    return None if row is None else str(row.why or "")


def take_overdue(tx: Tx) -> list[Deletion]:
    """Claim deletions without an answer whose result can be checked at Edgegap by now.

    No other replica claims them meanwhile.
    """
    until, farthest = tx.now + EFFECT_MS, tx.now + CALL_MS + EFFECT_MS
    rows = tx.run(_TAKE_OVERDUE, now=tx.now, until=until, farthest=farthest)
    return [Deletion(row.id, row.app, row.version, row.why) for row in rows]


def next_overdue(tx: Tx) -> int | None:
    """Return when the next one is to be looked at (epoch ms), None if none is under way."""
    due: int | None = tx.run(_NEXT_OVERDUE, farthest=tx.now + CALL_MS + EFFECT_MS).scalar()
    return due


def deletion_under_way(tx: Tx, app: str, version: str) -> HeldBack | None:
    """Return that a deletion locks this target, None if none does."""
    row = tx.run(_UNDER_WAY, app=app, version=version).first()
    if row is None:
        return None
    return HeldBack("deletion", BEING_DELETED, Time(row.began_at), Time(row.until_at))


def last_deletions(tx: Tx, app: str) -> list[EndedDeletion]:
    """Return the last tries to delete versions of an app, the newest first."""
    rows = tx.run(_LAST, app=app, most=MAX_LISTED).mappings()
    return [read_view(EndedDeletion, row, deleted=bool(row["deleted"])) for row in rows]


def _insert(
    tx: Tx, deletion: Deletion, *, until: int, ended: int | None = None, deleted: bool | None = None
) -> None:
    values = {"now": tx.now, "until": until, "ended": ended, "deleted": deleted}
    tx.run(_INSERT, **asdict(deletion), **values)

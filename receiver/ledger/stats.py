"""A summary of the ledger's state, for metrics and the overview, read from small indexes."""

from collections.abc import Collection
from dataclasses import dataclass

from receiver.ledger.gates import TOKEN, closed_gates
from receiver.ledger.transaction import Tx
from receiver.ledger.views import NewestVersion, read_view

_OPEN = """SELECT state, count(*) AS many FROM registrations
 WHERE state IN ('queued', 'waiting', 'working', 'parked') GROUP BY state"""
# What waits for a person may wait for days.
_OLDEST = """SELECT min(created_at) FROM registrations
 WHERE state IN ('queued', 'waiting', 'working')
  AND coalesce(waiting_reason, '') NOT IN ('needs_trial', 'needs_approval')"""
_LAST = """SELECT max(finished_at) FROM (SELECT finished_at FROM registrations
  WHERE state = 'done' AND outcome IN ('created', 'updated') ORDER BY id DESC LIMIT 100) newest"""
_WAITING = """SELECT waiting_reason, count(*) AS held, min(waiting_since) AS since,
  min(due_at) AS next_try FROM registrations WHERE state = 'waiting' GROUP BY waiting_reason"""
_NEWEST = """SELECT t.app, t.version, t.made_at AS created_at,
  (SELECT max(l.delivery_id) FROM led_to l WHERE l.registration_id = t.registration_id) AS delivery
 FROM targets t WHERE t.made_at IS NOT NULL AND t.mode = 'create' AND t.deleted_at IS NULL
 ORDER BY t.made_at DESC LIMIT 1"""
# Of the last registrations, found by their id.
_OVERWRITTEN = """SELECT DISTINCT rule, repository, tag
 FROM (SELECT rule, repository, tag, overwritten, created_at FROM registrations
   ORDER BY id DESC LIMIT :most) newest
 WHERE overwritten AND created_at >= :after"""
OVERWRITTEN_MS = 24 * 60 * 60 * 1000
SEARCHED = 500
_SIZE = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
_SIZE_SHARED = "SELECT pg_database_size(current_database())"
_HELD = "SELECT count(*) FROM registrations WHERE state IN ('queued', 'waiting')"
_HELD_OF = f"{_HELD} AND repository = :repository"


@dataclass(frozen=True, slots=True)
class Waiting:
    """Registrations that wait for one reason: how many, since when, and when the first is due."""

    reason: str | None
    held: int
    since: int
    next_try: int


def waiting_by_reason(tx: Tx) -> list[Waiting]:
    """Return what waits, by reason. Times in epoch milliseconds."""
    return [
        Waiting(row.waiting_reason, row.held, row.since, row.next_try) for row in tx.run(_WAITING)
    ]


def count_held(tx: Tx, repository: str | None = None) -> int:
    """Return how many registrations are queued or waiting, of one repository or of all."""
    held = tx.run(_HELD) if repository is None else tx.run(_HELD_OF, repository=repository)
    return int(held.scalar_one())


def count_open(tx: Tx) -> dict[str, int]:
    """Return how many registrations are open, by state."""
    return {row.state: row.many for row in tx.run(_OPEN)}


def newest_version(tx: Tx) -> NewestVersion | None:
    """Return the newest version that was created here and not deleted since; None without one."""
    row = tx.run(_NEWEST).mappings().first()
    return None if row is None else read_view(NewestVersion, row)


def count_overwritten(tx: Tx, expected: Collection[str]) -> int:
    """Return how many tags were overwritten in the last 24 hours; `expected`: rules left out."""
    rows = tx.run(_OVERWRITTEN, most=SEARCHED, after=tx.now - OVERWRITTEN_MS)
    return len({(row.repository, row.tag) for row in rows if row.rule not in expected})


def has_targets(tx: Tx) -> bool:
    """Return whether a push ever led to a version or a channel at Edgegap."""
    return tx.run("SELECT 1 FROM targets LIMIT 1").first() is not None


@dataclass(frozen=True, slots=True)
class Standing:
    """Open registrations by state, and times in epoch milliseconds."""

    open: dict[str, int]
    oldest_unfinished: int | None
    last_success: int | None
    token_refused: bool
    size: int  # bytes, without the write-ahead log
    now: int


def read_standing(tx: Tx) -> Standing:
    """Return a summary of the ledger's state."""
    return Standing(
        open=count_open(tx),
        oldest_unfinished=tx.run(_OLDEST).scalar(),
        last_success=tx.run(_LAST).scalar(),
        token_refused=any(gate.name == TOKEN for gate in closed_gates(tx)),
        size=int(tx.run(_SIZE_SHARED if tx.postgresql else _SIZE).scalar_one()),
        now=tx.now,
    )

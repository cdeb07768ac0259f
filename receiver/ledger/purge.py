"""Purging by age: a transaction looks at a few rows only, and blocks the writer for no longer.

Open work is kept, and a hundred thousand of it may be older than all that may be deleted: each
function returns how many rows it deleted, and what to pass to it as `after`, None at the end.

Targets are kept, and so is the registration that created or moved each of them last. The age of a
closed registration counts from when it was closed.
"""

import json

import msgspec

from receiver.ledger.deletions import DELETION
from receiver.ledger.deliveries import DELIVERY, MAX_AHEAD_MS, REGISTRATION
from receiver.ledger.ids import first_id, last_id
from receiver.ledger.transaction import Tx, read_note, write_note
from receiver.ledger.trials import TRIAL

MAX_STEP = 24 * 60 * 60 * 1000  # ms between two readings; purging reads it once an hour
CATCHES_UP = 4  # times as fast as time passes
WINDOW = 500  # rows that a transaction looks at
FREED_PAGES = 200
CLOCK = "purge_clock"  # in `meta`

_LAST = """SELECT {key} AS last FROM {table} WHERE {key} > :after AND {key} < :bound
 ORDER BY {key} LIMIT 1 OFFSET :most"""
_DELIVERIES = """DELETE FROM deliveries AS d
 WHERE d.id > :after AND d.id <= :last AND d.received_at < :before AND NOT EXISTS (
   SELECT 1 FROM led_to l JOIN registrations r ON r.id = l.registration_id
    WHERE l.delivery_id = d.id
     AND (r.state <> 'done' OR coalesce(r.dismissed_at, r.finished_at) >= :before))"""
_BODIES = """DELETE FROM bodies AS b WHERE b.id > :after AND b.id <= :last AND NOT EXISTS (
 SELECT 1 FROM deliveries d WHERE d.id = b.id AND d.received_at >= :before)"""
_REQUESTS = """DELETE FROM requests AS a WHERE a.at > :after AND a.at <= :last AND EXISTS (
 SELECT 1 FROM registrations r WHERE r.id = a.registration_id AND r.state || '' = 'done'
  AND coalesce(r.dismissed_at, r.finished_at, 0) < :before)"""
_DELETIONS = "DELETE FROM deletions WHERE id > :after AND id <= :last AND ended_at < :before"
# What a trial proved counts for its digest as long as a version has it, under whatever tag, and for
# rollbacks of channels.
_TRIALS = """DELETE FROM trials AS x WHERE x.id > :after AND x.id <= :last
  AND x.stopped_at < :before
  AND NOT EXISTS (SELECT 1 FROM registrations r WHERE r.id = x.registration_id)
  AND NOT EXISTS (SELECT 1 FROM targets t
   WHERE t.app = x.app AND t.version = x.version AND t.deleted_at IS NULL)
  AND NOT EXISTS (SELECT 1 FROM targets t WHERE t.app = x.app AND t.repository = x.repository
   AND t.digest = x.digest AND t.deleted_at IS NULL)
  AND NOT EXISTS (SELECT 1 FROM channel_moves m
   WHERE m.app = x.app AND m.repository = x.repository AND m.tag = x.tag)
  AND NOT EXISTS (SELECT 1 FROM channel_moves m
   WHERE m.app = x.app AND m.repository = x.repository AND m.digest = x.digest)"""
_OF_MOVE = """SELECT 1 FROM registrations r WHERE r.app = a.app AND r.version = a.channel
  AND r.repository = a.repository AND r.tag = a.tag AND r.mode = 'channel' AND"""
_APPROVALS = f"""DELETE FROM approvals AS a WHERE a.at < :before
 AND NOT EXISTS ({_OF_MOVE} r.state <> 'done')
 AND NOT EXISTS ({_OF_MOVE} r.state = 'done')"""  # noqa: S608 - constant SQL
_SENT_WINDOW = """SELECT app, version FROM sent_settings WHERE (app, version) > (:app, :version)
 ORDER BY app, version LIMIT :most"""
_SENT = """DELETE FROM sent_settings
 WHERE (app, version) > (:app, :version) AND (app, version) <= (:last_app, :last_version)
  AND EXISTS (SELECT 1 FROM targets t WHERE t.app = sent_settings.app
   AND t.version = sent_settings.version AND t.deleted_at < :before)"""
_REGISTRATIONS = """DELETE FROM registrations WHERE id > :after AND id <= :last AND state = 'done'
  AND NOT EXISTS (SELECT 1 FROM targets t WHERE t.registration_id = registrations.id)
  AND NOT EXISTS (SELECT 1 FROM led_to l WHERE l.registration_id = registrations.id)"""
_NEWEST = "SELECT received_at FROM deliveries ORDER BY id DESC LIMIT 1"


class PurgeClock(msgspec.Struct, frozen=True):
    """The last reading of the system clock, and the time that purging goes by (epoch ms)."""

    read_at: int
    trusted: int

    def read(self, now: int) -> "PurgeClock":
        """Return the clock after a reading of the system clock."""
        step = now - self.read_at
        ahead = CATCHES_UP * step if 0 <= step <= MAX_STEP else 0
        return PurgeClock(now, min(now, self.trusted + ahead))


def time_to_purge_by(tx: Tx) -> int:
    """Read the clock and return the time that purging goes by (epoch ms).

    The first reading is compared with the newest delivery.
    """
    kept = read_note(tx, CLOCK)
    if kept is None:
        newest = tx.run(_NEWEST).scalar()
        last = PurgeClock(*((tx.now, tx.now) if newest is None else (newest, newest)))
    else:
        last = PurgeClock(**json.loads(kept))
    clock = last.read(tx.now)
    value = json.dumps({"read_at": clock.read_at, "trusted": clock.trusted})
    write_note(tx, CLOCK, value)
    return clock.trusted


def purge_deliveries(tx: Tx, before: int, after: str = "") -> tuple[int, str | None]:
    """Delete the next deliveries that came before then (epoch ms)."""
    return _purge_window(tx, _DELIVERIES, (DELIVERY, "deliveries"), before, after)


def purge_bodies(tx: Tx, before: int, after: str = "") -> tuple[int, str | None]:
    """Delete the next bodies of deliveries that came before then (epoch ms)."""
    return _purge_window(tx, _BODIES, (DELIVERY, "bodies"), before, after)


def purge_requests(tx: Tx, before: int, after: int = 0) -> tuple[int, int | None]:
    """Delete the next requests sent before then (epoch ms)."""
    last = tx.run(
        _LAST.format(key="at", table="requests"), after=after, bound=before, most=WINDOW - 1
    ).scalar()
    end = before - 1 if last is None else int(last)
    return tx.run(_REQUESTS, before=before, after=after, last=end).rowcount, last


def purge_deletions(tx: Tx, before: int, after: str = "") -> tuple[int, str | None]:
    """Delete the next records of versions deleted before then (epoch ms)."""
    return _purge_window(tx, _DELETIONS, (DELETION, "deletions"), before, after)


def purge_trials(tx: Tx, before: int, after: str = "") -> tuple[int, str | None]:
    """Delete the next trials of deleted versions that ended before then (epoch ms)."""
    return _purge_window(tx, _TRIALS, (TRIAL, "trials"), before, after)


def purge_approvals(tx: Tx, before: int) -> int:
    """Delete the approvals given before then (epoch ms) whose moves are purged; return how many."""
    return tx.run(_APPROVALS, before=before).rowcount


def purge_sent_settings(
    tx: Tx, before: int, after: tuple[str, str] = ("", "")
) -> tuple[int, tuple[str, str] | None]:
    """Delete the next settings of versions that were deleted before then (epoch ms)."""
    app, version = after
    window = tx.run(_SENT_WINDOW, app=app, version=version, most=WINDOW).all()
    if not window:
        return 0, None
    last = str(window[-1].app), str(window[-1].version)
    ends = {"app": app, "version": version, "last_app": last[0], "last_version": last[1]}
    return tx.run(_SENT, **ends, before=before).rowcount, last


def purge_registrations(tx: Tx, before: int, after: str = "") -> tuple[int, str | None]:
    """Delete the next registrations from before then (epoch ms) that nothing refers to."""
    return _purge_window(tx, _REGISTRATIONS, (REGISTRATION, "registrations"), before, after)


def _purge_window(
    tx: Tx, delete: str, of: tuple[str, str], before: int, after: str
) -> tuple[int, str | None]:
    """Run the statement on the rows after that id; `of` is the prefix of their ids and a table."""
    prefix, table = of
    bound = _bound(tx, prefix, table, before)
    look = _LAST.format(key="id", table=table)
    last = tx.run(look, after=after, bound=bound, most=WINDOW - 1).scalar()
    end = bound if last is None else last
    return tx.run(delete, before=before, after=after, last=end).rowcount, last


def _bound(tx: Tx, prefix: str, table: str, before: int) -> str:
    """Return the id that ends the rows to look at: those recorded later are too young.

    After a clock that was ahead, ids do not say when their rows were recorded: then all are looked
    at. Each row's own time decides.
    """
    newest = tx.run(f"SELECT max(id) FROM {table}").scalar()  # noqa: S608 - constant SQL
    ahead = newest is not None and newest >= first_id(prefix, tx.now + MAX_AHEAD_MS)
    return last_id(prefix) if ahead else first_id(prefix, before)


def give_back_space(tx: Tx) -> None:
    """Give freed pages back to the file system, a few at a time (SQLite)."""
    if not tx.postgresql:
        free = int(tx.run("PRAGMA freelist_count").scalar_one())
        for _ in range(min(free, FREED_PAGES)):  # one at a time: of more the driver frees one
            tx.run("PRAGMA incremental_vacuum(1)")

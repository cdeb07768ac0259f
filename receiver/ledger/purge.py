"""Purging by age, in small batches: the writer is never blocked for long; open work is kept.

Targets are kept, and so is the registration that created or moved each of them last. The age of a
closed registration counts from when it was closed.
"""

import json

import msgspec

from receiver.ledger.deletions import DELETION
from receiver.ledger.deliveries import DELIVERY, MOST_AHEAD_MS, REGISTRATION
from receiver.ledger.ids import first_id, last_id
from receiver.ledger.transaction import Tx, read_note, write_note
from receiver.ledger.trials import TRIAL

LONGEST_STEP = 24 * 60 * 60 * 1000  # ms between two readings; purging reads it once an hour
CATCHES_UP = 4  # times as fast as time passes
BITE = 500
FREED_PAGES = 200
CLOCK = "purge_clock"  # in `meta`

_DELIVERIES = """DELETE FROM deliveries WHERE id IN (
 SELECT d.id FROM deliveries d WHERE d.id < :bound AND d.received_at < :before AND NOT EXISTS (
   SELECT 1 FROM led_to l JOIN registrations r ON r.id = l.registration_id
    WHERE l.delivery_id = d.id
     AND (r.state <> 'done' OR coalesce(r.dismissed_at, r.finished_at) >= :before))
  ORDER BY d.id LIMIT :most)"""
_REQUESTS = """DELETE FROM requests WHERE (registration_id, attempt, step) IN (
 SELECT a.registration_id, a.attempt, a.step FROM requests a CROSS JOIN registrations r
  WHERE r.id = a.registration_id AND a.at < :before AND r.state || '' = 'done'
   AND coalesce(r.dismissed_at, r.finished_at, 0) < :before ORDER BY a.at LIMIT :most)"""
_DELETIONS = """DELETE FROM deletions WHERE id IN (
 SELECT id FROM deletions WHERE id < :bound AND ended_at < :before ORDER BY id LIMIT :most)"""
# What a trial proved counts for its digest as long as a version has it, under whatever tag, and for
# rollbacks of channels.
_TRIALS = """DELETE FROM trials WHERE id IN (
 SELECT x.id FROM trials x WHERE x.id < :bound AND x.stopped_at < :before
  AND NOT EXISTS (SELECT 1 FROM registrations r WHERE r.id = x.registration_id)
  AND NOT EXISTS (SELECT 1 FROM targets t
   WHERE t.app = x.app AND t.version = x.version AND t.deleted_at IS NULL)
  AND NOT EXISTS (SELECT 1 FROM targets t WHERE t.app = x.app AND t.repository = x.repository
   AND t.digest = x.digest AND t.deleted_at IS NULL)
  AND NOT EXISTS (SELECT 1 FROM channel_moves m
   WHERE m.app = x.app AND m.repository = x.repository AND m.tag = x.tag)
  AND NOT EXISTS (SELECT 1 FROM channel_moves m
   WHERE m.app = x.app AND m.repository = x.repository AND m.digest = x.digest)
  ORDER BY x.id LIMIT :most)"""
_OF_MOVE = """SELECT 1 FROM registrations r WHERE r.app = a.app AND r.version = a.channel
  AND r.repository = a.repository AND r.tag = a.tag AND r.mode = 'channel' AND"""
_APPROVALS = f"""DELETE FROM approvals AS a WHERE a.at < :before
 AND NOT EXISTS ({_OF_MOVE} r.state <> 'done')
 AND NOT EXISTS ({_OF_MOVE} r.state = 'done')"""  # noqa: S608 - our words
_SENT_WINDOW = """SELECT app, version FROM sent_settings WHERE (app, version) > (:app, :version)
 ORDER BY app, version LIMIT :most"""
_SENT = """DELETE FROM sent_settings
 WHERE (app, version) > (:app, :version) AND (app, version) <= (:last_app, :last_version)
  AND EXISTS (SELECT 1 FROM targets t WHERE t.app = sent_settings.app
   AND t.version = sent_settings.version AND t.deleted_at < :before)"""
_WINDOW = """SELECT id FROM registrations WHERE id > :after AND id < :bound
 ORDER BY id LIMIT :most"""
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
        ahead = CATCHES_UP * step if 0 <= step <= LONGEST_STEP else 0
        return PurgeClock(now, min(now, self.trusted + ahead))


def time_to_purge_by(tx: Tx) -> int:
    """Read the clock and return the time that purging goes by (epoch ms).

    The first reading is held against the newest delivery.
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


def purge_deliveries(tx: Tx, before: int) -> int:
    """Delete a bite of the deliveries that came before then (epoch ms); return how many."""
    bound = _bound(tx, DELIVERY, "deliveries", before)
    return tx.run(_DELIVERIES, bound=bound, before=before, most=BITE).rowcount


def purge_requests(tx: Tx, before: int) -> int:
    """Delete a bite of the requests sent before then (epoch ms); return how many."""
    return tx.run(_REQUESTS, before=before, most=BITE).rowcount


def purge_deletions(tx: Tx, before: int) -> int:
    """Delete a bite of the records of versions deleted before then (epoch ms); return how many."""
    bound = _bound(tx, DELETION, "deletions", before)
    return tx.run(_DELETIONS, bound=bound, before=before, most=BITE).rowcount


def purge_trials(tx: Tx, before: int) -> int:
    """Delete a bite of the trials of deleted versions that ended before then (epoch ms)."""
    bound = _bound(tx, TRIAL, "trials", before)
    return tx.run(_TRIALS, bound=bound, before=before, most=BITE).rowcount


def purge_approvals(tx: Tx, before: int) -> int:
    """Delete the approvals given before then (epoch ms) whose moves are purged; return how many."""
    return tx.run(_APPROVALS, before=before).rowcount


def purge_sent_settings(
    tx: Tx, before: int, after: tuple[str, str] | None = None
) -> tuple[str, str] | None:
    """Delete the settings of versions that were deleted before then (epoch ms) among the next.

    `after` is an app and a version. Returns those to go on from, None at the end.
    """
    app, version = after or ("", "")
    window = tx.run(_SENT_WINDOW, app=app, version=version, most=BITE).all()
    if not window:
        return None
    last = str(window[-1].app), str(window[-1].version)
    ends = {"app": app, "version": version, "last_app": last[0], "last_version": last[1]}
    tx.run(_SENT, **ends, before=before)
    return last


def purge_registrations(tx: Tx, before: int, after: str | None = None) -> str | None:
    """Delete what may go among the next registrations after that id.

    Returns the id to go on from, None when all that are old enough have been looked at.
    """
    bound = _bound(tx, REGISTRATION, "registrations", before)
    window = [row.id for row in tx.run(_WINDOW, after=after or "", bound=bound, most=BITE)]
    if not window:
        return None
    tx.run(_REGISTRATIONS, after=after or "", last=window[-1])
    return str(window[-1])


def _bound(tx: Tx, prefix: str, table: str, before: int) -> str:
    """Return the id that ends the rows to look at: those recorded later are too young.

    After a clock that was ahead, ids do not say when their rows were recorded: then all are looked
    at. Each row's own time decides.
    """
    newest = tx.run(f"SELECT max(id) FROM {table}").scalar()  # noqa: S608 - our words
    ahead = newest is not None and newest >= first_id(prefix, tx.now + MOST_AHEAD_MS)
    return last_id(prefix) if ahead else first_id(prefix, before)


def give_back_space(tx: Tx) -> None:
    """Give freed pages back to the file system, a few at a time (SQLite)."""
    if not tx.postgresql:
        free = int(tx.run("PRAGMA freelist_count").scalar_one())
        for _ in range(min(free, FREED_PAGES)):  # one at a time: of more the driver frees one
            tx.run("PRAGMA incremental_vacuum(1)")

"""The ledger's clock, and what happens when it is set: everything scheduled keeps its wait.

The clock is the machine's, or PostgreSQL's own if replicas share a ledger. It may jump: a virtual
machine resumes with an old time, or NTP corrects a wrong time. Without a correction, work scheduled
a second ahead would wait for as long as the clock was ahead.
"""

import time

import msgspec

from receiver import backoff
from receiver.ledger.deliveries import MAX_AHEAD_MS
from receiver.ledger.transaction import Tx, read_note, write_note

MIN_STEP_MS = 5_000  # NTP slews what is less; slow reads look like it
SEEN_EVERY_MS = 5_000
SLOW_READ_SECONDS = 1.0
SEEN = "clock_seen"  # the latest time that any process of this ledger saw
SET = "clock_set"  # when replicas last corrected a step, by the clock as it is since then

_ONE_AT_A_TIME = "SELECT pg_advisory_xact_lock(hashtext('receiver clock'))"

# What was written from `since` on is of the clock as it is now. How long something has waited is
# never made longer: it would be given up too early if the clock had been ahead only lately.
_REGISTRATIONS = """UPDATE registrations SET due_at = due_at + :step,
  waiting_since = CASE WHEN waiting_since = 0 THEN 0
   WHEN waiting_since + :forward > :now THEN :now ELSE waiting_since + :forward END,
  waiting_first = CASE WHEN waiting_first = 0 THEN 0
   WHEN waiting_first + :forward > :now THEN :now ELSE waiting_first + :forward END,
  lease_until = lease_until + :step
 WHERE state IN ('queued', 'waiting', 'working') AND NOT (updated_at BETWEEN :since AND :now)"""
_GATES = """UPDATE gates SET until = until + :step, since = since + :step
 WHERE NOT (since BETWEEN :since AND :now)"""
_NOTICES = """UPDATE outbox SET due_at = due_at + :step,
  created_at = CASE WHEN created_at + :forward > :now THEN :now ELSE created_at + :forward END
 WHERE NOT (created_at BETWEEN :since AND :now)"""
_TRIALS = """UPDATE trials SET requested_at = requested_at + :step, ready_at = ready_at + :step,
  left_at = left_at + :step, unread_at = unread_at + :step, decided_at = decided_at + :step,
  stop_at = stop_at + :step
 WHERE stopped_at IS NULL AND NOT (requested_at BETWEEN :since AND :now)"""
# Written that long before it is due: see `expect_answer`.
_CHECKS = """UPDATE channels SET check_at = check_at + :step
 WHERE NOT (check_at - :call BETWEEN :since AND :now)"""
# These stay as they are if the clock moves forward: a machine that slept has not listed Docker Hub
# meanwhile.
_WHEN_BACK = (
    "UPDATE cursors SET ran_at = ran_at + :step WHERE ran_at > :now",
    "UPDATE replicas SET seen_at = :now WHERE seen_at > :now",
    "UPDATE pauses SET since = :now WHERE since > :now",
)
# Docker Hub's own times stay: a repeated report of an older push must not pass for a newer one. If
# one of them is ahead, it is the clock that is behind now, and what counts as pushed after it does.
_HUB_IS_AHEAD = """SELECT 1 FROM targets t JOIN led_to l ON l.registration_id = t.registration_id
  JOIN deliveries d ON d.id = l.delivery_id
 WHERE t.push_time > :ahead AND d.pushed_at = t.push_time LIMIT 1"""
_PUSH_TIMES = """UPDATE {table} SET push_time = push_time + :step
 WHERE push_time > :ahead {open} AND NOT EXISTS (
  SELECT 1 FROM led_to l JOIN deliveries d ON d.id = l.delivery_id
   WHERE l.registration_id = {table}.{id} AND d.pushed_at = {table}.push_time)"""


class Reading(msgspec.Struct, frozen=True):
    """The ledger's time (epoch ms) and this process's monotonic clock (s) at one moment.

    `slow`: the read itself took too long for the two to be compared.
    """

    now: int
    monotonic: float
    slow: bool = False


def read_clock(tx: Tx) -> Reading:
    """Read both clocks now."""
    before = time.monotonic()
    now = tx.clock()
    return Reading(now, before, time.monotonic() - before > SLOW_READ_SECONDS)


def keep_time(tx: Tx, last: Reading | None, reading: Reading, *, shared: bool) -> int:
    """Correct what is scheduled if the clock was set since the last reading; return the step (ms).

    A clock that is behind the latest time that was seen was set back, too: while no receiver ran.
    Whether it was set forward then cannot be known. Of replicas that see one step, one corrects it.
    """
    if reading.slow:
        return 0
    seen = _noted(tx, SEEN)
    elapsed = 0 if last is None else round((reading.monotonic - last.monotonic) * 1000)
    step = 0 if last is None else reading.now - last.now - elapsed
    if abs(step) < MIN_STEP_MS and seen is not None:
        step = min(step, reading.now - seen)
    if abs(step) < MIN_STEP_MS:
        if seen is None or reading.now - seen >= SEEN_EVERY_MS:
            _note(tx, SEEN, reading.now)
        return 0
    if shared:
        tx.run(_ONE_AT_A_TIME)
        if _corrected_by_another(tx, reading.now, elapsed):
            return 0
    shift(tx, step, now=reading.now, since=reading.now - elapsed)
    _note(tx, SEEN, reading.now)
    _note(tx, SET, reading.now)
    return step


def shift(tx: Tx, step: int, *, now: int, since: int) -> None:
    """Move what is scheduled by a step of the clock (ms); `now` is the new time.

    What was written from `since` on (epoch ms) is left: its times are right already.
    """
    times = {"step": step, "forward": max(0, step), "now": now, "since": since}
    times["call"] = backoff.MAX_CALL
    for statement in (_REGISTRATIONS, _GATES, _NOTICES, _TRIALS, _CHECKS):
        tx.run(statement, **times)
    if step > 0:
        return
    for statement in _WHEN_BACK:
        tx.run(statement, **times)
    ahead = now + MAX_AHEAD_MS
    if tx.run(_HUB_IS_AHEAD, ahead=ahead).first():
        return
    open_ones = "AND state IN ('queued', 'waiting', 'working')"
    for table, of, some in (
        ("targets", "registration_id", ""),
        ("registrations", "id", open_ones),
    ):
        tx.run(_PUSH_TIMES.format(table=table, id=of, open=some), step=step, ahead=ahead)


def _corrected_by_another(tx: Tx, now: int, elapsed: int) -> bool:
    corrected = _noted(tx, SET)
    if corrected is None:
        return False
    return now - elapsed - MIN_STEP_MS <= corrected <= now + MIN_STEP_MS


def _noted(tx: Tx, key: str) -> int | None:
    found = read_note(tx, key)
    return None if found is None else int(found)


def _note(tx: Tx, key: str, now: int) -> None:
    write_note(tx, key, str(now))

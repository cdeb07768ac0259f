"""Coming to an end: what is due is waited for, what waits by its schedule is replayed."""

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.crash.asking import asked
from tests.crash.parkings import Parkings, explained_reasons, parkings
from tests.crash.prunings import OPEN_DELETIONS
from tests.support.receiver_process import ReceiverProcess, until

MAX_END_SECONDS = 90.0
OPEN = "SELECT tag, state, reason FROM registrations WHERE state <> 'done'"
DUE = """SELECT 1 FROM registrations WHERE state IN ('queued', 'working')
  OR (state = 'waiting' AND due_at < unixepoch() * 1000) LIMIT 1"""
# The design's longest wait, 10 minutes, and not the program's own word for it; nothing here asks
# for a longer one.
TOO_LONG = """SELECT tag, coalesce(reason, '') FROM registrations
  WHERE state = 'waiting' AND due_at > unixepoch() * 1000 + 600000 ORDER BY tag"""
UNDER_WAY = "SELECT 1 FROM registrations WHERE state NOT IN ('done', 'parked') LIMIT 1"
TO_COMPARE = "SELECT 1 FROM channels WHERE check_at IS NOT NULL"
LEFT = """SELECT r.state, coalesce(r.reason, ''), max(l.delivery_id) FROM registrations r
  JOIN led_to l ON l.registration_id = r.id WHERE r.state IN ('waiting', 'parked') GROUP BY r.id"""


@dataclass(frozen=True, slots=True)
class End:
    """What was parked or waited before any was replayed, and how many were replayed."""

    parked: Parkings
    waiting: int
    waiting_too_long: tuple[tuple[str, str], ...]
    parked_and_replayed: int
    exit_code: int


def drained(receiver: ReceiverProcess, ledger: Path, *, kills: int) -> End:
    """Once nothing is due, replay as a person would; but of what is parked only what was to be.

    What else is parked stays so, and is reported as stuck.
    """
    until(_none(ledger, DUE), MAX_END_SECONDS)
    parked = parkings(ledger, receiver.log, kills)
    too_long = tuple((str(tag), str(reason)) for tag, reason in asked(ledger, TOO_LONG))
    left = asked(ledger, LEFT)
    waiting = [newest for state, _, newest in left if state == "waiting"]
    explained = explained_reasons(kills)
    to_go_on = [newest for state, why, newest in left if state == "parked" and why in explained]
    replaying = [*waiting, *to_go_on]
    exit_code = receiver.run("replay", *replaying).returncode if replaying else 0
    with suppress(AssertionError):  # the report says what is stuck
        until(_none(ledger, UNDER_WAY), MAX_END_SECONDS)
        until(_none(ledger, OPEN_DELETIONS), MAX_END_SECONDS)
    return End(parked, len(waiting), too_long, len(to_go_on), exit_code)


def channels_compared(receiver: ReceiverProcess, ledger: Path) -> None:
    """Let the time of every PATCH without an answer come, and what was carried out late be found.

    The receiver is stopped meanwhile: by its own clock it would take the longest time of a call.
    """
    receiver.kill()
    with closing(sqlite3.connect(ledger)) as writing, writing:
        writing.execute("UPDATE channels SET check_at = 1 WHERE check_at IS NOT NULL")
    receiver.start()
    until(_none(ledger, TO_COMPARE), MAX_END_SECONDS)
    until(_none(ledger, UNDER_WAY), MAX_END_SECONDS)


def _none(ledger: Path, sql: str) -> Callable[[], bool]:
    return lambda: not asked(ledger, sql)

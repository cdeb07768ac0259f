"""What the ledger counts: for metrics and the overview, read from small indexes; and for charts.

The days of the charts are UTC and are read by id, as ids sort by time: an index, not a table.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from receiver.ledger.deliveries import DELIVERY, REGISTRATION
from receiver.ledger.gates import TOKEN, closed_gates
from receiver.ledger.ids import first_id
from receiver.ledger.transaction import Tx
from receiver.ledger.views import NewestVersion, read_view
from receiver.reasons import State

DAY_MS = 24 * 60 * 60 * 1000
SEARCHED = 500  # of the last registrations
_OPEN = """SELECT state, count(*) AS many FROM registrations
 WHERE state IN ('queued', 'waiting', 'working', 'parked') GROUP BY state"""
# What waits for a person may wait for days.
# Registrations that wait for a trial or an approval are not backlog.
_GOES_ON = "coalesce(waiting_reason, '') NOT IN ('needs_trial', 'needs_approval')"
_OLDEST = f"""SELECT min(created_at) FROM registrations
 WHERE state IN ('queued', 'waiting', 'working') AND {_GOES_ON}"""  # noqa: S608 - constant SQL
_LAST = """SELECT max(at) FROM (
 SELECT max(made_at) AS at FROM targets
  WHERE made_at IS NOT NULL AND mode = 'create' AND deleted_at IS NULL
 UNION ALL SELECT at FROM (SELECT at FROM channel_moves ORDER BY id DESC LIMIT 1) moved) success"""
_WAITING = """SELECT waiting_reason, count(*) AS held, min(waiting_since) AS since,
  min(CASE WHEN state = 'waiting' THEN due_at END) AS next_try FROM registrations
 WHERE state IN ('waiting', 'working') AND waiting_reason IS NOT NULL GROUP BY waiting_reason"""
_NEWEST = """SELECT t.app, t.version, t.made_at AS created_at,
  (SELECT max(l.delivery_id) FROM led_to l WHERE l.registration_id = t.registration_id) AS delivery
 FROM targets t WHERE t.made_at IS NOT NULL AND t.mode = 'create' AND t.deleted_at IS NULL
 ORDER BY t.made_at DESC LIMIT 1"""
# Of the last registrations, found by their id.
_OVERWRITTEN = """SELECT DISTINCT rule, repository, tag
 FROM (SELECT rule, repository, tag, overwritten, created_at FROM registrations
   ORDER BY id DESC LIMIT :most) newest
 WHERE overwritten AND created_at >= :after"""
_SIZE = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
_SIZE_SHARED = "SELECT pg_database_size(current_database())"
_FOR_PERSON = """SELECT count(*) FROM registrations WHERE state IN ('parked', 'waiting')
 AND (state = 'parked' OR waiting_reason = 'needs_approval')"""
_HELD = f"""SELECT count(*) FROM registrations
 WHERE state IN ('queued', 'waiting') AND {_GOES_ON}"""  # noqa: S608 - constant SQL
_HELD_OF = f"{_HELD} AND repository = :repository"


class Waiting(msgspec.Struct, frozen=True):
    """Registrations that wait for one reason: how many, since when, and when the first is due.

    One that is tried again still waits until that has succeeded.
    """

    reason: str | None
    held: int
    since: int
    next_try: int | None  # None while all of them are tried again


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


def count_for_person(tx: Tx) -> int:
    """Return how many registrations need a person: they are parked, or wait for an approval."""
    return int(tx.run(_FOR_PERSON).scalar_one())


def newest_version(tx: Tx) -> NewestVersion | None:
    """Return the newest version that was created here and not deleted since; None without one."""
    row = tx.run(_NEWEST).mappings().first()
    return None if row is None else read_view(NewestVersion, row)


def count_overwritten(tx: Tx, expected: Collection[str]) -> int:
    """Return how many tags were overwritten in the last 24 hours; `expected`: rules left out."""
    rows = tx.run(_OVERWRITTEN, most=SEARCHED, after=tx.now - DAY_MS)
    return len({(row.repository, row.tag) for row in rows if row.rule not in expected})


def has_targets(tx: Tx) -> bool:
    """Return whether a push ever led to a version or a channel at Edgegap."""
    return tx.run("SELECT 1 FROM targets LIMIT 1").first() is not None


class LedgerStats(msgspec.Struct, frozen=True):
    """Open registrations by state, and times in epoch milliseconds."""

    open: dict[str, int]
    oldest_unfinished: int | None
    last_success: int | None
    token_refused: bool
    size: int  # bytes, without the write-ahead log
    now: int


def read_stats(tx: Tx) -> LedgerStats:
    """Return a summary of the ledger's state."""
    return LedgerStats(
        open=count_open(tx),
        oldest_unfinished=tx.run(_OLDEST).scalar(),
        last_success=tx.run(_LAST).scalar(),
        token_refused=any(gate.name == TOKEN for gate in closed_gates(tx)),
        size=int(tx.run(_SIZE_SHARED if tx.postgresql else _SIZE).scalar_one()),
        now=tx.now,
    )


DAYS = 30
TIMED = 50
URGENCY = (State.PARKED, State.WAITING, State.WORKING, State.QUEUED)

_ALL = "SELECT count(*) FROM deliveries WHERE id >= :first AND id < :last"
_VERDICT = """SELECT count(*) FROM deliveries WHERE verdict <> 'accepted' AND verdict = :verdict
 AND id >= :first AND id < :last"""
# SQLite reads the tables of a CROSS JOIN in this order: the index of overwritten tags first.
_OVERWRITTEN_ON = """SELECT count(DISTINCT l.delivery_id) FROM registrations r CROSS JOIN led_to l
 WHERE l.registration_id = r.id
  AND r.overwritten AND r.state || '' = 'done' AND r.id >= :first AND r.id < :last"""
_OPEN_SINCE = """SELECT l.delivery_id, r.state FROM registrations r
  JOIN led_to l ON l.registration_id = r.id
 WHERE r.state IN ('queued', 'waiting', 'working', 'parked') AND l.delivery_id >= :first"""
_TOOK = """SELECT r.app, r.version, r.finished_at - r.created_at AS took,
  (SELECT max(l.delivery_id) FROM led_to l WHERE l.registration_id = r.id) AS delivery
 FROM (SELECT id, app, version, mode, outcome, created_at, finished_at FROM registrations
   ORDER BY id DESC LIMIT :searched) r
 WHERE r.mode = 'create' AND r.outcome = 'created' AND r.finished_at IS NOT NULL
 ORDER BY r.id DESC LIMIT :most"""


class Settled(msgspec.Struct, frozen=True):
    """Counts of a day that no work changes any more: deliveries by verdict, overwritten tags."""

    all: int
    ignored: int
    refused: int
    overwritten: int


class Day(msgspec.Struct, frozen=True):
    """A day's deliveries; each counts once, as the list of deliveries shows it.

    `start` in epoch milliseconds. `done` is without those of an overwritten tag.
    """

    start: int
    done: int = 0
    overwritten: int = 0
    queued: int = 0
    waiting: int = 0
    parked: int = 0
    ignored: int = 0
    refused: int = 0


class PushDuration(msgspec.Struct, frozen=True):
    """How long one version took from push to version (ms), and its newest delivery."""

    app: str
    version: str
    milliseconds: int
    delivery: str | None


def last_days(now: int) -> list[int]:
    """Return the starts of the last days (epoch ms), the oldest first; the last is today."""
    today = now // DAY_MS * DAY_MS
    return [today - number * DAY_MS for number in range(DAYS - 1, -1, -1)]


def settled(tx: Tx, start: int) -> Settled:
    """Count the deliveries of a day."""
    first, last = (first_id(DELIVERY, at) for at in (start, start + DAY_MS))
    begun, ended = (first_id(REGISTRATION, at) for at in (start, start + DAY_MS))
    ignored, refused = (
        int(tx.run(_VERDICT, verdict=verdict, first=first, last=last).scalar_one())
        for verdict in ("ignored", "refused")
    )
    return Settled(
        int(tx.run(_ALL, first=first, last=last).scalar_one()),
        ignored,
        refused,
        int(tx.run(_OVERWRITTEN_ON, first=begun, last=ended).scalar_one()),
    )


def count_days(tx: Tx, known: Mapping[int, Settled]) -> dict[int, Settled]:
    """Count the last days by start, the oldest first; `known` are days that were counted before."""
    return {start: known.get(start) or settled(tx, start) for start in last_days(tx.now)}


def read_days(tx: Tx, counts: Mapping[int, Settled]) -> list[Day]:
    """Return the days that were counted, with the states of their open registrations."""
    bounds = [first_id(DELIVERY, start) for start in counts]
    unfinished = tx.run(_OPEN_SINCE, first=bounds[0])
    states = _open_by_day(bounds, ((row.delivery_id, row.state) for row in unfinished))
    return [
        _day(start, counted, some)
        for (start, counted), some in zip(counts.items(), states, strict=True)
    ]


def _open_by_day(bounds: Sequence[str], rows: Iterable[tuple[str, str]]) -> list[Counter[State]]:
    """Count the deliveries with open registrations by day, each by its most urgent state."""
    most: dict[str, int] = {}
    for delivery, state in rows:
        urgency = URGENCY.index(State(state))
        most[delivery] = min(most.get(delivery, urgency), urgency)
    days: list[Counter[State]] = [Counter() for _ in bounds]
    for delivery, urgency in most.items():
        days[bisect_right(bounds, delivery) - 1][URGENCY[urgency]] += 1
    return days


def _day(start: int, counted: Settled, states: Counter[State]) -> Day:
    accepted = max(0, counted.all - counted.ignored - counted.refused)
    done = max(0, accepted - states.total())
    overwritten = min(done, counted.overwritten)
    return Day(
        start=start,
        done=done - overwritten,
        overwritten=overwritten,
        queued=states[State.QUEUED] + states[State.WORKING],
        waiting=states[State.WAITING],
        parked=states[State.PARKED],
        ignored=counted.ignored,
        refused=counted.refused,
    )


def last_times(tx: Tx) -> list[PushDuration]:
    """Return how long the last versions took, the newest first."""
    rows = tx.run(_TOOK, searched=SEARCHED, most=TIMED)
    return [PushDuration(row.app, row.version, max(0, int(row.took)), row.delivery) for row in rows]

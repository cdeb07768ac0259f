"""Deliveries by day, and how long the last versions took: what the charts show.

Days are UTC and are read by id, as ids sort by time: an index, not a table.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from receiver.ledger.deliveries import DELIVERY, REGISTRATION
from receiver.ledger.ids import first_id
from receiver.ledger.transaction import Tx
from receiver.reasons import State

DAY_MS = 24 * 60 * 60 * 1000
DAYS = 30
SEARCHED, TIMED = 500, 50
URGENCY = (State.PARKED, State.WAITING, State.WORKING, State.QUEUED)

_ALL = "SELECT count(*) FROM deliveries WHERE id >= :first AND id < :last"
_VERDICT = """SELECT count(*) FROM deliveries WHERE verdict <> 'accepted' AND verdict = :verdict
 AND id >= :first AND id < :last"""
# SQLite reads the tables of a CROSS JOIN in this order: the index of overwritten tags first.
_OVERWRITTEN = """SELECT count(DISTINCT l.delivery_id) FROM registrations r CROSS JOIN led_to l
 WHERE l.registration_id = r.id
  AND r.overwritten AND r.state || '' = 'done' AND r.id >= :first AND r.id < :last"""
_OPEN = """SELECT l.delivery_id, r.state FROM registrations r
  JOIN led_to l ON l.registration_id = r.id
 WHERE r.state IN ('queued', 'waiting', 'working', 'parked') AND l.delivery_id >= :first"""
_TOOK = """SELECT r.app, r.version, r.finished_at - r.created_at AS took,
  (SELECT max(l.delivery_id) FROM led_to l WHERE l.registration_id = r.id) AS delivery
 FROM (SELECT id, app, version, mode, outcome, created_at, finished_at FROM registrations
   ORDER BY id DESC LIMIT :searched) r
 WHERE r.mode = 'create' AND r.outcome = 'created' AND r.finished_at IS NOT NULL
 ORDER BY r.id DESC LIMIT :most"""


@dataclass(frozen=True, slots=True)
class Settled:
    """Counts of a day that no work changes any more: deliveries by verdict, overwritten tags."""

    all: int
    ignored: int
    refused: int
    overwritten: int


@dataclass(frozen=True, slots=True)
class Day:
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


@dataclass(frozen=True, slots=True)
class Took:
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
        int(tx.run(_OVERWRITTEN, first=begun, last=ended).scalar_one()),
    )


def count_days(tx: Tx, known: Mapping[int, Settled]) -> dict[int, Settled]:
    """Count the last days by start, the oldest first; `known` are days that were counted before."""
    return {start: known.get(start) or settled(tx, start) for start in last_days(tx.now)}


def read_days(tx: Tx, counts: Mapping[int, Settled]) -> list[Day]:
    """Return the days that were counted, with the states of their open registrations."""
    bounds = [first_id(DELIVERY, start) for start in counts]
    unfinished = tx.run(_OPEN, first=bounds[0])
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


def last_times(tx: Tx) -> list[Took]:
    """Return how long the last versions took, the newest first."""
    rows = tx.run(_TOOK, searched=SEARCHED, most=TIMED)
    return [Took(row.app, row.version, max(0, int(row.took)), row.delivery) for row in rows]

"""The counts of the charts: each delivery once, by the state that the list of deliveries shows."""

import pytest

from receiver.ledger import ids
from receiver.ledger.deliveries import NewDelivery, record
from receiver.ledger.ledger import Ledger
from receiver.ledger.stats import (
    DAY_MS,
    Day,
    count_days,
    last_days,
    last_times,
    read_days,
)
from receiver.ledger.transaction import Tx
from receiver.reasons import Reason, Verdict
from receiver.rules.rule import Decision, Match, Mode
from tests.ledger.test_plans import Statement, listening, read_whole
from tests.support.ledger_work import at, write

NOTHING = Decision(Verdict.IGNORED, Reason.NO_RULE, "No rule matches.")
REFUSED = Decision(Verdict.REFUSED, Reason.BAD_JSON, "It is not JSON.")


@pytest.fixture(autouse=True)
def _new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids of a process never go back, and another test may have made some far ahead."""
    monkeypatch.setattr(ids, "_last", 0)


def pushed(tx: Tx, tag: str, *, channel: bool = False) -> str:
    """Record an accepted push to a version, and to a channel."""
    matches = [Match("main", "my-game", tag, Mode.CREATE)]
    matches += [Match("main", "my-game", "staging", Mode.CHANNEL)] if channel else []
    ruling = Decision(Verdict.ACCEPTED, None, "", tuple(matches))
    return record(tx, NewDelivery("webhook", "studio/game", tag), ruling).delivery


def ended(tx: Tx, version: str, state: str, *, overwritten: bool = False) -> int:
    return tx.run(
        "UPDATE registrations SET state = :state, overwritten = :overwritten,"
        " outcome = CASE WHEN :state = 'done' THEN 'created' END,"
        " finished_at = created_at + 1500 WHERE version = :version",
        state=state, version=version, overwritten=overwritten,
    ).rowcount  # fmt: skip


def days(ledger: Ledger) -> list[Day]:
    return ledger.read_sync(lambda tx: read_days(tx, count_days(tx, {})))


def test_each_delivery_counts_once_by_its_most_urgent_state(ledger: Ledger) -> None:
    for tag in ("1.0", "1.1", "1.2", "1.3"):
        write(ledger, lambda tx, tag=tag: pushed(tx, tag))  # type: ignore[misc]
    write(ledger, lambda tx: pushed(tx, "1.4", channel=True))
    for version, state in (("1.0", "done"), ("1.2", "waiting"), ("1.3", "parked"), ("1.4", "done")):
        write(ledger, lambda tx, v=version, s=state: ended(tx, v, s))  # type: ignore[misc]
    write(ledger, lambda tx: ended(tx, "1.1", "done", overwritten=True))
    write(ledger, lambda tx: record(tx, NewDelivery("webhook", "studio/game", "x"), NOTHING))
    write(ledger, lambda tx: record(tx, NewDelivery("webhook", "studio/game"), REFUSED))

    *earlier, today = days(ledger)

    assert today == Day(
        today.start, done=1, overwritten=1, queued=1, waiting=1, parked=1, ignored=1, refused=1
    )
    assert earlier == [Day(start) for start in last_days(today.start)[:-1]]


def test_a_delivery_counts_on_the_day_it_came(ledger: Ledger) -> None:
    write(ledger, lambda tx: pushed(tx, "1.0"))
    now = ledger.read_sync(lambda tx: tx.now)

    def tomorrow(tx: Tx) -> list[Day]:
        return read_days(tx, count_days(tx, {}))

    found = ledger.read_sync(at(now + DAY_MS, tomorrow))

    assert [day.queued for day in found[-2:]] == [1, 0]


def test_a_day_that_was_counted_before_is_not_counted_again(ledger: Ledger) -> None:
    write(ledger, lambda tx: pushed(tx, "1.0"))

    def look(tx: Tx) -> tuple[int, int]:
        assert tx.now  # PostgreSQL is asked for it
        with listening(tx.connection) as first:
            counts = count_days(tx, {})
        with listening(tx.connection) as second:
            count_days(tx, {start: counts[start] for start in list(counts)[:-1]})
        return len(first), len(second)

    first, second = ledger.read_sync(look)

    assert first == 30 * second


def test_the_times_are_of_versions_that_were_created_the_newest_first(ledger: Ledger) -> None:
    first = write(ledger, lambda tx: pushed(tx, "1.0"))
    second = write(ledger, lambda tx: pushed(tx, "1.1", channel=True))
    write(ledger, lambda tx: pushed(tx, "1.2"))
    for version in ("1.0", "1.1", "staging"):
        write(ledger, lambda tx, v=version: ended(tx, v, "done"))  # type: ignore[misc]

    found = ledger.read_sync(last_times)

    assert [(one.version, one.milliseconds, one.delivery) for one in found] == [
        ("1.1", 1500, second),
        ("1.0", 1500, first),
    ]


def test_the_days_are_read_by_index(ledger: Ledger) -> None:
    def look(tx: Tx) -> list[Statement]:
        assert tx.now
        with listening(tx.connection) as run:
            read_days(tx, count_days(tx, {}))
        return run

    assert read_whole(ledger, ledger.read_sync(look)) == []

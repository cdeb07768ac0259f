"""A wrong clock deletes no history: ahead or behind, for a moment or over restarts."""

import asyncio
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from receiver.config.settings import LiveSettings, Settings
from receiver.ledger import ids
from receiver.ledger.ledger import Ledger
from receiver.ledger.purge import CATCHES_UP, MAX_STEP, PurgeClock
from receiver.ledger.queries import Filter, list_deliveries
from receiver.ledger.transaction import Tx
from receiver.upkeep.purge import Purge
from tests.support.ledger_work import at, finish, pushed, write

HOUR = 3_600_000
DAY = 24 * HOUR
ERRORS = st.one_of(
    st.just(0),
    st.integers(MAX_STEP + HOUR, 1000 * DAY),
    st.integers(-1000 * DAY, -MAX_STEP - HOUR),
)


@given(st.lists(st.tuples(st.integers(1, HOUR), ERRORS), max_size=60))
def test_readings_that_are_wrong_for_a_moment_never_put_it_ahead(
    looks: list[tuple[int, int]],
) -> None:
    """Each wrong reading lies between right ones, or beside others that are wrong otherwise."""
    now = 1_000 * DAY
    clock = PurgeClock(now, now)
    before = 0
    for step, error in looks:
        now += step
        wrong = error if abs(error - before) > MAX_STEP + HOUR else 0
        clock = clock.read(now + wrong)
        before = wrong
        assert clock.trusted <= now


@given(st.integers(-500 * DAY, 500 * DAY), st.integers(0, 48))
@example(error=4 * HOUR + 1, hours=1)  # less than a day is believed at once
@example(error=MAX_STEP - HOUR, hours=1)
@example(error=MAX_STEP, hours=1)
def test_an_error_that_lasts_for_hours_costs_hours_and_not_all_of_history(
    error: int, hours: int
) -> None:
    now = 1_000 * DAY
    clock = PurgeClock(now, now)
    for _ in range(hours):
        now += HOUR
        clock = clock.read(now + error)

    most = CATCHES_UP * hours * HOUR if error >= MAX_STEP else MAX_STEP
    assert clock.trusted <= now + max(0, min(error, most))
    assert clock.read(now).trusted <= now


@given(st.integers(0, 400), st.integers(1, 24))
def test_it_catches_up_after_the_receiver_was_off(days_off: int, hours_a_run: int) -> None:
    now = 1_000 * DAY
    clock = PurgeClock(now, now)
    now += days_off * DAY
    for _ in range(days_off * 24 // (CATCHES_UP - 1) + 2):
        now += HOUR
        clock = clock.read(now)

    assert clock.trusted == now


@pytest.mark.parametrize("days", [100, 10_000])
def test_a_clock_that_is_ahead_for_a_moment_purges_nothing(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    """With +100 days at a restart all deliveries were gone at once."""
    monkeypatch.setattr(ids, "_last", 0)
    now = time.time_ns() // 1_000_000
    for number in range(6):
        write(ledger, at(now - number * DAY, lambda tx, n=number: pushed(tx, f"1.{n}")))  # type: ignore[misc]
    for _ in range(6):
        finish(ledger)

    gone = [purged_at(ledger, moment, monkeypatch) for moment in (now, now + days * DAY)]
    gone += [purged_at(ledger, now + days * DAY + 60_000, monkeypatch)]  # and restarted
    gone += [purged_at(ledger, now + 60_000, monkeypatch)]

    assert gone == [0, 0, 0, 0]
    assert len(ledger.read_sync(lambda tx: list_deliveries(tx, Filter()))) == 6


def test_so_it_does_at_the_first_purge_of_an_older_ledger(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ids, "_last", 0)
    now = time.time_ns() // 1_000_000
    write(ledger, at(now, lambda tx: pushed(tx, "1.0")))
    finish(ledger)

    assert purged_at(ledger, now + 100 * DAY, monkeypatch) == 0


def purged_at(ledger: Ledger, moment: int, monkeypatch: pytest.MonkeyPatch) -> int:
    with monkeypatch.context() as patch:
        patch.setattr(Tx, "now", property(lambda _: moment))
        return asyncio.run(Purge(ledger, LiveSettings(Settings())).run())

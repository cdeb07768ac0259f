"""The time that a push counts as of, while our own clock is wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.ledger.ledger import Ledger
from receiver.ledger.recording import (
    MOST_AHEAD_MS,
    NewDelivery,
    open_channels,
    push_time_by_own_clock,
    record,
)
from receiver.ledger.registrations import claim
from receiver.ledger.settlements import settle
from receiver.ledger.transactions import Tx
from receiver.reasons import Outcome, Verdict
from receiver.rules import Match, Mode, Ruling
from tests.at_work import MINUTE, OWNER, at, done, pushed, write
from tests.running import APP, REPOSITORY

HOUR = 60 * MINUTE
DAY = 24 * HOUR
NOW = 1_790_000_000_000


def moved(ledger: Ledger, tag: str, now: int) -> None:
    """Have the channel moved to what was pushed then."""
    write(ledger, at(now, lambda tx: channel_push(tx, tag, now)))
    (claimed,) = write(ledger, at(now, lambda tx: claim(tx, owner=OWNER, most=1)))
    assert write(ledger, at(now, lambda tx: settle(tx, claimed, OWNER, done(Outcome.UPDATED))))


def channel_push(tx: Tx, tag: str, pushed_at: int | None) -> str:
    reported = NewDelivery("webhook", REPOSITORY, tag, pushed_at=pushed_at)
    match = Match("rule", APP, "stable", Mode.CHANNEL)
    return record(tx, reported, Ruling(Verdict.ACCEPTED, matches=(match,))).registrations[0]


@pytest.mark.parametrize("reported", [True, False], ids=["Docker Hub's time", "no time"])
def test_a_later_push_is_not_superseded_while_the_clock_is_behind(
    ledger: Ledger, *, reported: bool
) -> None:
    moved(ledger, "one", NOW)
    behind, pushed_at = NOW + MINUTE - DAY, NOW + MINUTE if reported else None

    write(ledger, at(behind, lambda tx: channel_push(tx, "two", pushed_at)))

    (two,) = write(ledger, at(behind + 1, lambda tx: claim(tx, owner=OWNER, most=1)))
    assert (two.image.tag, two.superseded) == ("two", False)


def test_an_older_push_reported_again_while_the_clock_is_behind_is_superseded(
    ledger: Ledger,
) -> None:
    moved(ledger, "one", NOW)

    write(ledger, at(NOW - DAY, lambda tx: channel_push(tx, "older", NOW - HOUR)))

    (older,) = write(ledger, at(NOW - DAY + 1, lambda tx: claim(tx, owner=OWNER, most=1)))
    assert older.superseded


def test_a_channel_opened_for_a_version_follows_the_same_times(ledger: Ledger) -> None:
    moved(ledger, "one", NOW)
    behind = NOW + MINUTE - DAY
    write(ledger, at(behind, lambda tx: pushed(tx, "two", pushed_at=NOW + MINUTE)))
    (made,) = write(ledger, at(behind + 1, lambda tx: claim(tx, owner=OWNER, most=1)))
    assert made.push_time == behind  # what holds nothing yet goes by our clock

    match = Match("rule", APP, "stable", Mode.CHANNEL)
    opening = at(
        behind + 2,
        lambda tx: open_channels(tx, made.id, (match,), repository=REPOSITORY, tag="two"),
    )
    (opened,) = write(ledger, opening)

    (two,) = write(ledger, at(behind + 3, lambda tx: claim(tx, owner=OWNER, most=1)))
    assert (two.id, two.superseded) == (opened, False)


TIMES = st.integers(0, 3 * DAY)


@given(now=TIMES, latest=TIMES, after=st.integers(1, DAY))
def test_a_push_later_than_the_latest_by_docker_hub_is_later(
    now: int, latest: int, after: int
) -> None:
    reported = latest + after
    if reported > now + MOST_AHEAD_MS:
        assert push_time_by_own_clock(reported, now, latest) > latest


@given(now=TIMES, latest=TIMES | st.none())
def test_a_push_without_a_time_is_the_latest(now: int, latest: int | None) -> None:
    assert push_time_by_own_clock(None, now, latest) > (latest or -1)


@given(now=TIMES, latest=TIMES, far=st.integers(10**13, 2**62))
def test_a_time_far_ahead_keeps_no_later_push_away(now: int, latest: int, far: int) -> None:
    assert push_time_by_own_clock(far, now, latest) <= max(now, latest + 1)

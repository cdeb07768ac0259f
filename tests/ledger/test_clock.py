"""The ledger's clock is set, back or forward: what is scheduled waits as long as before."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.backoff import MAX_CALL, WaitState
from receiver.images import ImageReference
from receiver.ledger import gates
from receiver.ledger.claims import Claimed, claim
from receiver.ledger.clock import MIN_STEP_MS, SEEN_EVERY_MS, Reading, keep_time
from receiver.ledger.comparisons import expect_answer
from receiver.ledger.cursors import begin_cursors, move_cursor, read_cursors
from receiver.ledger.deliveries import (
    MAX_AHEAD_MS,
    NewDelivery,
    open_following,
    push_time_without_clock,
    record,
)
from receiver.ledger.ledger import Ledger
from receiver.ledger.outbox import enqueue, lease_due
from receiver.ledger.replicas import heartbeat
from receiver.ledger.results import Result, settle
from receiver.ledger.transaction import Tx
from receiver.notifications.destinations import Notice, NotificationEvent
from receiver.reasons import Outcome, Reason, State, Verdict
from receiver.rules.channel_order import Channel, why_not
from receiver.rules.rule import Decision, Match, Mode
from receiver.secret import Secret
from tests.support.ledger_work import MINUTE, OWNER, at, done, finish, pushed, write
from tests.support.receiver_process import APP, REPOSITORY

HOUR = 60 * MINUTE
DAY = 24 * HOUR
NOW = 1_790_000_000_000  # by the clock before it is set
LATER = 3_000  # ms between the two readings
STEPS = pytest.mark.parametrize("step", [-6 * HOUR, -MIN_STEP_MS, 6 * HOUR])
PLACE = Notice("a place", Secret("json://127.0.0.1:9"))


def kept(ledger: Ledger, last: Reading | None, reading: Reading) -> int:
    return write(ledger, lambda tx: keep_time(tx, last, reading, shared=tx.postgresql))


def after(step: int) -> tuple[Reading, Reading]:
    """A reading before the clock is set, and one a few seconds after."""
    return Reading(NOW, 100.0), Reading(NOW + LATER + step, 100.0 + LATER / 1000)


def waiting(ledger: Ledger, due_at: int, waited: WaitState) -> None:
    """Record a push, and have it wait from NOW on."""
    write(ledger, at(NOW, lambda tx: pushed(tx, "1.0")))
    (claimed,) = write(ledger, at(NOW, lambda tx: claim(tx, owner=OWNER, most=1)))
    waits = Result(State.WAITING, reason=Reason.IMAGE_NOT_READY, due_at=due_at, waited=waited)
    assert write(ledger, at(NOW, lambda tx: settle(tx, claimed, OWNER, waits)))


def columns(ledger: Ledger, table: str, *names: str) -> tuple[Any, ...]:
    return tuple(
        ledger.read_sync(lambda tx: tx.run(f"SELECT {', '.join(names)} FROM {table}").one())
    )


@STEPS
def test_a_registration_waits_as_long_as_it_would_have(ledger: Ledger, step: int) -> None:
    waited = WaitState(Reason.IMAGE_NOT_READY, since=NOW - MINUTE, times=2, first=NOW - 2 * MINUTE)
    waiting(ledger, NOW + MINUTE, waited)

    assert kept(ledger, *after(step)) == step

    due, *waits = columns(ledger, "registrations", "due_at", "waiting_since", "waiting_first")
    assert due == NOW + MINUTE + step
    now, forward = NOW + LATER + step, max(0, step)
    assert waits == [min(now, NOW - minutes * MINUTE + forward) for minutes in (1, 2)]


@STEPS
def test_gates_leases_and_notices_go_along(ledger: Ledger, step: int) -> None:
    write(ledger, at(NOW, lambda tx: pushed(tx, "1.0")))
    write(ledger, at(NOW, lambda tx: claim(tx, owner=OWNER, most=1)))
    write(ledger, at(NOW, lambda tx: gates.slow_down(tx, NOW + MINUTE, "busy")))
    write(ledger, at(NOW, lambda tx: enqueue(tx, [PLACE], NotificationEvent.PARKED, "x")))
    (lease,) = columns(ledger, "registrations", "lease_until")

    last, reading = after(step)
    kept(ledger, last, reading)

    assert columns(ledger, "registrations", "lease_until") == (lease + step,)
    assert columns(ledger, "gates", "until", "since") == (NOW + MINUTE + step, NOW + step)
    (due,) = write(ledger, at(reading.now, lease_due))
    assert due.text == "x"


@STEPS
def test_a_channel_is_compared_as_soon_as_it_would_have_been(ledger: Ledger, step: int) -> None:
    """A late PATCH had been left for as long as the clock had been ahead."""
    write(ledger, at(NOW, lambda tx: expect_answer(tx, APP, "staging", "a call")))
    last, reading = after(step)

    kept(ledger, last, reading)

    assert columns(ledger, "channels", "check_at") == (NOW + MAX_CALL + step,)
    write(ledger, at(reading.now - 1000, lambda tx: expect_answer(tx, APP, "dev", "a call")))
    kept(ledger, last, reading)
    by_the_new = reading.now - 1000 + MAX_CALL
    assert by_the_new in ledger.read_sync(
        lambda tx: tx.run("SELECT check_at FROM channels").scalars().all()
    )


def test_what_was_written_by_the_new_clock_already_is_left(ledger: Ledger) -> None:
    """It would count as having waited for hours, and be parked at its next attempt."""
    last, reading = after(-6 * HOUR)
    write(ledger, at(reading.now - 1000, lambda tx: pushed(tx, "1.0")))
    write(ledger, at(reading.now - 1000, lambda tx: gates.slow_down(tx, tx.now + MINUTE, "busy")))

    kept(ledger, last, reading)

    assert columns(ledger, "registrations", "due_at") == (reading.now - 1000,)
    assert columns(ledger, "gates", "until") == (reading.now - 1000 + MINUTE,)


@pytest.mark.parametrize("step", [0, 1 - MIN_STEP_MS, MIN_STEP_MS - 1])
def test_a_clock_that_is_slewed_is_left_alone(ledger: Ledger, step: int) -> None:
    waiting(ledger, NOW + MINUTE, WaitState())

    assert kept(ledger, *after(step)) == 0

    assert columns(ledger, "registrations", "due_at") == (NOW + MINUTE,)


def test_a_slow_read_is_not_counted_as_a_clock_step(ledger: Ledger) -> None:
    last, reading = after(-6 * HOUR)

    assert kept(ledger, last, Reading(reading.now, reading.monotonic, slow=True)) == 0


def test_a_clock_set_back_while_no_receiver_ran_is_noticed_at_the_start(ledger: Ledger) -> None:
    """It stopped all work for as long as it had been ahead; a restart did not help."""
    assert kept(ledger, None, Reading(NOW, 1.0)) == 0
    waiting(ledger, NOW + MINUTE, WaitState())
    write(ledger, at(NOW, lambda tx: gates.slow_down(tx, NOW + MINUTE, "busy")))

    assert kept(ledger, None, Reading(NOW - 30 * DAY, 7.0)) == -30 * DAY

    then = NOW - 30 * DAY + MINUTE + 1
    assert write(ledger, at(then, gates.closed_gates)) == []
    assert len(write(ledger, at(then, lambda tx: claim(tx, owner=OWNER, most=1)))) == 1
    assert kept(ledger, None, Reading(NOW - 30 * DAY + 10, 8.0)) == 0  # once


def test_a_start_after_a_long_time_is_no_step(ledger: Ledger) -> None:
    kept(ledger, None, Reading(NOW, 1.0))
    waiting(ledger, NOW + MINUTE, WaitState())

    assert kept(ledger, None, Reading(NOW + 30 * DAY, 7.0)) == 0

    assert columns(ledger, "registrations", "due_at") == (NOW + MINUTE,)


def test_the_latest_time_is_noted_every_few_seconds_and_never_goes_back(ledger: Ledger) -> None:
    first = Reading(NOW, 1.0)
    kept(ledger, None, first)
    for later in (SEEN_EVERY_MS - 1, SEEN_EVERY_MS, SEEN_EVERY_MS - 2000):
        kept(ledger, first, Reading(NOW + later, 1.0 + later / 1000))

    seen = "SELECT value FROM meta WHERE key = 'clock_seen'"
    assert ledger.read_sync(lambda tx: tx.run(seen).scalar()) == str(NOW + SEEN_EVERY_MS)


def test_of_replicas_that_see_one_step_one_corrects_it(
    replicas: tuple[Ledger, Ledger],
) -> None:
    one, other = replicas
    waiting(one, NOW + MINUTE, WaitState())
    last, reading = after(-6 * HOUR)
    kept(one, None, last)

    assert kept(one, last, reading) == -6 * HOUR
    assert kept(other, last, Reading(reading.now + 900, reading.monotonic + 0.9)) == 0
    assert columns(one, "registrations", "due_at") == (NOW + MINUTE - 6 * HOUR,)

    back = Reading(reading.now + 2000 + 6 * HOUR, reading.monotonic + 2)  # and put right again
    assert kept(other, Reading(reading.now + 900, reading.monotonic + 0.9), back) == 6 * HOUR
    assert columns(one, "registrations", "due_at") == (NOW + MINUTE,)


def test_nobody_who_left_counts_as_there_until_the_clock_comes_by_again(
    replicas: tuple[Ledger, Ledger],
) -> None:
    one, _ = replicas
    write(one, at(NOW, lambda tx: heartbeat(tx, "killed")))
    last, reading = after(-6 * HOUR)

    kept(one, last, reading)

    assert write(one, at(reading.now + MINUTE, lambda tx: heartbeat(tx, "alive"))) == 1


def test_catch_up_is_due_again_and_looks_back_no_farther(ledger: Ledger) -> None:
    write(ledger, at(NOW - HOUR, lambda tx: begin_cursors(tx, ["studio/lobby"])))
    write(ledger, at(NOW, lambda tx: move_cursor(tx, "studio/lobby", NOW)))
    last, reading = after(-6 * HOUR)

    kept(ledger, last, reading)

    (cursor,) = write(ledger, at(reading.now, read_cursors))
    assert (cursor.ran_at, cursor.since) == (NOW - 6 * HOUR, reading.now)


def held(ledger: Ledger, *, push_time: int, reported: int | None) -> None:
    """Have a channel hold what was pushed then, of which Docker Hub reported that time."""
    write(ledger, at(NOW, lambda tx: pushed(tx, "1.0", version="stable", pushed_at=reported)))
    finish(ledger)
    write(ledger, lambda tx: tx.run("UPDATE targets SET push_time = :t", t=push_time).rowcount)


@pytest.mark.parametrize("reported", [None, NOW + HOUR - 1000])
def test_a_push_time_of_the_clock_that_was_ahead_goes_back_with_it(
    ledger: Ledger, reported: int | None
) -> None:
    held(ledger, push_time=NOW + HOUR, reported=reported)

    kept(ledger, Reading(NOW + HOUR, 1.0), Reading(NOW + 1000, 2.0))

    assert columns(ledger, "targets", "push_time") == (NOW,)


def test_a_push_time_of_docker_hub_stays_though_the_clock_fell_behind(ledger: Ledger) -> None:
    """Else a repeated report of an older push would pass for a newer one."""
    held(ledger, push_time=NOW, reported=NOW)

    kept(ledger, Reading(NOW, 1.0), Reading(NOW - DAY, 2.0))

    assert columns(ledger, "targets", "push_time") == (NOW,)


def moved(ledger: Ledger, tag: str, now: int) -> None:
    """Have the channel moved to what was pushed then."""
    write(ledger, at(now, lambda tx: channel_push(tx, tag, now)))
    (claimed,) = write(ledger, at(now, lambda tx: claim(tx, owner=OWNER, most=1)))
    assert write(ledger, at(now, lambda tx: settle(tx, claimed, OWNER, done(Outcome.UPDATED))))


def superseded(claimed: Claimed) -> bool:
    return why_not(Channel(APP, "stable"), claimed.pushed, claimed.channel_state) is not None


def channel_push(tx: Tx, tag: str, pushed_at: int | None) -> str:
    reported = NewDelivery("webhook", REPOSITORY, tag, pushed_at=pushed_at)
    match = Match("rule", APP, "stable", Mode.CHANNEL)
    return record(tx, reported, Decision(Verdict.ACCEPTED, matches=(match,))).registrations[0]


@pytest.mark.parametrize("reported", [True, False], ids=["Docker Hub's time", "no time"])
def test_a_later_push_is_not_superseded_while_the_clock_is_behind(
    ledger: Ledger, *, reported: bool
) -> None:
    moved(ledger, "one", NOW)
    behind, pushed_at = NOW + MINUTE - DAY, NOW + MINUTE if reported else None

    write(ledger, at(behind, lambda tx: channel_push(tx, "two", pushed_at)))

    (two,) = write(ledger, at(behind + 1, lambda tx: claim(tx, owner=OWNER, most=1)))
    assert (two.image.tag, superseded(two)) == ("two", False)


def test_an_older_push_reported_again_while_the_clock_is_behind_is_superseded(
    ledger: Ledger,
) -> None:
    moved(ledger, "one", NOW)

    write(ledger, at(NOW - DAY, lambda tx: channel_push(tx, "older", NOW - HOUR)))

    (older,) = write(ledger, at(NOW - DAY + 1, lambda tx: claim(tx, owner=OWNER, most=1)))
    assert superseded(older)


def test_a_channel_opened_for_a_version_follows_the_same_times(ledger: Ledger) -> None:
    moved(ledger, "one", NOW)
    behind = NOW + MINUTE - DAY
    write(ledger, at(behind, lambda tx: pushed(tx, "two", pushed_at=NOW + MINUTE)))
    (made,) = write(ledger, at(behind + 1, lambda tx: claim(tx, owner=OWNER, most=1)))
    assert made.push_time > NOW  # later than all that the app has, whatever our clock says

    match = Match("rule", APP, "stable", Mode.CHANNEL)
    opening = at(
        behind + 2,
        lambda tx: open_following(
            tx,
            made.id,
            (match,),
            ImageReference(REPOSITORY, "two"),
            digest=None,
            overwritten=False,
        ),
    )
    (opened,) = write(ledger, opening)

    (two,) = write(ledger, at(behind + 3, lambda tx: claim(tx, owner=OWNER, most=1)))
    assert (two.id, superseded(two)) == (opened, False)


TIMES = st.integers(0, 3 * DAY)


@given(now=TIMES, latest=TIMES, after=st.integers(1, DAY))
def test_a_push_later_than_the_latest_by_docker_hub_is_later(
    now: int, latest: int, after: int
) -> None:
    reported = latest + after
    if reported > now + MAX_AHEAD_MS:
        assert push_time_without_clock(reported, now, latest) > latest


@given(now=TIMES, latest=TIMES | st.none())
def test_a_push_without_a_time_is_the_latest(now: int, latest: int | None) -> None:
    assert push_time_without_clock(None, now, latest) > (latest or -1)


@given(now=TIMES, latest=TIMES, far=st.integers(10**13, 2**62))
def test_a_time_far_ahead_keeps_no_later_push_away(now: int, latest: int, far: int) -> None:
    assert push_time_without_clock(far, now, latest) <= max(now, latest + 1000)

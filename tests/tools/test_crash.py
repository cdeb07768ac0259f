"""A short run of the crash test; `python -m tests.crash --minutes 5` is the long one."""

import sqlite3
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from tests.crash.asking import asked, ledger_of
from tests.crash.endings import drained
from tests.crash.parkings import CRASHES_THAT_PARK, Parkings, parkings
from tests.crash.process_faults import CLOCK_SET, DISK_FULL, NO_SMALL_DISK, run_with_faults
from tests.crash.reports import count_up
from tests.support.receiver_process import REPOSITORY, ReceiverProcess, until
from tests.support.storm import SentPushes


@pytest.mark.parametrize("set_clock", [False, True], ids=["pruning", "clock set"])
def test_nothing_is_lost_made_twice_or_stuck_whatever_is_done_to_it(*, set_clock: bool) -> None:
    report = run_with_faults(5, seed=1, set_clock=set_clock)

    print(report, file=sys.stderr)
    assert report.passed, str(report)
    counted = report.counts["202s"]
    races = report.counts["pushed again while they were to be deleted"]
    assert isinstance(counted, int)
    assert counted > 20, str(report)
    assert bool(report.had(CLOCK_SET)) is set_clock, str(report)
    assert bool(races) is not set_clock, str(report)
    moves = report.counts["moves of channels"]
    assert isinstance(moves, dict)
    if not report.had(DISK_FULL):
        pytest.skip(NO_SMALL_DISK)


def test_what_nothing_done_to_it_explains_stays_parked_and_is_named(
    tmp_path: Path, sandbox: EdgegapSandbox
) -> None:
    with serving(sandbox.app) as url:
        receiver = ReceiverProcess(tmp_path, url).start()
        sandbox.misbehave(Fault("status", method="POST", status=400, message="no"))
        wrong = receiver.push("wrong")
        assert receiver.ended(wrong)["state"] == "parked"

        ledger = ledger_of(tmp_path)
        end = drained(receiver, ledger, kills=CRASHES_THAT_PARK)
        receiver.stop()

    named = (f"docker.io/{REPOSITORY}:wrong (refused_by_edgegap)",)
    assert end.parked.unexplained == named
    assert end.parked.by_reason == {"refused_by_edgegap": 1}
    assert (end.waiting, end.parked_and_replayed) == (0, 0)
    report = count_up(
        ledger,
        SentPushes({wrong: "wrong"}),
        sandbox,
        Counter(),
        edgegap_faults=1,
        log=receiver.log,
        end=end,
    )
    assert not report.passed
    assert report.wrong["parked for what was not done to it"] == named
    assert report.wrong["registrations that are stuck"]


def test_work_in_progress_at_six_kills_is_replayed(tmp_path: Path, sandbox: EdgegapSandbox) -> None:
    sandbox.latency = 2.0
    with serving(sandbox.app) as url:
        receiver = ReceiverProcess(tmp_path, url).start()
        ledger = ledger_of(tmp_path)
        receiver.push()
        until(lambda: asked(ledger, "SELECT 1 FROM registrations WHERE state = 'working'"))
        receiver.kill()
        with closing(sqlite3.connect(ledger)) as writing, writing:
            writing.execute("UPDATE registrations SET crashes = ?", (CRASHES_THAT_PARK - 1,))
        receiver.start()
        sandbox.latency = 0.0

        until(lambda: parkings(ledger, receiver.log, CRASHES_THAT_PARK - 1).unexplained)
        end = drained(receiver, ledger, kills=CRASHES_THAT_PARK)
        receiver.stop()

    assert end.parked == Parkings(by_reason={"crashes_the_worker": 1}, unexplained=())
    assert end.parked_and_replayed == 1
    assert len(sandbox.versions) == 1


def test_what_waits_longer_than_any_may_is_named_and_so_is_what_was_parked_too_soon(
    tmp_path: Path, sandbox: EdgegapSandbox
) -> None:
    """To replay it all in the end hid that nothing would have gone on by itself."""
    with serving(sandbox.app) as url:
        receiver = ReceiverProcess(tmp_path, url).start()
        sandbox.misbehave(Fault("status", status=503, times=None))
        deliveries = [receiver.push("late"), receiver.push("soon")]
        until(
            lambda: (
                {one["state"] for d in deliveries for one in registrations(receiver, d)}
                == {"waiting"}
            )
        )
        receiver.kill()
        ledger = ledger_of(tmp_path)
        with closing(sqlite3.connect(ledger)) as writing, writing:
            writing.execute(
                "UPDATE registrations SET due_at = due_at + 20 * 3600000 WHERE tag = 'late'"
            )
            writing.execute(
                "UPDATE registrations SET state = 'parked', reason = 'crashes_the_worker',"
                " crashes = 1 WHERE tag = 'soon'"
            )
        sandbox.behave()
        receiver.start()

        end = drained(receiver, ledger, kills=CRASHES_THAT_PARK)
        receiver.stop()

    assert end.waiting_too_long == (("late", "edgegap_error"),)
    assert end.parked.unexplained == (f"docker.io/{REPOSITORY}:soon (crashes_the_worker, after 1)",)


def registrations(receiver: ReceiverProcess, delivery: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = receiver.details(delivery)["registrations"]
    return found

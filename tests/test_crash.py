"""A short run of the crash test; `python -m tests.crash --minutes 5` is the long one."""

import sqlite3
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from receiver.ledger.leases import MOST_CRASHES
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.faults import Fault
from receiver.sandbox.serving import serving
from tests.crash.asking import asked, ledger_of
from tests.crash.endings import brought_to_an_end
from tests.crash.parkings import Parkings, parkings
from tests.crash.reports import count_up
from tests.crash.torments import DISK_FULL, NO_SMALL_DISK, torment
from tests.running import REPOSITORY, ReceiverProcess, until
from tests.storm import Told


def test_nothing_is_lost_made_twice_or_stuck_whatever_is_done_to_it() -> None:
    report = torment(5, seed=1)

    print(report, file=sys.stderr)
    assert report.sound, str(report)
    counted = report.counts["202s"]
    assert isinstance(counted, int)
    assert counted > 20, str(report)
    if not report.did(DISK_FULL):
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
        end = brought_to_an_end(receiver, ledger, kills=MOST_CRASHES)
        receiver.stop()

    named = (f"docker.io/{REPOSITORY}:wrong (refused_by_edgegap)",)
    assert end.parked.unexplained == named
    assert end.parked.by_reason == {"refused_by_edgegap": 1}
    assert (end.waiting, end.parked_and_replayed) == (0, 0)
    report = count_up(
        ledger, Told({wrong: "wrong"}), sandbox, Counter(), faults=1, log=receiver.log, end=end
    )
    assert not report.sound
    assert report.wrong["parked for what was not done to it"] == named
    assert report.wrong["registrations that are stuck"]


def test_what_was_in_hand_at_five_kills_is_replayed(
    tmp_path: Path, sandbox: EdgegapSandbox
) -> None:
    sandbox.latency = 2.0
    with serving(sandbox.app) as url:
        receiver = ReceiverProcess(tmp_path, url).start()
        ledger = ledger_of(tmp_path)
        receiver.push()
        until(lambda: asked(ledger, "SELECT 1 FROM registrations WHERE state = 'working'"))
        receiver.kill()
        with closing(sqlite3.connect(ledger)) as writing, writing:
            writing.execute("UPDATE registrations SET crashes = ?", (MOST_CRASHES - 1,))
        receiver.start()
        sandbox.latency = 0.0

        until(lambda: parkings(ledger, receiver.log, MOST_CRASHES - 1).unexplained)
        end = brought_to_an_end(receiver, ledger, kills=MOST_CRASHES)
        receiver.stop()

    assert end.parked == Parkings(by_reason={"crashes_the_worker": 1}, unexplained=())
    assert end.parked_and_replayed == 1
    assert len(sandbox.versions) == 1

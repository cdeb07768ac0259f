"""A short run of the crash test; `python -m tests.crash --minutes 5` is the long one."""

import sys

import pytest

from tests.crash.torments import DISK_FULL, NO_SMALL_DISK, torment


def test_nothing_is_lost_made_twice_or_stuck_whatever_is_done_to_it() -> None:
    report = torment(5, seed=1)

    print(report, file=sys.stderr)
    assert report.sound, str(report)
    counted = report.counts["202s"]
    assert isinstance(counted, int)
    assert counted > 20, str(report)
    if not report.did(DISK_FULL):
        pytest.skip(NO_SMALL_DISK)

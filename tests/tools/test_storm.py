"""A short storm; `python -m tests.storm` is the long one."""

import sys

import pytest
from sqlalchemy.engine import URL

from tests.storm.storm import run_storm, wrong_moves


@pytest.mark.timeout(400)  # 45 s of work, and as long of waiting
def test_no_deployment_is_left_and_no_channel_has_what_did_not_pass(postgres_url: URL) -> None:
    report = run_storm(pushes=6, replicas=2, seed=7, url=postgres_url)

    print(report, file=sys.stderr)
    assert report.passed, str(report)
    assert report.counts["accepted"] == 6
    assert report.counts["moved by hand"] == 1


@pytest.mark.parametrize(
    ("tags", "requested", "wrong"),
    [
        (["1.1", "1.2", "1.3"], [], []),
        (["1.1", "1.2", "1.2"], [], ["prod moved to 1.2 2 times; by hand: 0"]),
        (["1.1", "1.2", "1.1"], [], ["prod moved from 1.2 to 1.1", "prod moved to 1.1 2 times"]),
        (["1.1", "1.2", "1.1", "1.3"], ["1.1"], []),
        (["1.1", "1.2", "1.1", "1.1"], ["1.1"], ["prod moved to 1.1 3 times; by hand: 1"]),
    ],
)
def test_a_move_back_and_a_move_made_twice_are_found(
    tags: list[str], requested: list[str], wrong: list[str]
) -> None:
    found = wrong_moves("prod", tags, requested)

    assert [one[: len(start)] for one, start in zip(found, wrong, strict=True)] == wrong

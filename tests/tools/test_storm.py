"""A short storm; `python -m tests.storm` is the long one."""

import sys

from sqlalchemy.engine import URL

from tests.storm.storm import run_storm


def test_no_deployment_is_left_and_no_channel_has_what_did_not_pass(postgres_url: URL) -> None:
    report = run_storm(pushes=12, replicas=2, seed=7, url=postgres_url)

    print(report, file=sys.stderr)
    assert report.passed, str(report)
    assert report.counts["accepted"] == 12

"""What looks at the deployment of a trial prove."""

import pytest

from receiver.edgegap.deployment_answers import Coordinates, Deployment, DeploymentState
from receiver.rules.trial import (
    Trial,
    TrialRun,
    failure,
    has_no_capacity,
    is_steady,
    with_status,
)

TRIAL = Trial(Coordinates(45.5, -73.6), steady_for=60_000)
STARTING = Deployment(DeploymentState.STARTING)
READY = Deployment(DeploymentState.READY, seconds=70)


@pytest.mark.parametrize(("seconds", "since"), [(None, 80_000), (70, 10_000), (90, 5_000)])
def test_it_is_ready_since_the_time_that_edgegap_shows(seconds: int | None, since: int) -> None:
    """But not since a time before the request."""
    ready = Deployment(DeploymentState.READY, seconds=seconds)

    run = with_status(TrialRun(request_id="a", requested_at=5_000), ready, 80_000)

    assert run.ready_at == since


def test_it_is_watched_from_the_beginning_once_it_is_ready_again() -> None:
    """Edgegap's time may go on from the first time that it was Ready."""
    run = TrialRun(request_id="a", requested_at=0, ready_at=10_000)
    run = with_status(run, STARTING, 20_000)
    run = with_status(run, STARTING, 79_000)
    run = with_status(run, READY, 80_000)

    assert not is_steady(TRIAL, run, 80_000)
    assert not is_steady(TRIAL, run, 139_999)
    assert is_steady(TRIAL, run, 140_000)


@pytest.mark.parametrize("state", [DeploymentState.ERROR, DeploymentState.TERMINATED])
def test_what_edgegap_says_of_an_error_counts_also_once_the_deployment_is_terminated(
    state: DeploymentState,
) -> None:
    run = TrialRun(request_id="a", requested_at=0)
    full = Deployment(state, error="No server was found")
    large = Deployment(state, error="Pull image timeout exceeded")

    assert has_no_capacity(run, full)
    assert not has_no_capacity(run, large)
    assert "Pull image timeout exceeded" in failure(TRIAL, run, large, 10_000)

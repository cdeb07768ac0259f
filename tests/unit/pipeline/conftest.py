"""Fixtures of tests that try versions."""

import pytest

from receiver.sandbox.edgegap import EdgegapSandbox
from tests.support.dockerhub_client import Clock
from tests.support.trial_scenario import APP


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sandbox(clock: Clock) -> EdgegapSandbox:
    made = EdgegapSandbox(apps=(APP,), clock=clock)
    made.add_version(APP, "1.0", restart_policy="always")
    return made

"""Fixtures of tests that read notifications, or that try versions."""

from collections.abc import Iterator

import pytest

from receiver.rules import trial
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from tests.support.notifications import NotificationListener
from tests.support.receiver_process import APP


@pytest.fixture
def listener() -> NotificationListener:
    return NotificationListener()


@pytest.fixture
def url(listener: NotificationListener) -> Iterator[str]:
    with serving(listener.app) as base:
        yield base.replace("http://", "json://") + "/notify"


@pytest.fixture
def quick_trials(monkeypatch: pytest.MonkeyPatch) -> EdgegapSandbox:
    """An Edgegap whose deployments are Ready and gone at once; a trial looks often."""
    monkeypatch.setattr(trial, "MIN_LOOK", 50)
    monkeypatch.setattr(trial, "FIRST_LOOK", 50)
    monkeypatch.setattr(trial, "MAX_LOOK", 200)
    made = EdgegapSandbox(apps=(APP,))
    made.deployments.set_lifecycle(ready_after=0.1, stop_takes=0.1)
    return made

"""Fixtures of tests that read notifications, that try versions, or that run commands."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver.rules import trial
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from tests.support.commands import Commands, commands_beside
from tests.support.notifications import NotificationListener
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import APP, RULE
from tests.support.visitor import PAGE


@pytest.fixture
def listener() -> NotificationListener:
    return NotificationListener()


@pytest.fixture
def url(listener: NotificationListener) -> Iterator[str]:
    with serving(listener.app) as base:
        yield base.replace("http://", "json://") + "/notify"


@pytest.fixture
def here(edgegap: str, tmp_path: Path) -> Iterator[ReceiverHere]:
    """A receiver with one rule, whose commands find it by its port."""
    config = RULE + '\n[catch_up]\nevery = "off"\n'
    with receiver_here(tmp_path, edgegap, config=config, environment=PAGE) as receiver:
        receiver.environment["PORT"] = receiver.url.rpartition(":")[2]
        yield receiver


@pytest.fixture
def beside(here: ReceiverHere) -> Commands:
    return commands_beside(here)


@pytest.fixture
def quick_trials(monkeypatch: pytest.MonkeyPatch) -> EdgegapSandbox:
    """An Edgegap whose deployments are Ready and gone at once; a trial looks often."""
    monkeypatch.setattr(trial, "MIN_LOOK", 50)
    monkeypatch.setattr(trial, "FIRST_LOOK", 50)
    monkeypatch.setattr(trial, "MAX_LOOK", 200)
    made = EdgegapSandbox(apps=(APP,))
    made.deployments.set_lifecycle(ready_after=0.1, stop_takes=0.1)
    return made

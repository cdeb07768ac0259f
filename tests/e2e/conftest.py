"""Fixtures of tests that read notifications."""

from collections.abc import Iterator

import pytest

from receiver.sandbox.serving import serving
from tests.support.notifications import NotificationListener


@pytest.fixture
def listener() -> NotificationListener:
    return NotificationListener()


@pytest.fixture
def url(listener: NotificationListener) -> Iterator[str]:
    with serving(listener.app) as base:
        yield base.replace("http://", "json://") + "/notify"

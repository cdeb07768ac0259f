"""Fixtures of tests that read notifications."""

from collections.abc import Iterator

import pytest

from receiver.sandbox.serving import serving
from tests.support.notifications import Place


@pytest.fixture
def place() -> Place:
    return Place()


@pytest.fixture
def url(place: Place) -> Iterator[str]:
    with serving(place.app) as base:
        yield base.replace("http://", "json://") + "/told"

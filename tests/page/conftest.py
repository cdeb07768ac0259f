"""Fixtures of the tests of the page; a file's `CONFIG` is the configuration of its receivers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from receiver.web import versions
from tests.support.browser import chromium
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import TIMEOUT_SECONDS
from tests.support.visitor import PAGE, Visitor, visitor


@pytest.fixture
def receiver(
    request: pytest.FixtureRequest, edgegap: str, tmp_path: Path
) -> Iterator[ReceiverHere]:
    config: str = request.module.CONFIG
    with receiver_here(tmp_path, edgegap, config=config, environment=PAGE) as one:
        yield one


@pytest.fixture
def person(receiver: ReceiverHere) -> Iterator[Visitor]:
    with visitor(receiver) as one:
        yield one


@pytest.fixture
def lists_are_read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Edgegap's lists are read for each page, which waits for them."""
    monkeypatch.setattr(versions, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(versions, "PAGE_WAITS_SECONDS", TIMEOUT_SECONDS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as one:
        yield one


@pytest.fixture
def here(
    request: pytest.FixtureRequest, sandbox: EdgegapSandbox, tmp_path: Path
) -> Iterator[ReceiverHere]:
    """A receiver beside a sandbox whose responses are not compared with Edgegap's document."""
    config: str = request.module.CONFIG
    with (
        serving(sandbox.app) as url,
        receiver_here(tmp_path, url, config=config, environment=PAGE) as receiver,
    ):
        yield receiver

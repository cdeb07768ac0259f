"""What most tests stand on: a sandbox of Edgegap whose every call is held against its contract."""

import atexit
import logging
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import certifi
import pytest
import structlog
from hypothesis import HealthCheck, settings

from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from tests.contract.openapi import contract_checked
from tests.support.commands import Commands, commands_in
from tests.support.dockerhub_client import asking, clock  # noqa: F401 - fixtures
from tests.support.images import there  # noqa: F401 - a fixture
from tests.support.postgres import either, ledger, postgres, postgres_url, replicas  # noqa: F401 - fixtures
from tests.support.receiver_process import OURS, ReceiverProcess


def _one_authority() -> str:
    """Return a file with the first of certifi's certificates: to read all takes 20 ms per client.

    No test calls a server whose certificate one of them signed.
    """
    first, end, _ = Path(certifi.where()).read_text("ascii").partition("-----END CERTIFICATE-----")
    with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as file:
        file.write(first + end + "\n")
    atexit.register(os.unlink, file.name)
    return file.name


AUTHORITY = _one_authority()
certifi.where = lambda: AUTHORITY

# As structlog's own, but a traceback without its locals: to render them takes seconds.
LOG_LINES = [
    *structlog.get_config()["processors"][:-1],
    structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
]

# The machine may be busy: slowness is not what these tests are about.
settings.register_profile("receiver", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("receiver")

StartReceiver = Callable[..., ReceiverProcess]


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the developer has set for a receiver of theirs is no part of a test."""
    for name in [name for name in os.environ if name.startswith(OURS)]:
        monkeypatch.delenv(name)


@contextmanager
def logs_as_before() -> Iterator[None]:
    """Set all logging of the process back in the end: a command run within it sets up its own."""
    root, ours = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers, root.level
    try:
        yield
    finally:
        root.handlers, root.level = handlers, level
        structlog.configure(**ours)


@pytest.fixture(autouse=True)
def _own_logs() -> Iterator[None]:
    with logs_as_before():
        # Not `sys.stdout`: a command whose output is looked at meanwhile would take the lines.
        factory = structlog.PrintLoggerFactory(sys.__stderr__)
        structlog.configure(processors=LOG_LINES, logger_factory=factory)
        yield


@pytest.fixture
def sandbox() -> EdgegapSandbox:
    return EdgegapSandbox(apps=("my-game", "lobby"))


@pytest.fixture
def edgegap(sandbox: EdgegapSandbox) -> Iterator[str]:
    """The sandbox's URL; at the end nothing sent or answered may break the API's contract."""
    checked = contract_checked(sandbox.app)
    with serving(checked) as url:
        yield url
    assert checked.violations == []


@pytest.fixture
def start(edgegap: str, tmp_path: Path) -> Iterator[StartReceiver]:
    """Starts receivers, each in a folder of its own, and ends them all."""
    begun: list[ReceiverProcess] = []

    def begin(**kwargs: Any) -> ReceiverProcess:
        folder = tmp_path / f"receiver-{len(begun)}"
        folder.mkdir()
        receiver = ReceiverProcess(folder, kwargs.pop("edgegap_url", edgegap), **kwargs)
        begun.append(receiver)
        return receiver.start()

    yield begin
    for receiver in begun:
        receiver.stop()


@pytest.fixture
def receiver(start: StartReceiver) -> ReceiverProcess:
    return start()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tools, whose one test takes minutes, and go on with the files of most tests.

    A worker takes whole files: a long one at the end would leave the other workers idle.
    """
    tests = Counter(item.path for item in items)

    def place(item: pytest.Item) -> tuple[bool, int, Path]:
        return item.path.parent.name != "tools", -tests[item.path], item.path

    items.sort(key=place)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where all parts are installed nothing may be skipped: a skipped test proves nothing."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    """Commands in an empty folder with one rule; nothing answers calls to Edgegap."""
    return commands_in(tmp_path)


@pytest.fixture
def commands_with_edgegap(edgegap: str, tmp_path: Path) -> Commands:
    """The same with the sandbox of Edgegap behind them."""
    return commands_in(tmp_path, edgegap)


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Spell out halves of letters, as a made-up text logs them: xdist's worker would die of one."""
    report = yield
    return sendable(report)


def sendable(report: Any) -> Any:
    """Return what a report holds with all its text in UTF-8."""
    if isinstance(report, str):
        return report.encode("utf-8", "backslashreplace").decode()
    if isinstance(report, dict):
        return {sendable(key): sendable(value) for key, value in report.items()}
    if isinstance(report, list | tuple):
        return type(report)(sendable(item) for item in report)
    return report

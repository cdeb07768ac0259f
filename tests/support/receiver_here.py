"""A receiver inside the test's own process, over real HTTP: for tests that shorten its waits."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvicorn
import uvloop

from receiver import backoff
from receiver.config.load import load_settings
from receiver.config.variables import NEEDED
from receiver.ledger.ledger import Ledger
from receiver.pipeline import retry
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from receiver.service import Service
from receiver.upkeep import links
from receiver.web.app import create_app
from receiver.web.protocol import LimitedProtocol, LimitedServer
from tests.contract.openapi import contract_checked
from tests.support.receiver_process import (
    RULE,
    TIMEOUT_SECONDS,
    ReceiverProcess,
    until,
    webhook_body,
)

T = TypeVar("T")


class ReceiverHere(ReceiverProcess):
    """The same endpoints and the same server as `receiver serve`, in a thread."""

    def __init__(
        self,
        folder: Path,
        edgegap_url: str,
        *,
        config: str = RULE,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder, edgegap_url, config=config, environment=environment)
        self.environment["RECEIVER_CONFIG"] = str(self.config)
        settings = load_settings(self.environment, need=NEEDED)
        self.ledger = Ledger(settings.database_url)
        self.ledger.open_to_write()
        self.app = create_app(settings, self.ledger, environ=self.environment)
        self._loop = uvloop.new_event_loop()
        config_ = uvicorn.Config(
            self.app,
            port=0,
            http=LimitedProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            proxy_headers=False,
        )
        self._server = LimitedServer(config_)
        self._thread = threading.Thread(target=self._run, name="receiver-here", daemon=True)

    def start(self, *_: str) -> "ReceiverHere":
        """Start it and wait until it answers."""
        self._thread.start()
        until(lambda: self._server.started or not self._thread.is_alive())
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    def stop(self, number: int = 0) -> int:
        """End it as a SIGTERM would."""
        self._server.should_exit = True
        self._thread.join(TIMEOUT_SECONDS)
        return 0

    def push_to(self, repository: str, tag: str, **push_data: Any) -> str:
        """Send a webhook of another repository to its own link; return the delivery's id."""
        body = webhook_body(tag, repository, **push_data)
        answer = self.post(body, repository=repository)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["delivery"])

    @property
    def service(self) -> Service:
        """Its parts, to be touched in its own loop only: see `inside`."""
        service: Service = self.app.state.service
        return service

    def inside(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine in its loop and return the result."""
        return asyncio.run_coroutine_threadsafe(make(), self._loop).result(TIMEOUT_SECONDS)

    def wake(self) -> None:
        """Let its worker look for work; an event that another thread sets may be missed."""
        self._loop.call_soon_threadsafe(self.service.worker.wake)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._server.serve())


@contextmanager
def receiver_here(
    folder: Path,
    edgegap_url: str,
    *,
    config: str = RULE,
    environment: Mapping[str, str] | None = None,
) -> Iterator[ReceiverHere]:
    """Run a receiver in this process until the block is left."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(links, "COST", 2)  # a fifth of a second for each start
        receiver = ReceiverHere(folder, edgegap_url, config=config, environment=environment)
        receiver.start()
        try:
            yield receiver
        finally:
            receiver.stop()


@contextmanager
def hurried(folder: Path, sandbox: EdgegapSandbox, config: str) -> Iterator[ReceiverHere]:
    """Run one with a sandbox behind it; its waits are shortened, the table of answers is not."""
    checked = contract_checked(sandbox.app)
    with serving(checked) as url, hurried_at(folder, url, config) as receiver:
        yield receiver
    assert checked.violations == []


@contextmanager
def hurried_at(folder: Path, edgegap_url: str, config: str) -> Iterator[ReceiverHere]:
    """Run one that calls this address, its waits shortened."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backoff, "FIRST_BACKOFF", 20)
        patch.setattr(backoff, "MAX_BACKOFF", 60)
        patch.setattr(retry, "IMAGE_WAITS", (50,))
        patch.setattr(retry, "DECLINED_WAITS", (20, 30, 40))
        patch.setattr(backoff, "PROBE_FIRST", 100)
        patch.setattr(backoff, "PROBE_LONGEST", 100)
        with receiver_here(folder, edgegap_url, config=config) as receiver:
            yield receiver

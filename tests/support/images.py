"""A preflight over a served stand-in of Docker Hub, asked from tests that are not asynchronous."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
import pytest

from receiver.dockerhub.api import Hub
from receiver.dockerhub.registry import Registry
from receiver.images import ImageReference, Login
from receiver.pipeline.preflight import DockerHubOut, Findings, ImageOk, ImageRejected, Preflight
from receiver.rules.rule import Rule
from receiver.sandbox.calls import Call
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.serving import serving
from receiver.secret import Secret

T = TypeVar("T")

GAME = "studio/game-server"
PRIVATE = "studio/private"
TOKEN = "canary-hub-token-3c1f77"
LOGIN = Login("studio-bot", Secret(TOKEN))


class Clock:
    """Changes only when a test sets it. Seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Looking:
    """Asks the stand-in at `url`, always with the same preflight."""

    hub: DockerHubSandbox
    url: str
    preflight: Preflight
    clock: Clock
    runner: asyncio.Runner

    def look(
        self, tag: str = "1.0", *, repository: str = GAME, login: Login | None = None
    ) -> Findings:
        """What preflight makes of an image."""
        rule = Rule(repository=repository, app="my-game", name="a rule", login=login)
        return self.run(self.preflight.check(ImageReference(repository, tag), rule))

    def run(self, asked: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(asked)

    @property
    def requests(self) -> list[str]:
        """What was asked of the stand-in so far, as `METHOD path`."""
        return [f"{call.method} {call.path}" for call in self.calls(lambda _: True)]

    def calls(self, wanted: Callable[[Call], bool]) -> list[Call]:
        return [call for call in list(self.hub.calls) if wanted(call)]


@contextmanager
def looking_at(hub: DockerHubSandbox) -> Iterator[Looking]:
    """Serve the stand-in and look at its images."""
    clock = Clock()
    with serving(hub.app) as url, asyncio.Runner() as runner:
        http = httpx.AsyncClient(trust_env=False)
        registry = Registry(http, url, f"{url}/token")
        preflight = Preflight(registry, Hub(http, url), clock=clock)
        try:
            yield Looking(hub, url, preflight, clock, runner)
        finally:
            runner.run(http.aclose())


@pytest.fixture
def there(hub: DockerHubSandbox) -> Iterator[Looking]:
    """What asks the module's own stand-in."""
    with looking_at(hub) as one:
        yield one


def cleared(findings: Findings) -> ImageOk:
    """What it found out, where nothing stops the image."""
    assert isinstance(findings, ImageOk), findings
    return findings


def stopped(findings: Findings) -> tuple[str, str]:
    """Why the image may not become a version: reason and sentence."""
    assert isinstance(findings, ImageRejected), findings
    return findings.parking.reason.value, findings.parking.sentence


def out(there: Looking) -> str:
    """Why preflight could not look, asked with a login; it never shows the token."""
    found = there.look(login=LOGIN)
    assert isinstance(found, DockerHubOut), found
    assert TOKEN not in found.detail
    return found.detail

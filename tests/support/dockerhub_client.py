"""What the tests of the Docker Hub stand-in ask it with."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.serving import serving

GAME = "studio/game-server"
MANIFESTS = f"/v2/{GAME}/manifests"
SERVICE = "registry.docker.io"
OCI = "application/vnd.oci.image"
DOCKER = "application/vnd.docker.distribution.manifest"
ACCEPT = f"{OCI}.index.v1+json;q=1, {DOCKER}.list.v2+json, {OCI}.manifest.v1+json, {DOCKER}.v2+json"


class Clock:
    """Changes only when a test sets it."""

    def __init__(self) -> None:
        self.now = 1_780_000_000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def served(hub: DockerHubSandbox) -> Iterator[httpx.Client]:
    """A client of the served stand-in that follows no redirects and is not logged in."""
    with (
        serving(hub.app) as url,
        httpx.Client(base_url=url, timeout=5, trust_env=False, headers={"accept": ACCEPT}) as one,
    ):
        yield one


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def asking(hub: DockerHubSandbox) -> Iterator[httpx.Client]:
    """A client of the module's own stand-in."""
    with served(hub) as one:
        yield one


def ask_token(
    asking: httpx.Client, *login: str, scope: str = f"repository:{GAME}:pull"
) -> httpx.Response:
    """Ask the auth server, as somebody or as nobody."""
    query = {"service": SERVICE, "scope": scope}
    return asking.get("/token", params=query, auth=(login[0], login[1]) if login else None)


def bearer(asking: httpx.Client, *login: str, **asked: str) -> dict[str, str]:
    """The header with which to ask the registry."""
    answer = ask_token(asking, *login, **asked)
    assert answer.status_code == 200, answer.text
    return {"authorization": f"Bearer {answer.json()['token']}"}


def log_in(asking: httpx.Client, *login: str) -> None:
    """Let the client ask the registry as somebody, or as nobody, from now on."""
    asking.headers.update(bearer(asking, *login))


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"

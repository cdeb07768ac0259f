"""A tag that is pushed over is flagged, however its version stands and however often it is told."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from tests.running import APP, REPOSITORY, RULE, ReceiverProcess

LOOKING = RULE.replace("preflight = false", "preflight = true")
MOVING = LOOKING.replace('app = "my-game"', 'app = "my-game"\nmode = "update"\nversion = "live"')


@pytest.fixture
def hub() -> DockerHubSandbox:
    sandbox = DockerHubSandbox()
    sandbox.add_repository(REPOSITORY)
    return sandbox


@pytest.fixture
def hub_url(hub: DockerHubSandbox) -> Iterator[str]:
    with serving(hub.app) as url:
        yield url


def _receiver(folder: Path, edgegap: str, hub_url: str, config: str) -> ReceiverProcess:
    environment = {
        "DOCKERHUB_REGISTRY_URL": hub_url,
        "DOCKERHUB_AUTH_URL": f"{hub_url}/token",
        "DOCKERHUB_API_URL": hub_url,
    }
    off = config + '\n[catch_up]\nevery = "off"\n'
    return ReceiverProcess(folder, edgegap, config=off, environment=environment).start()


def test_told_twice_it_stays_flagged(
    tmp_path: Path, edgegap: str, hub_url: str, hub: DockerHubSandbox, sandbox: EdgegapSandbox
) -> None:
    receiver = _receiver(tmp_path, edgegap, hub_url, LOOKING)
    hub.push_image(REPOSITORY, "1.0.0")
    receiver.ended(receiver.push("1.0.0"))

    sandbox.latency = 0.3
    hub.push_image(REPOSITORY, "1.0.0")
    first, second = receiver.push("1.0.0"), receiver.push("1.0.0")

    assert receiver.ended(first)["overwritten"] is True
    assert receiver.ended(second)["overwritten"] is True
    receiver.stop()


def test_a_version_made_anew_from_a_tag_that_was_pushed_over_is_flagged(
    tmp_path: Path, edgegap: str, hub_url: str, hub: DockerHubSandbox, sandbox: EdgegapSandbox
) -> None:
    receiver = _receiver(tmp_path, edgegap, hub_url, LOOKING)
    hub.push_image(REPOSITORY, "1.0.0")
    receiver.ended(receiver.push("1.0.0"))
    del sandbox.versions[APP, "1.0.0"]
    hub.push_image(REPOSITORY, "1.0.0")

    again = receiver.ended(receiver.push("1.0.0"))

    assert (again["outcome"], again["overwritten"]) == ("created", True)
    receiver.stop()


def test_a_moving_target_that_comes_back_to_a_tag_pushed_over_is_flagged(
    tmp_path: Path, edgegap: str, hub_url: str, hub: DockerHubSandbox
) -> None:
    receiver = _receiver(tmp_path, edgegap, hub_url, MOVING)
    outcomes = []
    for tag in ("a", "b", "a"):
        hub.push_image(REPOSITORY, tag)
        ended = receiver.ended(receiver.push(tag))
        outcomes.append((ended["outcome"], ended["overwritten"]))

    assert outcomes == [("created", False), ("updated", False), ("updated", True)]
    receiver.stop()

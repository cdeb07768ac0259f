"""An overwritten tag is flagged, whatever state its version has, however often it is reported."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from tests.support.receiver_process import APP, REPOSITORY, RULE, ReceiverProcess, until

LOOKING = RULE.replace("preflight = false", "preflight = true")
OFF = '\n[catch_up]\nevery = "off"\n'
MOVING = LOOKING.replace(
    'app = "my-game"', 'app = "my-game"\nversions = false\nchannels = ["live"]'
)


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
    return ReceiverProcess(folder, edgegap, config=config + OFF, environment=environment).start()


def test_an_overwritten_tag_reported_twice_stays_flagged(
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


def test_a_version_created_again_from_an_overwritten_tag_is_flagged(
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


@pytest.mark.parametrize("rule", [("warn", "superseded"), ("move", "updated"), ("park", None)])
def test_an_overwritten_tag_moves_a_channel_only_if_the_rule_says_so(
    tmp_path: Path, edgegap: str, hub_url: str, hub: DockerHubSandbox, rule: tuple[str, str | None]
) -> None:
    on_overwrite, then = rule
    config = MOVING.replace('app = "my-game"', f'app = "my-game"\non_overwrite = "{on_overwrite}"')
    receiver = _receiver(tmp_path, edgegap, hub_url, config)
    outcomes = []
    for tag in ("a", "b", "a"):
        hub.push_image(REPOSITORY, tag)
        ended = receiver.ended(receiver.push(tag))
        outcomes.append((ended["outcome"], ended["overwritten"]))

    assert outcomes == [("created", False), ("updated", False), (then, True)]
    receiver.stop()


def test_an_overwritten_tag_that_the_channel_has_is_moved_to_again_only_if_the_rule_says_so(
    tmp_path: Path, edgegap: str, hub_url: str, hub: DockerHubSandbox, sandbox: EdgegapSandbox
) -> None:
    config = MOVING.replace('app = "my-game"', 'app = "my-game"\non_overwrite = "move"')
    receiver = _receiver(tmp_path, edgegap, hub_url, config)
    for expected in ("created", "updated", "updated"):
        hub.push_image(REPOSITORY, "1.0")
        assert receiver.ended(receiver.push("1.0"))["outcome"] == expected
    assert receiver.ended(receiver.push("1.0"))["outcome"] == "unchanged"  # the same image again

    assert [call.method for call in sandbox.calls].count("PATCH") == 2
    receiver.stop()


def test_what_its_own_version_was_found_to_be_overwritten_with_moves_no_channel(
    tmp_path: Path, edgegap: str, hub_url: str, hub: DockerHubSandbox, sandbox: EdgegapSandbox
) -> None:
    """A channel that a rule has since then knows of no earlier report of its own."""
    receiver = _receiver(tmp_path, edgegap, hub_url, LOOKING)
    hub.push_image(REPOSITORY, "1.0")
    receiver.ended(receiver.push("1.0"))
    receiver.stop()
    with_channel = LOOKING.replace('app = "my-game"', 'app = "my-game"\nchannels = ["live"]')
    receiver.config.write_text(with_channel + OFF, "utf-8")
    receiver.start()
    hub.push_image(REPOSITORY, "1.0")
    delivery = receiver.push("1.0")

    until(lambda: len(receiver.details(delivery)["registrations"]) == 2)
    receiver.ended(delivery)
    version, channel = receiver.details(delivery)["registrations"]

    assert (version["outcome"], channel["outcome"]) == ("unchanged", "superseded")
    assert "was overwritten" in channel["sentence"]
    assert (APP, "live") not in sandbox.versions
    receiver.stop()

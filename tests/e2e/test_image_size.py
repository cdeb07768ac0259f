"""The size of an image: noted with that of the version before, and limited by the rule."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.edgegap import EdgegapSandbox
from tests.support.dockerhub import hub_beside
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import NO_CATCH_UP, REPOSITORY, RULE, until

LIMITED = RULE.replace("preflight = false", 'max_image = "2GB"\nchannels = ["staging"]')
IMAGE = {"os": "linux", "architecture": "amd64"}


@pytest.fixture
def hub() -> DockerHubSandbox:
    return DockerHubSandbox()


@pytest.fixture
def here(
    tmp_path: Path, sandbox: EdgegapSandbox, edgegap: str, hub: DockerHubSandbox
) -> Iterator[ReceiverHere]:
    sandbox.add_version("my-game", "staging")
    with (
        hub_beside(hub) as variables,
        receiver_here(
            tmp_path, edgegap, config=LIMITED + NO_CATCH_UP, environment=variables
        ) as receiver,
    ):
        yield receiver


def build(hub: DockerHubSandbox, tag: str, size: int | None) -> None:
    hub.push_image(REPOSITORY, tag)
    hub.alter_record(REPOSITORY, tag, images=[{**IMAGE, "size": size}])


def sizes(receiver: ReceiverHere, delivery: str) -> list[str]:
    """The notes about sizes: of the version, and of the channel that it moved."""

    def both() -> bool:
        rows = receiver.details(delivery)["registrations"]
        return len(rows) == 2 and all(row["state"] == "done" for row in rows)

    until(both)
    rows = receiver.details(delivery)["registrations"]
    return [note for row in rows for note in row["notes"] if note.startswith("the image has")]


def test_the_size_is_compared_with_that_of_the_version_before(
    here: ReceiverHere, hub: DockerHubSandbox
) -> None:
    build(hub, "1.4.1", 1_700_000_000)
    build(hub, "1.4.2", 1_904_000_000)

    first = sizes(here, here.push("1.4.1"))
    second = sizes(here, here.push("1.4.2"))

    assert first == ["the image has 1.7 GB, compressed"] * 2
    assert second == ["the image has 1.9 GB, compressed, 12 % more than 1.4.1"] * 2


def test_an_image_that_is_too_large_parks_before_edgegap_is_asked_for_it(
    here: ReceiverHere, hub: DockerHubSandbox, sandbox: EdgegapSandbox
) -> None:
    build(hub, "1.0.0", 2_000_000_001)
    build(hub, "1.0.1", 2_000_000_000)

    parked = here.ended(here.push("1.0.0"))

    assert (parked["state"], parked["reason"]) == ("parked", "image_too_large")
    assert "is 2 GB compressed, and the rule" in parked["sentence"]
    assert {call.method for call in sandbox.calls} == {"GET"}

    delivery = here.push("1.0.1")
    sizes(here, delivery)
    until(lambda: here.show(parked["deliveries"][0])["registrations"][0]["state"] == "done")


def test_a_channel_goes_back_to_an_image_that_is_larger_than_the_rule_allows_now(
    here: ReceiverHere, hub: DockerHubSandbox, sandbox: EdgegapSandbox
) -> None:
    """The rollback of a bad build was parked."""
    for tag in ("1.0.0", "1.0.1"):
        build(hub, tag, 1_900_000_000)
        sizes(here, here.push(tag))
    here.config.write_text(here.config.read_text().replace("2GB", "1GB"))
    assert not here.inside(lambda: here.service.reload(here.environment)).faults

    back = {"app": "my-game", "channel": "staging"}
    headers = {"Authorization": f"Bearer {here.api_token()}"}
    httpx.post(f"{here.url}/api/rollback", json=back, headers=headers).raise_for_status()

    until(lambda: sandbox.versions["my-game", "staging"]["docker_tag"] == "1.0.0")


def test_where_the_size_is_not_known_nothing_is_parked(
    here: ReceiverHere, hub: DockerHubSandbox
) -> None:
    build(hub, "1.0.0", None)

    assert sizes(here, here.push("1.0.0")) == []


def test_the_size_of_another_image_under_the_same_tag_does_not_count(
    here: ReceiverHere, hub: DockerHubSandbox
) -> None:
    hub.push_image(REPOSITORY, "1.0.0")
    other = {"digest": f"sha256:{'0' * 64}", "images": [{**IMAGE, "size": 9_000_000_000}]}
    hub.alter_record(REPOSITORY, "1.0.0", **other)

    assert sizes(here, here.push("1.0.0")) == []

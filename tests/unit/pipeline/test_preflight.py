"""How preflight learns an image's digest and platforms: what it asks, as whom, and of whom."""

import base64
import json
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

import pytest

from receiver.dockerhub import registry as login_server
from receiver.dockerhub.manifest import OCI_INDEX, OCI_MANIFEST
from receiver.sandbox.calls import Fault
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.dockerhub_images import Kind
from tests.support.images import (
    GAME,
    LOGIN,
    PRIVATE,
    TOKEN,
    Looking,
    cleared,
    stopped,
)

HEAD = f"HEAD /v2/{GAME}/manifests/1.0"
RECORD = "GET /v2/namespaces/studio/repositories/game-server/tags/1.0"
IMAGES: list[Kind] = ["index", "docker-list", "manifest", "docker-manifest"]


@pytest.fixture
def hub() -> DockerHubSandbox:
    hub = DockerHubSandbox()
    hub.add_login("studio-bot", TOKEN, namespaces=["studio"])
    return hub


def hide_record(hub: DockerHubSandbox, tag: str = "1.0") -> None:
    """Let Docker Hub's API list no platforms, as for images it could not read."""
    hub.alter_record(GAME, tag, images=None)


def test_it_asks_for_the_right_to_pull_and_no_more_and_pulls_nothing(
    hub: DockerHubSandbox, there: Looking
) -> None:
    digest = hub.push_image(GAME, "1.0", ["linux/amd64", "linux/arm64"], attestations=True)

    found = cleared(there.look(login=LOGIN))

    assert found.digest == digest
    assert found.notes == ("built for linux/amd64, linux/arm64",)
    assert there.requests == [HEAD, "GET /token", HEAD, "POST /v2/auth/token", RECORD]
    asked = hub.calls[1]
    assert parse_qs(asked.query) == {
        "service": ["registry.docker.io"],
        "scope": [f"repository:{GAME}:pull"],
    }
    pair = base64.b64encode(f"studio-bot:{TOKEN}".encode()).decode()
    assert asked.authorization == f"Basic {pair}"
    assert [(call.authorization or "").partition(" ")[0] for call in hub.calls] == [
        *("", "Basic", "Bearer", "", "Bearer")
    ]
    assert sum(hub.pulls.values()) == 0


def test_without_a_login_nobody_is_named(hub: DockerHubSandbox, there: Looking) -> None:
    digest = hub.push_image(GAME, "1.0")

    assert cleared(there.look()).digest == digest
    assert there.requests == [HEAD, "GET /token", HEAD, RECORD]
    assert [call.authorization is None for call in hub.calls] == [True, True, False, True]


@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("answer", [True, False], ids=["record", "manifest"])
def test_the_digest_is_that_of_what_was_pushed_whatever_its_type(
    hub: DockerHubSandbox, there: Looking, kind: Kind, *, answer: bool
) -> None:
    digest = hub.push_image(GAME, "1.0", kind=kind)
    if not answer:
        hide_record(hub)

    assert cleared(there.look()).digest == digest
    assert cleared(there.look()).notes == ("built for linux/amd64",)


def test_a_token_is_used_until_it_is_too_old(
    hub: DockerHubSandbox, there: Looking, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = SimpleNamespace(monotonic=lambda: there.clock.now)
    monkeypatch.setattr(login_server, "time", time)
    hub.push_image(GAME, "1.0")
    hub.expires_in = 120

    def asked() -> int:
        cleared(there.look())
        return there.requests.count("GET /token")

    assert asked() == 1
    there.clock.now += 100
    assert asked() == 1
    there.clock.now += 10  # 10 seconds before its end
    assert asked() == 2
    hub.expires_in = None  # 60 seconds are meant
    there.clock.now += 120
    assert asked() == 3
    there.clock.now += 40
    assert asked() == 3
    there.clock.now += 10
    assert asked() == 4


def test_a_token_taken_back_before_its_time_is_asked_for_again(
    hub: DockerHubSandbox, there: Looking
) -> None:
    hub.push_image(GAME, "1.0")
    cleared(there.look(login=LOGIN))
    hub.expire_tokens()
    hub.calls.clear()

    cleared(there.look(login=LOGIN))

    assert there.requests[:3] == [HEAD, "GET /token", HEAD]
    assert hub.calls[0].status == 401


def test_one_logins_token_does_not_serve_another(hub: DockerHubSandbox, there: Looking) -> None:
    hub.add_repository(PRIVATE, private=True)
    hub.push_image(PRIVATE, "1.0")
    cleared(there.look(repository=PRIVATE, login=LOGIN))

    assert stopped(there.look(repository=PRIVATE))[0] == "registry_login_missing"
    cleared(there.look(repository=PRIVATE, login=LOGIN))


@pytest.mark.parametrize(
    "trouble",
    [
        {"images": None},
        {"images": []},
        {"images": "broken"},
        {"digest": None},
        {"digest": f"sha256:{'0' * 64}"},
    ],
    ids=["null", "none", "broken", "no digest", "another digest"],
)
def test_platforms_that_the_record_does_not_list_are_read_from_the_index_by_its_digest(
    hub: DockerHubSandbox, there: Looking, trouble: dict[str, Any]
) -> None:
    digest = hub.push_image(GAME, "1.0", ["linux/amd64", "windows/amd64"])
    hub.alter_record(GAME, "1.0", **trouble)

    found = cleared(there.look())

    assert found.notes == ("built for linux/amd64, windows/amd64",)
    assert there.requests[-1] == f"GET /v2/{GAME}/manifests/{digest}"
    assert sum(hub.pulls.values()) == 1


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500])
def test_docker_hubs_api_may_be_out_while_its_registry_is_not(
    hub: DockerHubSandbox, there: Looking, status: int
) -> None:
    hub.push_image(GAME, "1.0")
    hub.misbehave(Fault("status", path_contains="/v2/namespaces/", status=status, times=None))

    assert cleared(there.look()).notes == ("built for linux/amd64",)


def test_a_single_images_platform_stands_in_its_config(
    hub: DockerHubSandbox, there: Looking
) -> None:
    digest = hub.push_image(GAME, "1.0", ["linux/arm64"], kind="manifest")
    hide_record(hub)

    assert stopped(there.look())[0] == "not_amd64"
    manifest, blob = there.requests[-2:]
    assert manifest == f"GET /v2/{GAME}/manifests/{digest}"
    assert blob.startswith(f"GET /v2/{GAME}/blobs/sha256:")


@pytest.mark.parametrize("platform", ["linux/arm64", "linux/amd64"])
def test_the_platform_of_an_index_without_any_is_read_from_its_only_image(
    hub: DockerHubSandbox, there: Looking, platform: str
) -> None:
    child = hub.push_image(GAME, "child", [platform], kind="manifest")
    index = push_index(hub, child)

    found = there.look()

    manifest, inner, blob = there.requests[-3:]
    assert manifest == f"GET /v2/{GAME}/manifests/{index}"
    assert inner == f"GET /v2/{GAME}/manifests/{child}"
    assert blob.startswith(f"GET /v2/{GAME}/blobs/sha256:")
    if platform == "linux/amd64":
        assert cleared(found).notes == ("built for linux/amd64",)
    else:
        assert stopped(found)[0] == "not_amd64"


def test_of_several_images_without_a_platform_none_is_asked(
    hub: DockerHubSandbox, there: Looking
) -> None:
    children = [hub.push_image(GAME, f"child-{n}", ["linux/arm64"], kind="manifest") for n in "12"]
    index = push_index(hub, *children)

    assert cleared(there.look()).notes == (
        "the image does not say for which platform it is built; Edgegap runs linux/amd64 only",
    )
    assert there.requests[-1] == f"GET /v2/{GAME}/manifests/{index}"


def test_an_index_within_an_index_is_followed_once(hub: DockerHubSandbox, there: Looking) -> None:
    child = hub.push_image(GAME, "child", ["linux/arm64"], kind="manifest")
    middle = push_index(hub, child)
    push_index(hub, middle, media_type=OCI_INDEX)

    assert cleared(there.look()).notes == (
        "the image does not say for which platform it is built; Edgegap runs linux/amd64 only",
    )
    assert there.requests[-1] == f"GET /v2/{GAME}/manifests/{middle}"


def push_index(hub: DockerHubSandbox, *children: str, media_type: str = OCI_MANIFEST) -> str:
    """Push an index that has of its images no more than it must."""
    rows = [{"mediaType": media_type, "digest": child, "size": 1} for child in children]
    return hub.push_manifest(GAME, "1.0", json.dumps({"manifests": rows}).encode(), OCI_INDEX)

"""No answer of a registry does harm, however huge, broken or made up: it is survived and named."""

import json
from typing import Any

import pytest

from receiver.dockerhub.http import DockerHubUnavailable
from receiver.dockerhub.manifest import DOCKER_MANIFEST, OCI_INDEX
from receiver.dockerhub.registry import Found
from receiver.pipeline.preflight import ImageOk, ImageRejected
from receiver.sandbox.calls import Fault
from receiver.sandbox.dockerhub import DockerHubSandbox
from tests.support.images import GAME, LOGIN, TOKEN, Looking, out


@pytest.fixture
def hub() -> DockerHubSandbox:
    hub = DockerHubSandbox(api_limit=None)
    hub.add_login("studio-bot", TOKEN, namespaces=["studio"])
    hub.push_image(GAME, "1.0", kind="manifest")
    hub.alter_record(GAME, "1.0", images=None)  # so that manifest and config must be read
    return hub


def test_a_config_over_a_mebibyte_is_not_read(hub: DockerHubSandbox, there: Looking) -> None:
    hub.misbehave(Fault("huge", path_contains="/blobs/", size=2**20))

    assert out(there) == "the response is over 1048576 bytes"


def test_a_mebibyte_is_the_limit_behind_a_redirect_too(
    hub: DockerHubSandbox, there: Looking
) -> None:
    hub.redirect_blobs_to = there.url
    hub.misbehave(Fault("huge", path_contains="/cdn/", size=2**20))

    assert out(there) == "the response is over 1048576 bytes"


def test_a_huge_manifest_is_not_read(hub: DockerHubSandbox, there: Looking) -> None:
    hub.push_image(GAME, "1.0", padding=4 * 2**20)

    assert out(there) == "the response is over 4194304 bytes"


def test_what_does_not_match_its_digest_is_not_believed(
    hub: DockerHubSandbox, there: Looking
) -> None:
    hub.tampered = True

    assert out(there) == "the registry's content does not match its digest"


def test_a_digest_of_nothing_there_is_survived(hub: DockerHubSandbox, there: Looking) -> None:
    hub.content_digest = f"sha256:{'0' * 64}"

    assert out(there).startswith("the registry did not return manifests/sha256:")


@pytest.mark.parametrize("digest", ["", "sha256:short", f"md5:{'0' * 32}"])
def test_without_a_valid_digest_it_goes_on_and_says_so(
    hub: DockerHubSandbox, there: Looking, digest: str
) -> None:
    hub.content_digest = digest

    found = there.look(login=LOGIN)

    assert isinstance(found, ImageOk)
    assert found.digest is None
    assert "no digest" in found.notes[0]


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[" * 50_000,
        b'{"mediaType": ["x"], "config": {"mediaType": {}}',
        b'{"config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": "../.."}}',
    ],
)
def test_a_manifest_that_cannot_be_read_is_named(
    hub: DockerHubSandbox, there: Looking, body: bytes
) -> None:
    hub.push_manifest(GAME, "1.0", body, OCI_INDEX)

    assert out(there).startswith("the registry's manifest cannot be read: ")


def test_a_platform_made_to_forge_a_line_is_not_shown(
    hub: DockerHubSandbox, there: Looking
) -> None:
    row = {"mediaType": DOCKER_MANIFEST, "platform": {"os": "\ud800\n", "architecture": "amd64"}}
    hub.push_manifest(GAME, "1.0", json.dumps({"manifests": [row]}).encode(), OCI_INDEX)

    found = there.look(login=LOGIN)

    assert isinstance(found, ImageOk)
    assert "does not say for which platform" in found.notes[0]
    assert found.notes[0].isprintable()


@pytest.mark.parametrize("kind", ["reset", "hang_up", "truncated", "garbage"])
@pytest.mark.parametrize("where", ["/token", "/blobs/", "/manifests/sha256"])
def test_a_broken_answer_is_survived(
    hub: DockerHubSandbox, there: Looking, kind: Any, where: str
) -> None:
    hub.misbehave(Fault(kind, path_contains=where, times=None))

    assert out(there)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"token": "", "access_token": ""},
        {"token": 7},
        {"token": "a b"},
        {"token": "a\r\nX-Forged: 1"},
        {"token": "tök"},
        [],
    ],
)
def test_what_is_no_token_is_not_sent_as_one(
    hub: DockerHubSandbox, there: Looking, answer: Any
) -> None:
    hub.misbehave(Fault("garbage", path_contains="/token", body=json.dumps(answer), times=None))

    assert out(there)
    assert there.requests == [f"HEAD /v2/{GAME}/manifests/1.0", "GET /token"]


@pytest.mark.parametrize("life", ["-5", "0", "1e3", '"300"', "null", "true", "9" * 400])
def test_whatever_a_tokens_life_is_said_to_be(
    hub: DockerHubSandbox, there: Looking, life: str
) -> None:
    token = there.run(there.preflight.registry.logins.token(GAME, LOGIN))
    body = f'{{"token": "{token}", "expires_in": {life}}}'
    hub.misbehave(Fault("garbage", path_contains="/token", body=body))

    found = there.run(there.preflight.registry.resolve(GAME, "1.0", None))

    assert isinstance(found, Found)


def test_a_login_that_a_response_repeats_is_masked(hub: DockerHubSandbox, there: Looking) -> None:
    answer = json.dumps({"details": f"{'x' * 150} studio-bot:{TOKEN}", "message": TOKEN})
    hub.misbehave(Fault("status", path_contains="/token", status=401, body=answer, times=None))

    found = there.look(login=LOGIN)

    assert isinstance(found, ImageRejected)
    assert "studio-bot:***" in found.parking.sentence
    assert TOKEN[:12] not in f"{found}"
    with pytest.raises(DockerHubUnavailable, match=r"\*\*\*") as refused:
        there.run(there.preflight.hub.tag(GAME, "1.0", LOGIN))
    assert TOKEN[:12] not in str(refused.value)

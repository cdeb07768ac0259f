"""The Docker Hub stand-in on its bad days: blobs elsewhere, wrong digests, floods, silence."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from receiver.sandbox.calls import Fault
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.serving import serving
from tests.support.dockerhub_client import GAME, MANIFESTS, OCI, digest_of, log_in, served

MANIFEST = f"{MANIFESTS}/1.0"


@pytest.fixture
def hub() -> DockerHubSandbox:
    hub = DockerHubSandbox()
    hub.push_image(GAME, "1.0", kind="manifest")
    return hub


@pytest.fixture
def asking(hub: DockerHubSandbox) -> Iterator[httpx.Client]:
    with served(hub) as one:
        log_in(one)
        hub.calls.clear()
        yield one


def config_blob(asking: httpx.Client) -> tuple[str, str]:
    digest = asking.get(MANIFEST).json()["config"]["digest"]
    return digest, f"/v2/{GAME}/blobs/{digest}"


def test_a_blob_may_be_on_another_host(hub: DockerHubSandbox, asking: httpx.Client) -> None:
    digest, path = config_blob(asking)

    with serving(hub.app) as cdn, httpx.Client(trust_env=False) as outside:
        hub.redirect_blobs_to, hub.cdn_hops = cdn, 1
        sent = asking.get(path)
        assert sent.status_code == 307
        assert sent.headers["location"] == f"{cdn}/cdn/{digest}?verify=sandbox"
        hop = outside.get(sent.headers["location"])
        assert (hop.status_code, hop.headers["location"][:5]) == (307, "/cdn/")
        there = outside.get(f"{cdn}{hop.headers['location']}")

    assert digest_of(there.content) == digest
    assert [call.host for call in hub.calls[1:]] == [
        f"127.0.0.1:{asking.base_url.port}",
        cdn.removeprefix("http://"),
        cdn.removeprefix("http://"),
    ]
    assert [call.authorization is None for call in hub.calls[1:]] == [False, True, True]


def test_the_cdn_takes_no_second_login(hub: DockerHubSandbox, asking: httpx.Client) -> None:
    digest, _ = config_blob(asking)

    assert asking.get(f"/cdn/{digest}").status_code == 400
    del asking.headers["authorization"]
    assert asking.get(f"/cdn/{digest}").status_code == 200
    assert asking.get("/cdn/sha256:none").status_code == 404


def test_redirects_may_never_end(hub: DockerHubSandbox, asking: httpx.Client) -> None:
    _, path = config_blob(asking)
    hub.redirect_blobs_to, hub.cdn_hops = "", None
    location = asking.get(path).headers["location"]
    del asking.headers["authorization"]

    with pytest.raises(httpx.TooManyRedirects):
        asking.get(location, follow_redirects=True)


def test_a_blob_may_be_said_to_be_anywhere(hub: DockerHubSandbox, asking: httpx.Client) -> None:
    _, path = config_blob(asking)
    hub.blob_location = "http://192.0.2.7/latest/meta-data"

    assert asking.get(path).headers["location"] == hub.blob_location
    assert asking.get(f"/v2/{GAME}/blobs/sha256:none").status_code == 404
    del asking.headers["authorization"]
    assert asking.get(path).status_code == 401


def test_digests_may_lie(hub: DockerHubSandbox, asking: httpx.Client) -> None:
    digest, path = config_blob(asking)
    wrong = f"sha256:{'0' * 64}"

    hub.content_digest = wrong
    assert asking.head(MANIFEST).headers["docker-content-digest"] == wrong
    hub.content_digest = ""
    assert "docker-content-digest" not in asking.head(MANIFEST).headers
    hub.content_digest, hub.tampered = None, True
    answer = asking.get(MANIFEST)
    assert answer.headers["docker-content-digest"] != digest_of(answer.content)
    assert digest_of(asking.get(path).content) != digest


def test_anything_may_be_pushed_as_a_manifest(hub: DockerHubSandbox, asking: httpx.Client) -> None:
    entry = {"digest": "../../etc", "platform": None}
    body = json.dumps({"manifests": [entry], "mediaType": 7}).encode()

    pushed = hub.push_manifest(GAME, "odd", body, f"{OCI}.index.v1+json")

    answer = asking.get(f"{MANIFESTS}/odd")
    assert answer.content == body
    assert pushed == digest_of(body) == answer.headers["docker-content-digest"]


@pytest.mark.parametrize("kind", ["index", "manifest", "artifact"])
def test_a_manifest_may_be_huge_and_still_true(
    hub: DockerHubSandbox, asking: httpx.Client, kind: Any
) -> None:
    pushed = hub.push_image(GAME, "1.0", kind=kind, padding=5_000_000)

    answer = asking.get(MANIFEST)

    assert digest_of(answer.content) == pushed
    assert 5_000_000 < int(answer.headers["content-length"]) < 5_010_000


def test_faults_befall_the_part_they_are_meant_for(
    hub: DockerHubSandbox, asking: httpx.Client
) -> None:
    hub.misbehave(
        Fault("huge", path_contains="/manifests/", size=1_000_000),
        Fault("reset", path_contains="/blobs/"),
        Fault("slow", path_contains="/tags/1.0", seconds=0.02),
    )

    assert len(asking.get(MANIFEST).content) > 1_000_000
    with pytest.raises(httpx.ReadError):
        asking.get(config_blob(asking)[1])
    del asking.headers["authorization"]
    slow = asking.get("/v2/namespaces/studio/repositories/game-server/tags/1.0")
    assert slow.json()["name"] == "1.0"
    hub.misbehave(Fault("status", times=None, status=500))
    hub.behave()
    assert asking.get("/v2/").status_code == 401


def test_every_answer_may_take_its_time(hub: DockerHubSandbox, asking: httpx.Client) -> None:
    hub.latency = 0.3

    with pytest.raises(httpx.ReadTimeout):
        asking.get("/v2/", timeout=httpx.Timeout(5, read=0.05))

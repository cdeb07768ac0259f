"""The Docker Hub stand-in's registry, over real HTTP: what was pushed, and pull limits."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from receiver.sandbox.dockerhub import DockerHubSandbox
from tests.support.dockerhub_client import DOCKER, GAME, MANIFESTS, OCI, digest_of, log_in, served


@pytest.fixture
def hub() -> DockerHubSandbox:
    hub = DockerHubSandbox()
    hub.add_login("studio", "pat", "read", pull_limit=5)
    hub.add_login("studio", "paid", "read", pull_limit=None)
    return hub


@pytest.fixture
def asking(hub: DockerHubSandbox) -> Iterator[httpx.Client]:
    with served(hub) as one:
        log_in(one, "studio", "pat")
        yield one


def fetched(asking: httpx.Client, reference: str) -> dict[str, Any]:
    answer = asking.get(f"{MANIFESTS}/{reference}")
    assert answer.status_code == 200, answer.text
    if reference.startswith("sha256:"):
        assert digest_of(answer.content) == reference
    assert answer.headers["docker-content-digest"] == digest_of(answer.content)
    assert answer.headers["content-type"] == answer.json()["mediaType"]
    read: dict[str, Any] = answer.json()
    return read


def config_of(asking: httpx.Client, manifest: dict[str, Any]) -> dict[str, Any]:
    digest = manifest["config"]["digest"]
    answer = asking.get(f"/v2/{GAME}/blobs/{digest}")
    assert digest_of(answer.content) == digest
    assert len(answer.content) == manifest["config"]["size"]
    config: dict[str, Any] = answer.json()
    return config


@pytest.mark.parametrize("kind", ["index", "docker-list"])
def test_an_index_lists_its_platforms(
    hub: DockerHubSandbox, asking: httpx.Client, kind: Any
) -> None:
    platforms = ("linux/amd64", "linux/arm64/v8")

    pushed = hub.push_image(GAME, "1.0", platforms, kind=kind)

    head = asking.head(f"{MANIFESTS}/1.0")
    assert head.headers["docker-content-digest"] == pushed
    index = fetched(asking, pushed)
    assert int(head.headers["content-length"]) == len(asking.get(f"{MANIFESTS}/1.0").content)
    assert head.content == b""
    amd, arm = index["manifests"]
    assert amd["platform"] == {"os": "linux", "architecture": "amd64"}
    assert arm["platform"] == {"os": "linux", "architecture": "arm64", "variant": "v8"}
    config = config_of(asking, fetched(asking, arm["digest"]))
    assert (config["os"], config["architecture"]) == ("linux", "arm64")


@pytest.mark.parametrize("platforms", [("linux/amd64",), ()])
def test_attestations_stand_beside_the_images(
    hub: DockerHubSandbox, asking: httpx.Client, platforms: tuple[str, ...]
) -> None:
    pushed = hub.push_image(GAME, "1.0", platforms, attestations=True)

    *images, attestation = fetched(asking, pushed)["manifests"]

    assert len(images) == len(platforms)
    assert attestation["platform"] == {"os": "unknown", "architecture": "unknown"}
    answer = attestation["annotations"]
    assert answer["vnd.docker.reference.type"] == "attestation-manifest"
    if images:
        assert answer["vnd.docker.reference.digest"] == images[0]["digest"]
    assert config_of(asking, fetched(asking, attestation["digest"]))["architecture"] == "unknown"


@pytest.mark.parametrize(
    ("kind", "config_type"),
    [
        ("manifest", f"{OCI}.config.v1+json"),
        ("docker-manifest", "application/vnd.docker.container.image.v1+json"),
        ("helm", "application/vnd.cncf.helm.config.v1+json"),
        ("artifact", "application/vnd.oci.empty.v1+json"),
        ("signature", f"{OCI}.config.v1+json"),
    ],
)
def test_a_single_manifest_has_its_platform_in_its_config(
    hub: DockerHubSandbox, asking: httpx.Client, kind: Any, config_type: str
) -> None:
    manifest = fetched(asking, hub.push_image(GAME, "1.0", ["windows/amd64"], kind=kind))

    assert manifest["config"]["mediaType"] == config_type
    config = config_of(asking, manifest)
    is_image = kind in {"manifest", "docker-manifest"}
    assert (config.get("os") == "windows") == is_image


def test_a_tag_pushed_again_has_a_new_digest_unless_it_is_the_same_build(
    hub: DockerHubSandbox, asking: httpx.Client
) -> None:
    first, second = hub.push_image(GAME, "1.0"), hub.push_image(GAME, "1.0")

    assert first != second
    assert asking.head(f"{MANIFESTS}/1.0").headers["docker-content-digest"] == second
    assert asking.head(f"{MANIFESTS}/{first}").status_code == 200
    assert hub.push_image(GAME, "2.0", build="x") == hub.push_image(GAME, "2.0", build="x")
    hub.delete_tag(GAME, "1.0")
    assert asking.head(f"{MANIFESTS}/1.0").status_code == 404
    assert asking.head(f"{MANIFESTS}/2.0").status_code == 200


def test_a_push_is_seen_late(hub: DockerHubSandbox, asking: httpx.Client) -> None:
    old = hub.push_image(GAME, "latest")
    new = hub.push_image(GAME, "latest", visible_after=None)
    hub.push_image(GAME, "1.0", visible_after=3600)

    assert asking.head(f"{MANIFESTS}/latest").headers["docker-content-digest"] == old
    unknown = asking.get(f"{MANIFESTS}/1.0")
    assert (unknown.status_code, unknown.json()["errors"][0]["code"]) == (404, "MANIFEST_UNKNOWN")
    assert asking.head(f"{MANIFESTS}/{new}").status_code == 404
    then = hub.clock() + 3600
    hub.clock = lambda: then
    log_in(asking, "studio", "pat")
    assert asking.head(f"{MANIFESTS}/1.0").status_code == 200
    hub.settle()
    assert asking.head(f"{MANIFESTS}/latest").headers["docker-content-digest"] == new


def test_a_repository_that_is_not_there(asking: httpx.Client) -> None:
    answer = asking.get(f"{MANIFESTS}/1.0")

    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, "NAME_UNKNOWN")


@pytest.mark.parametrize(
    ("kind", "accept", "status", "answered"),
    [
        ("index", f"{OCI}.manifest.v1+json", 404, "OCI index found"),
        ("manifest", "*/*", 404, "OCI manifest found"),
        ("docker-list", f"{DOCKER}.v2+json", 200, f"{DOCKER}.v2+json"),
        ("docker-manifest", "*/*", 200, f"{DOCKER}.v1+prettyjws"),
    ],
)
def test_who_accepts_too_little_gets_something_else(
    hub: DockerHubSandbox,
    asking: httpx.Client,
    *,
    kind: Any,
    accept: str,
    status: int,
    answered: str,
) -> None:
    hub.push_image(GAME, "1.0", kind=kind)

    answer = asking.get(f"{MANIFESTS}/1.0", headers={"accept": accept})

    assert answer.status_code == status
    assert answered in answer.text + answer.headers["content-type"]


# Pull limits


def test_gets_count_as_pulls_and_heads_do_not(hub: DockerHubSandbox, asking: httpx.Client) -> None:
    hub.push_image(GAME, "1.0")

    def left(method: str) -> tuple[int, str]:
        answer = asking.request(method, f"{MANIFESTS}/1.0")
        assert answer.headers["ratelimit-limit"] == "5;w=21600"
        return answer.status_code, answer.headers["ratelimit-remaining"]

    assert left("HEAD") == left("HEAD") == (200, "5;w=21600")
    assert [left("GET") for _ in range(5)][-1] == (200, "0;w=21600")
    assert left("GET") == (429, "0;w=21600")
    assert "pull rate limit" in asking.get(f"{MANIFESTS}/1.0").text
    assert left("HEAD") == (200, "0;w=21600")
    hub.heads_are_limited = True
    assert left("HEAD") == (429, "0;w=21600")
    assert hub.pulls == {"studio": 5}
    log_in(asking, "studio", "paid")
    paid = asking.get(f"{MANIFESTS}/1.0")
    assert paid.status_code == 200
    assert not [name for name in paid.headers if "ratelimit" in name]


def test_the_anonymous_have_a_limit_of_their_own(
    hub: DockerHubSandbox, asking: httpx.Client
) -> None:
    hub.push_image(GAME, "1.0")
    hub.pulls[""] = 99
    del asking.headers["authorization"]
    log_in(asking)

    answer = asking.get(f"{MANIFESTS}/1.0")

    assert answer.headers["ratelimit-limit"] == "100;w=21600"
    assert answer.headers["ratelimit-remaining"] == "0;w=21600"
    assert answer.headers["docker-ratelimit-source"] == "127.0.0.1"
    assert asking.get(f"{MANIFESTS}/1.0").status_code == 429


def test_abuse_is_refused_shortly_everywhere(hub: DockerHubSandbox, asking: httpx.Client) -> None:
    hub.abuse_limited = True

    for path in ["/token", f"{MANIFESTS}/1.0", "/v2/namespaces/studio/repositories/x/tags"]:
        assert asking.get(path).status_code == 429
        assert asking.get(path).text == "429 Too Many Requests\n"

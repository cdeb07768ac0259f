"""Preflight against a real registry: Debian's `docker-registry`, started by the test."""

import asyncio
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from receiver.dockerhub.api import Hub
from receiver.dockerhub.registry import Registry
from receiver.images import ImageReference
from receiver.pipeline.preflight import Findings, ImageOk, ImagePending, ImageRejected, Preflight
from receiver.rules.rule import Rule
from receiver.sandbox.dockerhub_images import Image, Kind, Manifest, build_image, digest_of
from tests.support.receiver_process import until

PROGRAM = shutil.which("docker-registry")
CONFIG = """
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: "{folder}/images"}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""
pytestmark = pytest.mark.skipif(
    PROGRAM is None,
    reason="no real registry here: apt-get install --no-install-recommends docker-registry",
)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an empty registry of our own."""
    assert PROGRAM is not None
    folder = tmp_path_factory.mktemp("registry")
    port = free_port()
    (folder / "config.yml").write_text(CONFIG.format(folder=folder, port=port), "utf-8")
    url = f"http://127.0.0.1:{port}"
    log = (folder / "log").open("wb")
    process = subprocess.Popen(
        [PROGRAM, "serve", str(folder / "config.yml")], stdout=log, stderr=log
    )
    try:
        until(lambda: answers(url, process, folder / "log"))
        yield url
    finally:
        process.terminate()
        process.wait(10)
        log.close()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def answers(url: str, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text("utf-8")
    try:
        return httpx.get(f"{url}/v2/", trust_env=False).status_code == 200
    except httpx.ConnectError:
        return False


def push(registry: str, repository: str, tag: str, image: Image) -> str:
    """Push an image as `docker push` does: blobs, then manifests by digest, then the tag."""
    with httpx.Client(base_url=f"{registry}/v2/{repository}", trust_env=False) as http:
        for digest, blob in image.blobs.items():
            begun = http.post("/blobs/uploads/")
            assert begun.status_code == 202, begun.text
            place = httpx.URL(begun.headers["location"]).copy_merge_params({"digest": digest})
            assert http.put(place, content=blob).status_code == 201
        for part in image.manifests.values():
            if part is not image.top:
                put(http, part.digest, part)
        return put(http, tag, image.top)


def put(http: httpx.Client, reference: str, manifest: Manifest) -> str:
    headers = {"content-type": manifest.media_type}
    stored = http.put(f"/manifests/{reference}", content=manifest.body, headers=headers)
    assert stored.status_code == 201, stored.text
    return str(stored.headers["docker-content-digest"])


def look(registry: str, repository: str, tag: str) -> Findings:
    """Preflight of an image there; nobody is Docker Hub's API, so the registry must answer all."""

    async def ask() -> Findings:
        async with httpx.AsyncClient(trust_env=False) as http:
            there = Registry(http, registry, f"{registry}/no-login-server")
            preflight = Preflight(there, Hub(http, registry))
            rule = Rule(repository=repository, app="my-game", name="a rule")
            return await preflight.check(ImageReference(repository, tag), rule)

    return asyncio.run(ask())


@pytest.mark.parametrize("kind", ["index", "docker-list"])
def test_a_multi_platform_image_is_read_from_its_index(registry: str, kind: Kind) -> None:
    attested = kind == "index"
    image = build_image(kind, ["linux/amd64", "linux/arm64/v8"], attestations=attested)

    pushed = push(registry, f"studio/{kind}", "1.0", image)
    found = look(registry, f"studio/{kind}", "1.0")

    assert isinstance(found, ImageOk)
    assert found.digest == pushed == digest_of(image.top.body)
    assert found.notes == ("built for linux/amd64, linux/arm64",)


@pytest.mark.parametrize("kind", ["manifest", "docker-manifest"])
def test_a_single_image_is_read_from_its_config(registry: str, kind: Kind) -> None:
    image = build_image(kind, ["linux/amd64"])

    pushed = push(registry, f"studio/{kind}", "1.0", image)
    found = look(registry, f"studio/{kind}", "1.0")

    assert isinstance(found, ImageOk)
    assert found.digest == pushed
    assert found.notes == ("built for linux/amd64",)


@pytest.mark.parametrize("kind", ["index", "manifest"])
def test_for_arm64_alone_it_is_stopped(registry: str, kind: Kind) -> None:
    push(registry, f"studio/arm-{kind}", "1.0", build_image(kind, ["linux/arm64"]))

    found = look(registry, f"studio/arm-{kind}", "1.0")

    assert isinstance(found, ImageRejected)
    assert found.parking.reason == "not_amd64"


def test_a_chart_is_no_image(registry: str) -> None:
    push(registry, "studio/chart", "1.0", build_image("helm", []))

    found = look(registry, "studio/chart", "1.0")

    assert isinstance(found, ImageRejected)
    assert found.parking.reason == "not_an_image"


def test_a_tag_pushed_over_has_another_digest(registry: str) -> None:
    first = push(registry, "studio/over", "1.0", build_image("index", ["linux/amd64"]))
    second = push(registry, "studio/over", "1.0", build_image("index", ["linux/amd64"]))

    found = look(registry, "studio/over", "1.0")

    assert isinstance(found, ImageOk)
    assert found.digest == second != first


def test_a_tag_that_was_never_pushed_may_come(registry: str) -> None:
    push(registry, "studio/late", "1.0", build_image("index", ["linux/amd64"]))

    assert isinstance(look(registry, "studio/late", "1.1"), ImagePending)
    assert isinstance(look(registry, "studio/never", "1.0"), ImagePending)

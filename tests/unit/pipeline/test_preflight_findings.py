"""What stops an image at preflight, and what is said of it."""

from typing import Any

import pytest
from structlog.testing import capture_logs

from receiver.dockerhub.registry import PullLimit
from receiver.images import Login
from receiver.pipeline.preflight import DockerHubOut, ImagePending
from receiver.sandbox.calls import Fault
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.dockerhub_images import Kind
from receiver.secret import Secret
from tests.support.images import GAME, PRIVATE, TOKEN, Looking, cleared, stopped

HEAD = f"HEAD /v2/{GAME}/manifests/1.0"


@pytest.fixture
def hub() -> DockerHubSandbox:
    hub = DockerHubSandbox()
    hub.add_login("studio-bot", TOKEN, namespaces=["studio"])
    return hub


@pytest.mark.parametrize("answer", [True, False], ids=["record", "index"])
def test_an_image_not_for_amd64_is_stopped_with_the_command_that_fixes_it(
    hub: DockerHubSandbox, there: Looking, *, answer: bool
) -> None:
    hub.push_image(GAME, "1.0", ["linux/arm64", "linux/arm/v7"], attestations=True)
    if not answer:
        hub.alter_record(GAME, "1.0", images=None)

    reason, sentence = stopped(there.look())

    assert reason == "not_amd64"
    assert f"docker.io/{GAME}:1.0 is built for linux/arm64, linux/arm" in sentence
    command = f"docker buildx build --platform linux/amd64 -t {GAME}:1.0 --push ."
    assert f"\n  {command}\n" in sentence


def test_windows_on_amd64_is_not_linux(hub: DockerHubSandbox, there: Looking) -> None:
    hub.push_image(GAME, "1.0", ["windows/amd64"])

    assert stopped(there.look())[0] == "not_amd64"


@pytest.mark.parametrize(
    ("kind", "contents"),
    [
        ("index", "only attestations or another artifact"),
        ("helm", "a Helm chart"),
        ("artifact", "only attestations or another artifact"),
        ("signature", "a signature"),
        ("attestation", "an attestation"),
        ("sbom", "an SBOM"),
        ("cache", "a build cache"),
        ("cache-index", "a build cache"),
    ],
)
def test_attestations_alone_and_artifacts_are_no_image(
    hub: DockerHubSandbox, there: Looking, kind: Kind, contents: str
) -> None:
    hub.push_image(GAME, "1.0", [], kind=kind, attestations=True)

    reason, sentence = stopped(there.look())

    assert reason == "not_an_image"
    assert f"{GAME}:1.0 contains {contents}, not an image" in sentence
    assert '"!1.0"' in sentence


@pytest.mark.parametrize("kind", ["manifest", "docker-manifest", "index"])
@pytest.mark.parametrize("platform", ["/", "/amd64", "linux/", "/x86_64", "unknown/amd64"])
def test_an_image_that_does_not_say_its_platform_is_made_and_that_is_noted(
    hub: DockerHubSandbox, there: Looking, kind: Kind, platform: str
) -> None:
    """It was said to hold only attestations or another artifact."""
    hub.push_image(GAME, "1.0", [platform], kind=kind)

    (note,) = cleared(there.look()).notes

    assert note == (
        "the image does not say for which platform it is built; Edgegap runs linux/amd64 only"
    )


@pytest.mark.parametrize("platform", ["/arm64", "windows/", "linux/aarch64"])
def test_half_a_platform_stops_it_if_it_rules_edgegap_out(
    hub: DockerHubSandbox, there: Looking, platform: str
) -> None:
    hub.push_image(GAME, "1.0", [platform], kind="manifest")

    assert stopped(there.look())[0] == "not_amd64"


@pytest.mark.parametrize("kind", ["manifest", "index"])
def test_the_config_decides_if_the_record_knows_the_architecture_alone(
    hub: DockerHubSandbox, there: Looking, kind: Kind
) -> None:
    hub.push_image(GAME, "1.0", ["Linux/X86_64"], kind=kind)
    hub.alter_record(GAME, "1.0", images=[{"architecture": "amd64", "os": ""}])

    assert cleared(there.look()).notes == ("built for linux/amd64",)


def test_a_tag_that_is_not_there_yet_may_come(hub: DockerHubSandbox, there: Looking) -> None:
    hub.push_image(GAME, "1.0", visible_after=None)

    assert isinstance(there.look(), ImagePending)
    hub.settle()
    cleared(there.look())


def test_a_refused_login_stops_it_and_names_the_variables(
    hub: DockerHubSandbox, there: Looking
) -> None:
    hub.push_image(GAME, "1.0")
    wrong = Login("studio-bot", Secret("no such token"), "LOBBY_HUB_USER and LOBBY_HUB_TOKEN")

    reason, sentence = stopped(there.look(login=wrong))

    assert reason == "registry_login_refused"
    assert "incorrect username or password" in sentence
    assert "Check LOBBY_HUB_USER and LOBBY_HUB_TOKEN" in sentence
    assert there.requests == [HEAD, "GET /token"]


def test_a_public_read_only_token_on_a_private_repository_is_recognized(
    hub: DockerHubSandbox, there: Looking
) -> None:
    hub.add_login("studio-bot", "public only", "public-read", namespaces=["studio"])
    hub.add_repository(PRIVATE, private=True)
    hub.push_image(PRIVATE, "1.0")

    reason, sentence = stopped(
        there.look(repository=PRIVATE, login=Login("studio-bot", Secret("public only")))
    )

    assert reason == "registry_right_missing"
    assert f"accepted but may not pull {PRIVATE}" in sentence
    assert '"Public Repo Read-only"' in sentence
    assert "DOCKERHUB_USERNAME and DOCKERHUB_TOKEN" in sentence


def test_without_a_login_a_private_repository_asks_for_one(
    hub: DockerHubSandbox, there: Looking
) -> None:
    hub.add_repository(PRIVATE, private=True)
    hub.push_image(PRIVATE, "1.0")

    reason, sentence = stopped(there.look(repository=PRIVATE))

    assert reason == "registry_login_missing"
    assert f"{PRIVATE} is private or does not exist" in sentence
    assert "DOCKERHUB_TOKEN" in sentence


def test_an_organizations_token_will_do(hub: DockerHubSandbox, there: Looking) -> None:
    hub.add_organization_token("studio", "oat", {PRIVATE: ["pull"]})
    hub.add_repository(PRIVATE, private=True)
    digest = hub.push_image(PRIVATE, "1.0")

    found = cleared(there.look(repository=PRIVATE, login=Login("studio", Secret("oat"))))

    assert found.digest == digest


def test_a_low_pull_limit_is_logged_once_an_hour(hub: DockerHubSandbox, there: Looking) -> None:
    hub.push_image(GAME, "1.0")

    def logged() -> list[dict[str, Any]]:
        with capture_logs() as logs:
            cleared(there.look())
        return [dict(line) for line in logs if line["event"] == "pull_limit_low"]

    hub.pulls[""] = 89
    assert logged() == []
    hub.pulls[""] = 93
    lines = logged()
    assert [(line["remaining"], line["limit"], line["window_seconds"]) for line in lines] == [
        (7, 100, 21_600)
    ]
    assert "a paid Docker Hub plan" in lines[0]["remember"]
    there.clock.now += 3599
    assert logged() == []
    there.clock.now += 1
    assert len(logged()) == 1


def test_a_paid_plan_has_no_pull_limit(hub: DockerHubSandbox, there: Looking) -> None:
    hub.add_login("paid", "token", namespaces=["studio"], pull_limit=None)
    hub.push_image(GAME, "1.0")

    cleared(there.look(login=Login("paid", Secret("token"))))
    assert there.preflight.registry.limits.last is None


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_429_of_the_registry_is_logged_as_a_pull_limit_used_up(
    hub: DockerHubSandbox, there: Looking, method: str
) -> None:
    hub.anonymous_pull_limit = None
    hub.push_image(GAME, "1.0")
    hub.alter_record(GAME, "1.0", images=None)
    hub.misbehave(Fault("status", method=method, path_contains="/manifests/", status=429))

    with capture_logs() as logs:
        assert isinstance(there.look(), DockerHubOut)

    assert [line["remaining"] for line in logs if line["event"] == "pull_limit_low"] == [0]


def test_the_headers_of_a_blob_do_not_hide_the_pull_limit(
    hub: DockerHubSandbox, there: Looking
) -> None:
    hub.push_image(GAME, "1.0", kind="manifest")
    hub.alter_record(GAME, "1.0", images=None)
    hub.pulls[""] = 50

    cleared(there.look())

    assert there.requests[-1].startswith(f"GET /v2/{GAME}/blobs/")
    assert there.preflight.registry.limits.last == PullLimit(100, 49, 21_600)


def test_without_a_digest_from_the_registry_the_record_still_lists_the_platforms(
    hub: DockerHubSandbox, there: Looking
) -> None:
    hub.push_image(GAME, "1.0", ["linux/arm64"])
    hub.content_digest = ""

    assert stopped(there.look())[0] == "not_amd64"

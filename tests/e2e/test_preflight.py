"""Preflight as its users meet it: a receiver, Docker Hub and Edgegap over real HTTP."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from receiver import backoff
from receiver.pipeline import preflight, retry
from receiver.sandbox.calls import Fault
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from tests.conftest import StartReceiver
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import REPOSITORY, RULE, ReceiverProcess, created_once, until

TOKEN = "canary-hub-token-9e41b0"
LOOKING = RULE.replace("preflight = false\n", "")
PARKING = LOOKING.replace("[rule.settings]", 'on_overwrite = "park"\n\n[rule.settings]')

Start = Callable[..., ReceiverProcess]


@pytest.fixture
def hub() -> DockerHubSandbox:
    hub = DockerHubSandbox()
    hub.add_login("studio-bot", TOKEN, namespaces=["studio"])
    hub.add_repository(REPOSITORY, private=True)
    return hub


@pytest.fixture
def environment(hub: DockerHubSandbox) -> Iterator[dict[str, str]]:
    """What turns a receiver to the stand-in of Docker Hub."""
    with serving(hub.app) as url:
        yield {
            "DOCKERHUB_USERNAME": "studio-bot",
            "DOCKERHUB_TOKEN": TOKEN,
            "DOCKERHUB_REGISTRY_URL": url,
            "DOCKERHUB_AUTH_URL": f"{url}/token",
            "DOCKERHUB_API_URL": url,
        }


@pytest.fixture
def begin(
    start: StartReceiver, environment: dict[str, str], hub: DockerHubSandbox
) -> Iterator[Start]:
    """Starts receivers; at the end nothing they wrote may hold a login or a token of one."""
    begun: list[ReceiverProcess] = []

    def starting(config: str = LOOKING) -> ReceiverProcess:
        quiet = f'{config}\n[catch_up]\nevery = "off"\n'
        begun.append(start(config=quiet, environment=environment))
        return begun[-1]

    yield starting
    for receiver in begun:
        receiver.stop()
        spares(receiver, hub)


def spares(receiver: ReceiverProcess, hub: DockerHubSandbox) -> None:
    written = receiver.everything_written()
    given = list(hub.bearers._given)
    sent = {(call.authorization or " ").split()[-1] for call in hub.calls if call.authorization}
    assert TOKEN[:16] not in written
    for secret in {*given, *sent}:
        assert secret[:40] not in written
        assert secret[-40:] not in written


def show(receiver: ReceiverProcess, delivery: str) -> dict[str, Any]:
    registration: dict[str, Any] = receiver.show(delivery)["registrations"][0]
    return registration


def replay(receiver: ReceiverProcess, delivery: str) -> None:
    done = receiver.run("replay", delivery)
    assert done.returncode == 0, done.stderr


def test_a_version_is_made_with_the_digest_that_was_looked_at(
    begin: Start, hub: DockerHubSandbox, sandbox: EdgegapSandbox
) -> None:
    digest = hub.push_image(REPOSITORY, "1.0", ["linux/amd64", "linux/arm64"], attestations=True)
    receiver = begin()

    delivery = receiver.push("1.0")
    assert receiver.ended(delivery)["outcome"] == "created"
    again = receiver.push("1.0")
    assert receiver.ended(again)["outcome"] == "unchanged"

    made, same = show(receiver, delivery), show(receiver, again)
    assert (made["digest"], same["digest"]) == (digest, digest)
    assert (made["overwritten"], same["overwritten"]) == (False, False)
    assert "built for linux/amd64, linux/arm64" in made["notes"]
    assert created_once(sandbox, "1.0")
    assert sum(hub.pulls.values()) == 0


def test_of_a_listed_tag_with_the_name_of_a_cache_the_contents_decide(
    begin: Start, hub: DockerHubSandbox, sandbox: EdgegapSandbox
) -> None:
    hub.push_image(REPOSITORY, "cache-fix-42")
    hub.push_image(REPOSITORY, "cache-main", kind="cache")
    receiver = begin(LOOKING.replace("[rule.settings]", 'tags = ["cache-*"]\n\n[rule.settings]'))

    assert receiver.ended(receiver.push("cache-fix-42"))["outcome"] == "created"
    parked = receiver.ended(receiver.push("cache-main"))

    assert (parked["state"], parked["reason"]) == ("parked", "not_an_image")
    assert "contains a build cache, not an image" in parked["sentence"]
    assert [version for _, version in sandbox.versions] == ["cache-fix-42"]


def test_an_overwritten_tag_is_reported(begin: Start, hub: DockerHubSandbox) -> None:
    before = hub.push_image(REPOSITORY, "1.0")
    receiver = begin()
    receiver.ended(receiver.push("1.0"))
    after = hub.push_image(REPOSITORY, "1.0")

    delivery = receiver.push("1.0")
    receiver.ended(delivery)

    answer = show(receiver, delivery)
    assert (answer["outcome"], answer["overwritten"], answer["digest"]) == (
        "unchanged",
        True,
        after,
    )
    said = f"the tag was overwritten: {before} before, {after} now; the edge may run the old image"
    assert said in answer["notes"]
    assert said in receiver.log.read_text("utf-8")


def test_on_overwrite_it_may_stop_until_a_person_lets_it_pass(
    begin: Start, hub: DockerHubSandbox, sandbox: EdgegapSandbox
) -> None:
    hub.push_image(REPOSITORY, "1.0")
    receiver = begin(PARKING)
    receiver.ended(receiver.push("1.0"))
    after = hub.push_image(REPOSITORY, "1.0")

    delivery = receiver.push("1.0")
    parked = receiver.ended(delivery)
    assert (parked["state"], parked["reason"]) == ("parked", "tag_overwritten")
    assert show(receiver, delivery)["overwritten"] is True
    again = receiver.ended(receiver.push("1.0"))
    assert (again["reason"], again["tries"]) == ("tag_overwritten", parked["tries"] + 1)

    sandbox.misbehave(Fault("status", method="GET", status=503))  # in the way of the replay
    replay(receiver, delivery)
    assert receiver.ended(delivery)["tries"] > again["tries"] + 1

    answer = show(receiver, delivery)
    assert (answer["outcome"], answer["overwritten"], answer["digest"]) == (
        "unchanged",
        True,
        after,
    )
    passed = receiver.ended(receiver.push("1.0"))
    assert (passed["outcome"], passed["overwritten"]) == ("unchanged", False)


def test_a_replay_lets_pass_only_the_image_it_was_parked_for(
    begin: Start, hub: DockerHubSandbox
) -> None:
    hub.push_image(REPOSITORY, "1.0")
    receiver = begin(PARKING)
    receiver.ended(receiver.push("1.0"))
    hub.push_image(REPOSITORY, "1.0")
    delivery = receiver.push("1.0")
    tries = receiver.ended(delivery)["tries"]
    third = hub.push_image(REPOSITORY, "1.0")  # and no webhook has reported this one

    replay(receiver, delivery)

    parked = receiver.ended(delivery)
    assert (parked["reason"], parked["tries"]) == ("tag_overwritten", tries + 1)
    assert parked["digest"] == third


def test_an_image_for_arm64_alone_is_parked_and_not_registered(
    begin: Start, hub: DockerHubSandbox, sandbox: EdgegapSandbox
) -> None:
    hub.push_image(REPOSITORY, "1.0", ["linux/arm64"])
    receiver = begin()

    delivery = receiver.push("1.0")
    receiver.ended(delivery)

    parked = show(receiver, delivery)
    assert (parked["state"], parked["reason"]) == ("parked", "not_amd64")
    command = f"docker buildx build --platform linux/amd64 -t {REPOSITORY}:1.0 --push ."
    assert command in parked["sentence"]
    assert sandbox.versions == {}
    hub.push_image(REPOSITORY, "1.0")
    assert receiver.ended(receiver.push("1.0"))["outcome"] == "created"


def test_a_login_that_is_refused_names_its_variables_and_never_itself(
    begin: Start, hub: DockerHubSandbox, sandbox: EdgegapSandbox
) -> None:
    hub.push_image(REPOSITORY, "1.0")
    hub.logins.clear()
    echo = f'{{"details": "not known: {TOKEN}"}}'
    hub.misbehave(Fault("status", path_contains="/token", status=401, body=echo, times=None))
    receiver = begin()

    parked = receiver.ended(receiver.push("1.0"))

    assert parked["reason"] == "registry_login_refused"
    assert "Check DOCKERHUB_USERNAME and DOCKERHUB_TOKEN" in parked["sentence"]
    assert "not known: ***" in parked["sentence"]
    assert sandbox.versions == {}


def test_turned_off_it_asks_docker_hub_nothing(
    begin: Start, hub: DockerHubSandbox, sandbox: EdgegapSandbox
) -> None:
    receiver = begin(RULE)

    assert receiver.ended(receiver.push("1.0"))["outcome"] == "created"
    assert receiver.ended(receiver.push("1.0"))["outcome"] == "unchanged"
    assert {call.path for call in hub.calls} <= {"/"}  # what time it is, once at start


def test_a_low_pull_limit_is_logged_once(begin: Start, hub: DockerHubSandbox) -> None:
    hub.push_image(REPOSITORY, "1.0")
    hub.pulls["studio-bot"] = 190
    receiver = begin()

    for _ in range(3):
        receiver.ended(receiver.push("1.0"))

    assert receiver.log.read_text("utf-8").count('"pull_limit_low"') == 1


@pytest.fixture
def hurried(
    edgegap: str, environment: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ReceiverHere]:
    """One in this process, whose waits are short."""
    monkeypatch.setattr(retry, "IMAGE_WAITS", (50,))
    monkeypatch.setattr(retry, "SECOND", 50)
    monkeypatch.setattr(backoff, "FIRST_BACKOFF", 50)
    monkeypatch.setattr(preflight, "MAX_HOLD", 3_000)
    monkeypatch.setattr(preflight, "UNREACHED_HOLD", 200)
    config = f'{LOOKING}\n[catch_up]\nevery = "off"\n'
    with receiver_here(tmp_path, edgegap, config=config, environment=environment) as one:
        yield one


def test_a_webhook_may_come_before_its_image(hurried: ReceiverHere, hub: DockerHubSandbox) -> None:
    digest = hub.push_image(REPOSITORY, "1.0", visible_after=None)
    delivery = hurried.push("1.0")
    until(lambda: hurried.details(delivery)["registrations"][0]["reason"] == "image_not_ready")

    hub.settle()

    ended = hurried.ended(delivery)
    assert (ended["outcome"], ended["digest"]) == ("created", digest)
    assert ended["tries"] > 1


def test_docker_hub_may_come_back_in_time(hurried: ReceiverHere, hub: DockerHubSandbox) -> None:
    digest = hub.push_image(REPOSITORY, "1.0")
    hub.misbehave(Fault("status", path_contains="/manifests/", status=503, times=2))

    ended = hurried.ended(hurried.push("1.0"))

    assert (ended["outcome"], ended["digest"], ended["tries"]) == ("created", digest, 3)


@pytest.mark.parametrize("outage", ["503", "refused connection"])
def test_an_outage_of_docker_hub_does_not_stop_a_push(
    hurried: ReceiverHere, hub: DockerHubSandbox, outage: str, edgegap: str
) -> None:
    hub.push_image(REPOSITORY, "1.0")
    if outage == "503":
        hub.misbehave(Fault("status", path_contains="/v2/", status=503, times=None))
    else:
        hurried.service.preflight.registry._registry = "http://127.0.0.1:9"

    ended = hurried.ended(hurried.push("1.0"))

    assert (ended["outcome"], ended["digest"]) == ("created", None)
    assert ended["tries"] > 1
    detail = {"503": "HTTP 503", "refused connection": "no connection"}[outage]
    assert (
        f"created without preflight: Docker Hub could not be queried ({detail})" in ended["notes"]
    )

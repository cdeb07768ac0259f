"""The Docker Hub stand-in's limits by the minute, its controls, and it alone in the foreground."""

import subprocess
import sys
import time
from email.utils import parsedate_to_datetime

import httpx
import pytest

from receiver.sandbox.calls import Fault
from receiver.sandbox.dockerhub import DockerHubSandbox
from tests.support.dockerhub_client import GAME, MANIFESTS, Clock, ask_token, log_in

TAGS = "/v2/namespaces/studio/repositories/game-server/tags"


@pytest.fixture
def hub(clock: Clock) -> DockerHubSandbox:
    return DockerHubSandbox(clock=clock, api_limit=2)


def test_calls_of_the_api_are_limited_by_the_minute(
    hub: DockerHubSandbox, asking: httpx.Client, clock: Clock
) -> None:
    hub.push_image(GAME, "1.0")
    ends = int(clock.now) + 60

    answers = [asking.get(TAGS), asking.get(f"{TAGS}/2.0"), asking.get(TAGS)]

    assert [answer.status_code for answer in answers] == [200, 404, 429]
    assert [answer.headers["x-ratelimit-remaining"] for answer in answers] == ["1", "0", "0"]
    assert {answer.headers["x-ratelimit-limit"] for answer in answers} == {"2"}
    assert {answer.headers["x-ratelimit-reset"] for answer in answers} == {str(ends)}
    assert answers[2].headers["x-retry-after"] == str(ends)
    assert "retry-after" not in answers[2].headers
    hub.api_retry_after, hub.api_retry_after_as = "Retry-After", "milliseconds"
    assert asking.get(TAGS).headers["retry-after"] == f"{ends}000"
    hub.api_retry_after_as, hub.clock_ahead = "date", 3600
    until = parsedate_to_datetime(asking.get(TAGS).headers["retry-after"])
    assert until.timestamp() == ends + 3600
    hub.api_retry_after_as = "seconds"
    clock.now += 20
    assert asking.get(TAGS).headers["retry-after"] == "40"
    clock.now += 39.5
    assert asking.get(TAGS).headers["retry-after"] == "0"
    clock.now -= 39.5
    clock.now += 40
    assert asking.get(TAGS).status_code == 200
    hub.api_limit = None
    assert "x-ratelimit-limit" not in asking.get(TAGS).headers


def test_answers_are_dated_by_its_own_clock(hub: DockerHubSandbox, asking: httpx.Client) -> None:
    assert "date" not in asking.get(TAGS).headers
    hub.clock_ahead = 3600
    hub.misbehave(Fault("status", path_contains="/tags", status=403, body="<html>"))

    for answer in (asking.get(TAGS), asking.get(TAGS), asking.get("/v2/")):
        dated = parsedate_to_datetime(answer.headers["date"]).timestamp()
        assert dated == pytest.approx(time.time() + 3600, abs=60)


def test_its_state_may_be_changed_at_any_time(hub: DockerHubSandbox, asking: httpx.Client) -> None:
    hub.add_repository(GAME, private=True)
    hub.add_login("studio", "pat")
    hub.add_organization_token("studio", "oat", {GAME: ["pull"]})
    hub.push_image(GAME, "1.0", ("linux/arm64",), visible_after=None)
    hub.push_image(GAME, "2.0")
    hub.delete_tag(GAME, "2.0")
    hub.alter_record(GAME, "1.0", images=None)
    hub.settle()
    hub.pulls["studio"] = 199
    hub.realm, hub.token_names, hub.api_limit = "https://evil.example/token", ("token",), 5
    hub.misbehave(Fault("status", status=302, headers={"location": "/elsewhere"}))

    assert asking.get("/token").headers["location"] == "/elsewhere"
    assert asking.get(f"{MANIFESTS}/1.0").headers["www-authenticate"].count("evil.example") == 1
    assert ask_token(asking, "studio", "oat").status_code == 200
    log_in(asking, "studio", "pat")
    answer = asking.get(f"{MANIFESTS}/1.0")
    assert answer.headers["ratelimit-remaining"] == "0;w=21600"
    (push,) = hub.repositories[GAME].pushes
    assert (push.tag, push.image.top.digest) == ("1.0", answer.headers["docker-content-digest"])
    hub.expire_tokens()
    assert asking.get(f"{MANIFESTS}/1.0").status_code == 401
    calls = asking.get("/_sandbox/calls").json()
    assert [call["status"] for call in calls] == [302, 401, 200, 200, 200, 401]
    assert {call["host"] for call in calls} == {f"127.0.0.1:{asking.base_url.port}"}


def test_a_tag_is_pushed_from_another_process(hub: DockerHubSandbox, asking: httpx.Client) -> None:
    push = {"repository": GAME, "tag": "1.0", "platforms": ["linux/arm64"]}

    assert asking.post("/_sandbox/state", json={"push": [push]}).status_code == 200

    assert [one.tag for one in hub.repositories[GAME].pushes] == ["1.0"]


@pytest.mark.parametrize(
    "nonsense",
    [
        {"mood": "bad"},
        {"push": [{"repository": GAME}]},
        {"push": [{"repository": GAME, "tag": "1", "kind": "zip"}]},
        {"push": [{"repository": GAME, "tag": "1", "platforms": ["linux"]}]},
        [],
    ],
)
def test_it_says_what_it_does_not_understand(
    hub: DockerHubSandbox, asking: httpx.Client, nonsense: object
) -> None:
    answer = asking.post("/_sandbox/state", json=nonsense)

    assert (answer.status_code, answer.json().keys()) == (400, {"message"})
    assert answer.json()["message"]
    assert hub.repositories == {}


@pytest.mark.parametrize("with_hub", [True, False])
def test_both_stand_ins_in_the_foreground(with_hub: bool) -> None:
    command = [sys.executable, "-m", "receiver.sandbox", "--port", "0"]
    command += ["--dockerhub-port", "0"] if with_hub else []
    names = ["EDGEGAP_BASE_URL", "EDGEGAP_TOKEN"]
    if with_hub:
        names += ["DOCKERHUB_REGISTRY_URL", "DOCKERHUB_AUTH_URL", "DOCKERHUB_API_URL"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        try:
            lines = [running.stdout.readline().strip() for _ in names]
            answer = dict(line.split("=", 1) for line in lines)
            assert list(answer) == names
            if with_hub:
                assert httpx.get(answer["DOCKERHUB_AUTH_URL"], trust_env=False).status_code == 200
                tags = httpx.get(f"{answer['DOCKERHUB_API_URL']}{TAGS}", trust_env=False).json()
                versions = httpx.get(
                    f"{answer['EDGEGAP_BASE_URL']}/v1/app/my-game/versions",
                    headers={"authorization": f"token {answer['EDGEGAP_TOKEN']}"},
                    trust_env=False,
                ).json()["versions"]
                assert [row["name"] for row in tags["results"]] == ["1.0.0"]
                assert [row["name"] for row in versions] == ["1.0.0"]
        finally:
            running.terminate()

    assert running.returncode == 0

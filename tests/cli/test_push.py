"""`push`: the same rules, ledger and worker as a webhook, with a running server or without."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver.sandbox.calls import Fault
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.edgegap import EdgegapSandbox
from tests.support.commands import Commands
from tests.support.dockerhub import ago, hub_beside
from tests.support.receiver_process import (
    APP,
    REPOSITORY,
    RULE,
    ReceiverProcess,
    created_once,
    until,
)

IMAGE = f"{REPOSITORY}:1.0.0"
SECRETS = """
envs = [{ key = "DB_PASSWORD", value_from = "GAME_DB_PASSWORD", is_hidden = true }]
"""
HIDDEN = {
    "GAME_DB_PASSWORD": "env-secret-5c2f",
    "DOCKERHUB_USERNAME": "studio-bot",
    "DOCKERHUB_TOKEN": "hub-secret-91ab",
}


def _writes(sandbox: EdgegapSandbox) -> list[str]:
    return [call.method for call in sandbox.calls if call.method != "GET"]


def test_a_push_to_the_running_server_becomes_a_version(
    receiver: ReceiverProcess, sandbox: EdgegapSandbox
) -> None:
    done = receiver.run("push", IMAGE, "--wait", "--json")

    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["source"] == "command"
    assert answer["registrations"][0]["outcome"] == "created"
    assert created_once(sandbox, "1.0.0")
    until(lambda: '"event":"delivery_accepted"' in receiver.log.read_text())


def test_a_push_without_wait_returns_at_once_and_the_server_works_it(
    receiver: ReceiverProcess, sandbox: EdgegapSandbox
) -> None:
    done = receiver.run("push", IMAGE, "--json")

    assert done.returncode == 0
    assert receiver.ended(json.loads(done.stdout)["id"])["outcome"] == "created"


def test_a_push_with_another_key_than_the_servers_is_refused(receiver: ReceiverProcess) -> None:
    done = receiver.run("push", IMAGE, RECEIVER_SECRET_KEY="another-key-0123456789-0123456789")

    assert done.returncode == 1
    assert "set RECEIVER_SECRET_KEY to the server's value" in done.stderr


def test_a_push_without_a_server_is_recorded_for_the_next(
    commands: Commands, tmp_path: Path
) -> None:
    done = commands.run("push", IMAGE)

    assert done.exit_code == 0
    assert "state     queued" in done.stdout
    assert "no server is running" in done.stderr
    assert len(commands.rows("deliveries", "--json")) == 1


def test_what_was_pushed_before_the_server_ran_is_worked_when_it_starts(
    receiver: ReceiverProcess, sandbox: EdgegapSandbox
) -> None:
    receiver.stop()
    identity = json.loads(receiver.run("push", IMAGE, "--json").stdout)["id"]
    assert _writes(sandbox) == []

    receiver.start()

    assert receiver.ended(identity)["outcome"] == "created"


def test_wait_without_a_server_works_it_here_and_now(
    commands_with_edgegap: Commands, sandbox: EdgegapSandbox
) -> None:
    answer = commands_with_edgegap.json_of("push", IMAGE, "--wait", "--json")

    assert answer["registrations"][0]["outcome"] == "created"
    assert created_once(sandbox, "1.0.0")


def test_a_second_push_of_the_same_ends_unchanged(
    commands_with_edgegap: Commands, sandbox: EdgegapSandbox
) -> None:
    commands_with_edgegap.json_of("push", IMAGE, "--wait", "--json")

    answer = commands_with_edgegap.json_of("push", IMAGE, "--wait", "--json")

    assert answer["registrations"][0]["outcome"] == "unchanged"
    assert _writes(sandbox) == ["POST"]


def test_wait_ends_with_1_when_it_is_parked(
    commands_with_edgegap: Commands, sandbox: EdgegapSandbox
) -> None:
    sandbox.misbehave(Fault("status", method="POST", status=400, message="No such thing"))

    done = commands_with_edgegap.run("push", IMAGE, "--wait")

    assert done.exit_code == 1
    assert "parked refused_by_edgegap" in done.stdout


def test_wait_ends_with_6_when_it_still_waits(
    commands_with_edgegap: Commands, sandbox: EdgegapSandbox
) -> None:
    sandbox.misbehave(Fault("status", method="POST", status=429, retry_after=600, times=None))

    done = commands_with_edgegap.run("push", IMAGE, "--wait", "--timeout", "0.4", "--json")

    assert done.exit_code == 6
    answer = json.loads(done.stdout)
    assert answer["registrations"][0]["reason"] == "edgegap_busy"
    assert f"receiver show {answer['id']}" in done.stderr


@pytest.mark.parametrize("image", ["studio/other:1.0", f"{REPOSITORY}:latest"])
def test_what_the_rules_ignore_ends_with_1_and_says_why(commands: Commands, image: str) -> None:
    done = commands.run("push", image)

    assert done.exit_code == 1
    assert "ignored, " in done.stdout


@pytest.mark.parametrize(
    ("image", "why"),
    [
        ("studio/game-server", "has no tag"),
        ("ghcr.io/studio/game-server:1.0", "only Docker Hub is supported"),
        (f"{REPOSITORY}@sha256:{'0' * 64}", "contains a digest"),
        (f"{REPOSITORY}:", "is not a tag"),
        (f"{REPOSITORY}:-x", "is not a tag"),
        ("Studio/Game:1.0", "only Docker Hub is supported"),
        ("a/b/c:1.0", "is not a Docker Hub repository"),
        ("", "has no tag"),
    ],
)
@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_a_bad_image_reference_is_wrong_usage_and_recorded_nowhere(
    commands: Commands, image: str, why: str, options: list[str]
) -> None:
    done = commands.run("push", image, *options)

    assert done.exit_code == 2
    assert why in done.stderr
    assert not (commands.folder / "receiver.db").exists()


def test_json_alone_stands_on_standard_output_whatever_is_logged(
    commands_with_edgegap: Commands, sandbox: EdgegapSandbox
) -> None:
    sandbox.misbehave(Fault("status", method="POST", status=400, message="No such thing"))

    done = commands_with_edgegap.run("push", IMAGE, "--wait", "--json")

    assert json.loads(done.stdout)["registrations"][0]["state"] == "parked"
    assert "registration_parked" in done.stderr


def test_dry_run_prints_the_very_request_that_is_sent_afterwards(
    commands_with_edgegap: Commands, sandbox: EdgegapSandbox
) -> None:
    sandbox.add_version(APP, "0.9.0", req_cpu=512, req_memory=1024, max_duration=60)

    answer = commands_with_edgegap.json_of("push", IMAGE, "--dry-run")
    assert _writes(sandbox) == []
    assert not (commands_with_edgegap.folder / "receiver.db").exists()
    commands_with_edgegap.json_of("push", IMAGE, "--wait", "--json")

    (request,) = answer["requests"]
    (sent,) = [call for call in sandbox.calls if call.method == "POST"]
    assert (request["method"], request["url"]) == (
        "POST",
        commands_with_edgegap.environment["EDGEGAP_BASE_URL"] + sent.path,
    )
    assert request["body"] == sent.body
    assert request["headers"]["Authorization"] == "token ***"


def test_dry_run_masks_every_secret(
    commands_with_edgegap: Commands, sandbox: EdgegapSandbox
) -> None:
    commands_with_edgegap.configure(RULE + SECRETS)

    done = commands_with_edgegap.run("push", IMAGE, "--dry-run", **HIDDEN)

    body = json.loads(done.stdout)["requests"][0]["body"]
    assert body["private_username"] == "studio-bot"
    assert body["private_token"] == "***"
    assert body["envs"] == [{"key": "DB_PASSWORD", "value": "***", "is_hidden": True}]
    for secret in ("env-secret-5c2f", "hub-secret-91ab", "sandbox-token"):
        assert secret not in done.output
    assert _writes(sandbox) == []


def test_dry_run_of_a_rule_without_versions_prints_the_patch(
    commands_with_edgegap: Commands, sandbox: EdgegapSandbox
) -> None:
    sandbox.add_version(APP, "dev", docker_image=REPOSITORY, docker_tag="0.9.0")
    moving = 'versions = false\nchannels = ["dev"]\npreflight = false'
    commands_with_edgegap.configure(RULE.replace("preflight = false", moving))

    (request,) = commands_with_edgegap.json_of("push", IMAGE, "--dry-run")["requests"]

    assert request["method"] == "PATCH"
    assert request["url"].endswith("/v1/app/my-game/version/dev")
    assert request["body"]["docker_tag"] == "1.0.0"
    assert "req_cpu" not in request["body"]
    assert _writes(sandbox) == []


def test_dry_run_links_no_pull_profile(
    commands_with_edgegap: Commands, sandbox: EdgegapSandbox
) -> None:
    sandbox.add_version(APP, "dev", docker_image=REPOSITORY, docker_tag="0.9.0")
    more = 'preflight = false\nchannels = ["dev"]\npull_profiles = ["bucket/maps"]'
    commands_with_edgegap.configure(RULE.replace("preflight = false", more))

    requests = commands_with_edgegap.json_of("push", IMAGE, "--dry-run")["requests"]

    assert [(one["method"], one["notes"]) for one in requests] == [
        ("POST", ["it then gets the pull profiles bucket/maps"]),
        ("PATCH", ["it has the pull profiles bucket/maps"]),
    ]
    assert _writes(sandbox) == []


@pytest.mark.parametrize(
    ("image", "words", "code"),
    [
        (f"{REPOSITORY}:taken", "name_taken", 1),
        (f"{REPOSITORY}:there", "unchanged", 0),
        (f"{REPOSITORY}:latest", "latest_not_named", 1),
        ("studio/other:1.0", "no_rule", 1),
    ],
)
def test_dry_run_prints_why_nothing_would_be_sent(
    commands_with_edgegap: Commands, sandbox: EdgegapSandbox, image: str, words: str, code: int
) -> None:
    sandbox.add_version(APP, "taken", docker_image=REPOSITORY, docker_tag="other")
    sandbox.add_version(APP, "there", docker_image=REPOSITORY, docker_tag="there")

    done = commands_with_edgegap.run("push", image, "--dry-run")

    assert done.exit_code == code
    assert words in done.stdout
    assert _writes(sandbox) == []


def test_dry_run_of_an_app_that_is_missing_says_so(
    commands_with_edgegap: Commands, sandbox: EdgegapSandbox
) -> None:
    commands_with_edgegap.configure(RULE.replace(APP, "no-such-app"))

    done = commands_with_edgegap.run("push", IMAGE, "--dry-run")

    assert done.exit_code == 1
    assert json.loads(done.stdout)["parked"][0]["reason"] == "app_missing"


def test_dry_run_without_edgegap_says_that_it_could_not_be_asked(commands: Commands) -> None:
    done = commands.run("push", IMAGE, "--dry-run")

    assert done.exit_code == 1
    assert json.loads(done.stdout)["parked"][0]["reason"] == "edgegap_unreachable"
    assert "no connection" in done.stdout


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault("status", path_contains=f"/app/{APP}", status=403, times=None), "forbidden"),
        (Fault("status", path_contains=f"/app/{APP}/versions", status=403), "forbidden"),
        (Fault("status", path_contains=f"/app/{APP}/versions", status=503), "edgegap_error"),
        (Fault("status", status=401, times=None), "edgegap_token_refused"),
    ],
)
def test_dry_run_prints_the_reason_that_the_push_itself_would_get(
    commands_with_edgegap: Commands, sandbox: EdgegapSandbox, fault: Fault, reason: str
) -> None:
    """A listing that was refused passed for an app that is missing."""
    commands_with_edgegap.configure(RULE)
    sandbox.misbehave(fault)

    done = commands_with_edgegap.run("push", IMAGE, "--dry-run")

    assert done.exit_code == 1
    assert json.loads(done.stdout)["parked"][0]["reason"].startswith(reason)


def test_dry_run_prints_the_error_of_the_token_check(
    commands_with_edgegap: Commands, sandbox: EdgegapSandbox
) -> None:
    sandbox.misbehave(
        Fault("status", path_contains="/v1/apps", status=503, message="away"),
        Fault("status", path_contains=f"/app/{APP}", status=403, message="forbidden"),
    )

    (parked,) = json.loads(commands_with_edgegap.run("push", IMAGE, "--dry-run").stdout)["parked"]

    assert parked["reason"] == "edgegap_error"
    assert "HTTP 503: away" in parked["sentence"]


def test_the_same_command_goes_on_when_the_server_has_gone(receiver: ReceiverProcess) -> None:
    receiver.ended(receiver.push("1.0.0"))
    receiver.stop()

    done = receiver.run("push", IMAGE, "--wait", "--json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["registrations"][0]["outcome"] == "unchanged"


@pytest.fixture
def with_hub(commands_with_edgegap: Commands) -> Iterator[tuple[Commands, DockerHubSandbox]]:
    hub = DockerHubSandbox(api_limit=None, anonymous_pull_limit=None)
    commands_with_edgegap.configure(
        RULE.replace("preflight = false", 'channels = ["staging"]') + '[catch_up]\nevery = "off"\n'
    )
    with hub_beside(hub) as variables:
        commands_with_edgegap.environment.update(variables)
        yield commands_with_edgegap, hub


def test_dry_run_looks_at_the_image_and_names_the_channels(
    with_hub: tuple[Commands, DockerHubSandbox], sandbox: EdgegapSandbox
) -> None:
    commands, hub = with_hub
    hub.push_image(REPOSITORY, "1.0.0")
    hub.push_image(REPOSITORY, "1.0.0-arm", ("linux/arm64",))

    passed = commands.json_of("push", IMAGE, "--dry-run")
    arm = json.loads(commands.run("push", f"{IMAGE}-arm", "--dry-run").stdout)
    lost = json.loads(commands.run("push", f"{REPOSITORY}:none", "--dry-run").stdout)

    assert [one["version"] for one in passed["requests"]] == ["1.0.0", "staging"]
    assert any("linux/amd64" in note for note in passed["requests"][0]["notes"])
    assert [one["reason"] for one in arm["parked"]] == ["not_amd64"]
    assert [one["reason"] for one in lost["parked"]] == ["image_not_ready"]
    assert (arm["requests"], lost["requests"], _writes(sandbox)) == ([], [], [])


def test_dry_run_without_the_old_login_depends_on_whether_the_image_is_public(
    with_hub: tuple[Commands, DockerHubSandbox], sandbox: EdgegapSandbox
) -> None:
    commands, hub = with_hub
    hub.push_image(REPOSITORY, "1.0.0")
    sandbox.quirks.tokens = {"*": "placeholder"}
    sandbox.add_version(APP, "0.9", private_username="studio-ci", private_token="canary")

    public = commands.json_of("push", IMAGE, "--dry-run")
    hub.add_repository(REPOSITORY, private=True)
    private = json.loads(commands.run("push", IMAGE, "--dry-run").stdout)

    assert "private_token" not in public["requests"][0]["body"]
    assert "set DOCKERHUB_USERNAME and DOCKERHUB_TOKEN" in public["requests"][0]["notes"][0]
    assert [one["reason"] for one in private["parked"]] == ["registry_login_missing"]


def test_a_repeated_report_leaves_what_another_hand_put_in_the_channel_and_says_so(
    with_hub: tuple[Commands, DockerHubSandbox], sandbox: EdgegapSandbox
) -> None:
    """It undid a rollback that was made in Edgegap's dashboard."""
    commands, hub = with_hub
    hub.push_image(REPOSITORY, "1.0.0", pushed_at=ago(100))
    assert commands.run("push", IMAGE, "--wait").exit_code == 0
    sandbox.versions[APP, "staging"]["docker_tag"] = "0.0.9"

    answer = json.loads(commands.run("push", IMAGE, "--wait", "--json").stdout)

    assert sandbox.versions[APP, "staging"]["docker_tag"] == "0.0.9"
    assert [one["outcome"] for one in answer["registrations"]] == ["unchanged", "superseded"]
    sentence = answer["registrations"][1]["sentence"]
    assert "receiver promote my-game staging --to 1.0.0" in sentence
    assert f"docker.io/{REPOSITORY}:0.0.9" in sentence


@pytest.mark.parametrize(
    ("tag", "words"),
    [
        ("1.0.0", "A later push moved the channel already"),
        ("0.9.0", "0.9.0 is lower than 1.0.0"),
        ("nightly-1", "A later push moved the channel already"),
        ("nightly-2", None),
        ("1.0.1", None),
    ],
)
def test_dry_run_says_of_a_channel_what_the_push_then_does(
    with_hub: tuple[Commands, DockerHubSandbox],
    sandbox: EdgegapSandbox,
    tag: str,
    words: str | None,
) -> None:
    """It promised a move that did not happen."""
    commands, hub = with_hub
    pushes = {"1.0.0": 100, "0.9.0": 50, "nightly-1": 150, "nightly-2": 20, "1.0.1": 10}
    for name, seconds in pushes.items():
        hub.push_image(REPOSITORY, name, pushed_at=ago(seconds))
    other = "1.0.0" if tag != "1.0.0" else "nightly-2"
    if tag == "1.0.0":
        assert commands.run("push", IMAGE, "--wait").exit_code == 0
    assert commands.run("push", f"{REPOSITORY}:{other}", "--wait").exit_code == 0
    before = len(_writes(sandbox))

    rehearsed = commands.json_of("push", f"{REPOSITORY}:{tag}", "--dry-run")
    assert len(_writes(sandbox)) == before
    answer = json.loads(commands.run("push", f"{REPOSITORY}:{tag}", "--wait", "--json").stdout)

    staging = rehearsed["requests"][-1]
    done = next(one for one in answer["registrations"] if one["version"] == "staging")
    assert staging["version"] == "staging"
    if words is None:
        assert (staging["method"], done["outcome"]) == ("PATCH", "updated")
        sent = [call.body for call in sandbox.calls if call.method == "PATCH"][-1]
        assert staging["body"] == sent
    else:
        assert words in staging["sentence"]
        assert (staging["outcome"], staging["sentence"]) == (done["outcome"], done["sentence"])


def test_dry_run_of_a_held_channel_says_that_it_is_held(
    with_hub: tuple[Commands, DockerHubSandbox],
) -> None:
    commands, hub = with_hub
    for number in range(4):
        hub.push_image(REPOSITORY, f"1.0.{number}", pushed_at=ago(100 - number))
    for number in (0, 2):
        assert commands.run("push", f"{REPOSITORY}:1.0.{number}", "--wait").exit_code == 0
    commands.run("rollback", APP, "staging")

    held, above = (
        commands.json_of("push", f"{REPOSITORY}:1.0.{number}", "--dry-run")["requests"][-1]
        for number in (1, 3)
    )

    assert held["outcome"] == "superseded"
    assert "held for the move to 1.0.0 since" in held["sentence"]
    assert above["method"] == "PATCH"


def test_a_push_time_in_the_future_keeps_no_later_push_from_the_channel(
    with_hub: tuple[Commands, DockerHubSandbox], sandbox: EdgegapSandbox
) -> None:
    commands, hub = with_hub
    hub.push_image(REPOSITORY, "1.0.0", pushed_at=ago(-1_000_000))
    assert commands.run("push", IMAGE, "--wait").exit_code == 0
    hub.push_image(REPOSITORY, "1.0.1", pushed_at=ago(0))

    assert commands.run("push", f"{REPOSITORY}:1.0.1", "--wait").exit_code == 0

    assert sandbox.versions[APP, "staging"]["docker_tag"] == "1.0.1"


def test_an_old_tag_pushed_by_hand_moves_no_channel_back(
    with_hub: tuple[Commands, DockerHubSandbox], sandbox: EdgegapSandbox
) -> None:
    """It counted as pushed now: players were sent to the old version."""
    commands, hub = with_hub
    for tag, at in (("1.0.0", ago(200)), ("1.0.1", ago(100))):
        hub.push_image(REPOSITORY, tag, pushed_at=at)
    assert commands.run("push", f"{REPOSITORY}:1.0.1", "--wait").exit_code == 0

    answer = json.loads(commands.run("push", IMAGE, "--wait", "--json").stdout)

    assert sandbox.versions[APP, "staging"]["docker_tag"] == "1.0.1"
    assert sandbox.versions[APP, "1.0.0"]["docker_tag"] == "1.0.0"
    assert {one["outcome"] for one in answer["registrations"]} <= {"created", "superseded", None}

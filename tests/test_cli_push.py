"""`push`: the same rules, ledger and worker as a webhook, with a running server or without."""

import json
from pathlib import Path

import pytest

from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.faults import Fault
from tests.commanding import Commands
from tests.running import APP, REPOSITORY, RULE, ReceiverProcess, created_once, until

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
    told = json.loads(done.stdout)
    assert told["source"] == "command"
    assert told["registrations"][0]["outcome"] == "created"
    assert created_once(sandbox, "1.0.0")
    until(lambda: '"event":"delivery_accepted"' in receiver.log.read_text())


def test_a_push_without_wait_returns_at_once_and_the_server_works_it(
    receiver: ReceiverProcess, sandbox: EdgegapSandbox
) -> None:
    done = receiver.run("push", IMAGE, "--json")

    assert done.returncode == 0
    assert receiver.ended(json.loads(done.stdout)["id"])["outcome"] == "created"


def test_a_push_with_another_key_than_the_servers_is_told_so(receiver: ReceiverProcess) -> None:
    done = receiver.run("push", IMAGE, RECEIVER_SECRET_KEY="another-key-0123456789-0123456789")

    assert done.returncode == 1
    assert "set RECEIVER_SECRET_KEY as the server has it" in done.stderr


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
    told = commands_with_edgegap.told("push", IMAGE, "--wait", "--json")

    assert told["registrations"][0]["outcome"] == "created"
    assert created_once(sandbox, "1.0.0")


def test_a_second_push_of_the_same_ends_unchanged(
    commands_with_edgegap: Commands, sandbox: EdgegapSandbox
) -> None:
    commands_with_edgegap.told("push", IMAGE, "--wait", "--json")

    told = commands_with_edgegap.told("push", IMAGE, "--wait", "--json")

    assert told["registrations"][0]["outcome"] == "unchanged"
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
    told = json.loads(done.stdout)
    assert told["registrations"][0]["reason"] == "edgegap_busy"
    assert f"receiver show {told['id']}" in done.stderr


@pytest.mark.parametrize("image", ["studio/other:1.0", f"{REPOSITORY}:latest"])
def test_what_the_rules_ignore_ends_with_1_and_says_why(commands: Commands, image: str) -> None:
    done = commands.run("push", image)

    assert done.exit_code == 1
    assert "ignored, " in done.stdout


@pytest.mark.parametrize(
    ("image", "why"),
    [
        ("studio/game-server", "has no tag"),
        ("ghcr.io/studio/game-server:1.0", "only Docker Hub is served"),
        (f"{REPOSITORY}@sha256:{'0' * 64}", "names a digest"),
        (f"{REPOSITORY}:", "is no tag"),
        (f"{REPOSITORY}:-x", "is no tag"),
        ("Studio/Game:1.0", "only Docker Hub is served"),
        ("a/b/c:1.0", "is no Docker Hub repository"),
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

    told = commands_with_edgegap.told("push", IMAGE, "--dry-run")
    assert _writes(sandbox) == []
    assert not (commands_with_edgegap.folder / "receiver.db").exists()
    commands_with_edgegap.told("push", IMAGE, "--wait", "--json")

    (request,) = told["requests"]
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


def test_dry_run_in_mode_update_prints_the_patch(
    commands_with_edgegap: Commands, sandbox: EdgegapSandbox
) -> None:
    sandbox.add_version(APP, "dev", docker_image=REPOSITORY, docker_tag="0.9.0")
    moving = 'mode = "update"\nversion = "dev"\npreflight = false'
    commands_with_edgegap.configure(RULE.replace("preflight = false", moving))

    (request,) = commands_with_edgegap.told("push", IMAGE, "--dry-run")["requests"]

    assert request["method"] == "PATCH"
    assert request["url"].endswith("/v1/app/my-game/version/dev")
    assert request["body"]["docker_tag"] == "1.0.0"
    assert "req_cpu" not in request["body"]
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
def test_dry_run_tells_why_nothing_would_be_sent(
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
    assert "Edgegap could not be asked: no connection" in done.stdout


def test_the_same_command_goes_on_when_the_server_has_gone(receiver: ReceiverProcess) -> None:
    receiver.ended(receiver.push("1.0.0"))
    receiver.stop()

    done = receiver.run("push", IMAGE, "--wait", "--json")

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["registrations"][0]["outcome"] == "unchanged"

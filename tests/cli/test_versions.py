"""`receiver diff` and `receiver export`, with a server and without."""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from receiver.cli import output
from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from tests.support.commands import Commands, commands_beside
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import APP, NO_CATCH_UP, REPOSITORY, RULE

ENVS = 'envs = [{ key = "DB", value_from = "GAME_DB", is_hidden = true }]\n'
SECRETS = {"GAME_DB": "canary-db", "DOCKERHUB_USERNAME": "anna", "DOCKERHUB_TOKEN": "canary-hub"}
BY_HAND = {
    "docker_image": REPOSITORY,
    "docker_tag": "0.9",
    "req_cpu": 1024,
    "req_memory": 2048,
    "ports": [{"port": 7777, "protocol": "UDP", "name": "gameport"}],
    "envs": [{"key": "DB", "value": "canary-db", "is_hidden": True}],
}


@pytest.fixture
def receiver(tmp_path: Path, edgegap: str) -> Iterator[ReceiverHere]:
    config = RULE + ENVS + NO_CATCH_UP
    with receiver_here(tmp_path, edgegap, config=config, environment=SECRETS) as one:
        one.environment["PORT"] = one.url.rpartition(":")[2]
        yield one


@pytest.fixture
def beside(receiver: ReceiverHere) -> Commands:
    return commands_beside(receiver)


def made(receiver: ReceiverHere, tag: str, **values: str) -> None:
    assert receiver.ended(receiver.push(tag))["outcome"] == "created"


def names(found: dict[str, Any]) -> list[str]:
    return [one["name"] for one in found["differences"]]


def test_versions_of_this_receiver_are_compared_as_they_were_sent(
    receiver: ReceiverHere,
    beside: Commands,
    sandbox: EdgegapSandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made(receiver, "1.0.0")
    made(receiver, "1.0.1")
    sandbox.deployments.run(APP, "1.0.1")
    del sandbox.versions[APP, "1.0.0"]  # what was sent is known without Edgegap
    sandbox.calls.clear()

    done = beside.run("diff", APP, "1.0.0", "1.0.1")

    monkeypatch.setattr(output, "on_terminal", lambda: True)
    table = beside.run("diff", APP, "1.0.0", "1.0.1").stdout.splitlines()

    assert [line.split() for line in (table[0], table[4], table[5])] == [
        ["VERSION", "IMAGE", "SETTINGS", "RUNNING"],
        ["Differences"],
        ["SETTING", "1.0.0", "1.0.1"],
    ]
    assert done.exit_code == 0
    assert "my-game/1.0.0  docker.io/studio/game-server:1.0.0  as they were sent " in done.output
    assert "differs  image  docker.io/studio/game-server:1.0.0  docker.io/" in done.output
    assert names(beside.json_of("diff", APP, "1.0.0", "1.0.1", "--json")) == ["image"]
    assert {call.path for call in sandbox.calls} == {"/v1/deployments"}
    assert "  0 running deployments\nmy-game/1.0.1 " in done.output
    assert "  1 running deployment\n" in done.output


def test_a_version_made_by_hand_is_read_from_edgegap(
    receiver: ReceiverHere, beside: Commands, sandbox: EdgegapSandbox
) -> None:
    sandbox.add_version(APP, "0.9", **{**BY_HAND, "max_duration": 30, "ports": []})
    made(receiver, "1.0.0")

    found = beside.json_of("diff", APP, "0.9", "1.0.0", "--json")

    assert found["a"]["sent_at"] is None
    assert found["b"]["sent_at"] is not None
    assert set(names(found)) == {"image", "port gameport"}
    assert found["not_compared"] == ["variable DB", "registry login"]
    assert "as Edgegap shows them" in beside.run("diff", APP, "0.9", "1.0.0").output
    assert "no differences" in beside.run("diff", APP, "0.9", "0.9").output


def test_the_export_is_accepted_and_gives_the_same_version(
    receiver: ReceiverHere, beside: Commands, sandbox: EdgegapSandbox, tmp_path: Path
) -> None:
    made(receiver, "1.0.0")

    done = beside.run("export", APP, "1.0.0")

    assert done.exit_code == 0
    assert "canary" not in done.output
    settings = tomllib.loads(done.stdout)["rule"]["settings"]
    assert settings["envs"] == [{"key": "DB", "value_from": "GAME_DB", "is_hidden": True}]
    head = f'[[rule]]\nrepository = "{REPOSITORY}"\napp = "{APP}"\npreflight = false\n'
    beside.configure(head + done.stdout)
    checked = beside.run("check", **SECRETS)
    assert checked.exit_code == 0, checked.output


def test_without_a_server_the_same_is_read_from_the_ledger_and_from_edgegap(
    receiver: ReceiverHere, beside: Commands, sandbox: EdgegapSandbox
) -> None:
    sandbox.add_version(APP, "0.9", **BY_HAND)
    made(receiver, "1.0.0")
    served = beside.run("diff", APP, "0.9", "1.0.0").output
    exported = beside.run("export", APP, "0.9").output
    receiver.stop()

    assert beside.run("diff", APP, "0.9", "1.0.0").output == served
    assert beside.run("export", APP, "0.9").output == exported


@pytest.mark.parametrize("served", [True, False])
def test_a_version_that_nobody_knows_is_not_found(
    receiver: ReceiverHere, beside: Commands, sandbox: EdgegapSandbox, served: bool
) -> None:
    if not served:
        receiver.stop()

    unknown = beside.run("export", APP, "9.9")
    sandbox.misbehave(Fault("status", status=500, times=None))
    unreadable = beside.run("diff", APP, "9.8", "9.9")

    assert "the app my-game has no version 9.9 at Edgegap" in unknown.output
    assert "Edgegap did not return them (HTTP 500: Something went wrong)" in unreadable.output
    assert (unknown.exit_code, unreadable.exit_code) == (5, 1)


def test_an_app_of_no_rule_is_refused(beside: Commands) -> None:
    done = beside.run("diff", "other", "1", "2")

    assert done.exit_code == 2
    assert "no rule names the app other; rules name: my-game" in done.output

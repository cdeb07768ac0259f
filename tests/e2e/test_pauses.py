"""Pauses: a person holds registrations back; pushes are recorded and queue."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver.sandbox.edgegap import EdgegapSandbox
from tests.support.commands import Commands, commands_beside, commands_in
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import REPOSITORY, RULE, until

# Catch-up off: what it logs would stand among what a command of the same process prints.
QUIET = '\n[catch_up]\nevery = "off"\n'
CONFIG = RULE + RULE.replace("game-server", "lobby").replace("my-game", "lobby") + QUIET


@pytest.fixture
def here(edgegap: str, tmp_path: Path) -> Iterator[ReceiverHere]:
    with receiver_here(tmp_path, edgegap, config=CONFIG) as receiver:
        receiver.environment["PORT"] = receiver.url.rpartition(":")[2]
        yield receiver


@pytest.fixture
def beside(here: ReceiverHere) -> Commands:
    return commands_beside(here)


@pytest.fixture
def alone(commands: Commands) -> Commands:
    return commands


def state(receiver: ReceiverHere, delivery: str) -> str:
    return str(receiver.details(delivery)["registrations"][0]["state"])


def test_a_paused_repositorys_pushes_queue_while_others_go_on(
    here: ReceiverHere, beside: Commands, sandbox: EdgegapSandbox
) -> None:
    done = beside.run("pause", REPOSITORY)
    assert done.exit_code == 0
    assert done.stdout == f"Paused: {REPOSITORY}. Pushes are recorded and queued until `resume`.\n"

    held = here.push("1.0")
    here.ended(here.push_to("studio/lobby", "2.0"))

    assert state(here, held) == "queued"
    assert list(sandbox.versions) == [("lobby", "2.0")]


def test_resume_lets_them_go_on(
    here: ReceiverHere, beside: Commands, sandbox: EdgegapSandbox
) -> None:
    beside.run("pause", REPOSITORY)
    held = here.push("1.0")
    assert state(here, held) == "queued"

    assert beside.run("resume", REPOSITORY).stdout == "Resumed.\n"

    assert here.ended(held)["outcome"] == "created"


def test_all_are_paused_and_resumed_at_once(here: ReceiverHere, beside: Commands) -> None:
    beside.run("pause", "studio/lobby")
    done = beside.run("pause", "--all")
    assert "all repositories, studio/lobby" in done.stdout
    held = [here.push("1.0"), here.push_to("studio/lobby", "2.0")]

    refused = beside.run("resume", REPOSITORY)
    assert refused.exit_code == 1
    assert "all repositories are: use `receiver resume --all`" in refused.stderr
    partly = beside.run("resume", "studio/lobby")
    assert "all repositories are still paused" in partly.stderr
    assert [state(here, one) for one in held] == ["queued", "queued"]

    beside.run("resume", "--all")
    assert [here.ended(one)["outcome"] for one in held] == ["created", "created"]


@pytest.mark.parametrize("served", [True, False])
def test_an_unknown_repository_is_not_paused_and_the_nearest_name_is_suggested(
    request: pytest.FixtureRequest, served: bool
) -> None:
    commands: Commands = request.getfixturevalue("beside" if served else "alone")
    commands.configure(CONFIG)

    done = commands.run("pause", "studio/gameserver")

    assert done.exit_code == 1
    assert "no rule names studio/gameserver" in done.stderr
    assert "did you mean studio/game-server?" in done.stderr
    assert commands.run("resume", "--all").exit_code == 1  # nothing is paused


def test_what_is_not_paused_cannot_be_resumed(beside: Commands) -> None:
    one, everything = beside.run("resume", REPOSITORY), beside.run("resume", "--all")

    assert one.exit_code == 1
    assert one.stderr.splitlines()[-1] == f"receiver: {REPOSITORY} is not paused"
    assert (everything.exit_code, everything.stderr) == (1, "receiver: nothing is paused\n")


def test_a_pause_survives_a_restart_and_may_be_ended_without_a_server(
    edgegap: str, tmp_path: Path, sandbox: EdgegapSandbox
) -> None:
    commands = commands_in(tmp_path, edgegap)
    commands.configure(CONFIG)
    done = commands.run("pause", "--all")
    assert done.exit_code == 0
    assert "no server is running" in done.stderr

    with receiver_here(tmp_path, edgegap, config=CONFIG) as receiver:
        held = receiver.push("1.0")
    with receiver_here(tmp_path, edgegap, config=CONFIG) as receiver:
        assert state(receiver, held) == "queued"
    assert sandbox.calls == []

    assert "Resumed all repositories, also those" in commands.run("resume", "--all").stdout
    with receiver_here(tmp_path, edgegap, config=CONFIG):
        until(lambda: ("my-game", "1.0") in sandbox.versions)


@pytest.mark.parametrize("command", ["pause", "resume"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name one repository, or use --all"),
        ([REPOSITORY, "--all"], "name one repository, or use --all"),
        (["NoRepository"], "write group/project"),
    ],
)
def test_what_is_to_be_paused_must_be_said(
    alone: Commands, command: str, arguments: list[str], words: str
) -> None:
    done = alone.run(command, *arguments)

    assert done.exit_code == 2
    assert words in done.stderr

"""`receiver status`: one look, and an exit code that says whether all is well."""

from pathlib import Path

import pytest

from tests.conftest import StartReceiver
from tests.support.commands import Commands, commands_beside
from tests.support.receiver_process import NO_CATCH_UP, RULE, ReceiverProcess, webhook_body

CONFIG = f"""
{RULE}
[[rule]]
repository = "studio/lobby"
app = "lobby"
preflight = false
{NO_CATCH_UP}"""


@pytest.fixture
def receiver(start: StartReceiver) -> ReceiverProcess:
    """One without catch-up: nothing is wrong with it."""
    return start(config=CONFIG)


def test_all_is_well(receiver: ReceiverProcess) -> None:
    pushed = receiver.push("1.0.0")
    receiver.ended(pushed)
    for _ in range(6):  # the parts of a multi-platform image hid the push
        receiver.post(webhook_body(None))

    done = commands_beside(receiver).run("status")

    assert done.exit_code == 0, done.output
    first, push = done.stdout.splitlines()
    assert first == "ready  A push can be recorded now."
    assert push.startswith("push  20")
    assert push.endswith(
        f"Z  {pushed}  studio/game-server:1.0.0  accepted  my-game/1.0.0 done created"
    )


def test_what_is_parked_waits_or_is_wrong_is_listed(receiver: ReceiverProcess) -> None:
    beside = commands_beside(receiver)
    parked = beside.push("studio/lobby:1.0.0")["id"]
    receiver.ended(parked)
    beside.run("pause", "studio/game-server")

    done = beside.run("status")

    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "ready  A push can be recorded now."
    assert lines[1].startswith("problem  paused since 20")
    assert f"parked  lobby/1.0.0  no_settings  {parked}" in lines
    found = beside.run("status", "--json")
    assert found.exit_code == 1
    assert '"well":false' in found.stdout


def test_more_parked_than_listed_are_counted(receiver: ReceiverProcess) -> None:
    beside = commands_beside(receiver)
    for number in range(7):
        receiver.ended(beside.push(f"studio/lobby:1.0.{number}")["id"])

    lines = beside.run("status").stdout.splitlines()

    assert len([line for line in lines if line.startswith("parked  lobby/")]) == 5
    assert "parked  2 more: receiver deliveries --state parked" in lines


def test_without_a_server_nothing_is_well(commands: Commands) -> None:
    commands.push()

    done = commands.run("status")

    assert done.exit_code == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "not ready  No push can be recorded now."
    assert lines[1].startswith("problem  worker: No server on this machine uses this ledger")
    assert lines[-1].endswith("studio/game-server:1.0.0  accepted  my-game/1.0.0 queued")


def test_without_a_ledger_it_says_so(commands: Commands, tmp_path: Path) -> None:
    done = commands.run("status")

    assert done.exit_code == 4
    assert not list(tmp_path.glob("receiver.db*"))

"""Trials that a person requests: the commands that name one, wait for one and do one again."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from receiver.ledger.deletions import note_deletion
from receiver.ledger.transaction import Tx
from receiver.sandbox.edgegap import EdgegapSandbox
from tests.support.commands import commands_beside
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import APP, NO_CATCH_UP, RULE, TRIAL, until

ELSEWHERE = "203.0.113.7"
MOVES = RULE.replace("preflight = false", 'preflight = false\nchannels = ["staging"]')

Start = Callable[[str], AbstractContextManager[ReceiverHere]]


@pytest.fixture
def sandbox(quick_trials: EdgegapSandbox) -> EdgegapSandbox:
    return quick_trials


@pytest.fixture
def start(edgegap: str, tmp_path: Path) -> Start:
    @contextmanager
    def begin(config: str) -> Iterator[ReceiverHere]:
        with receiver_here(tmp_path, edgegap, config=config + NO_CATCH_UP) as here:
            here.environment["PORT"] = here.url.rpartition(":")[2]
            yield here

    return begin


def channel(name: str, needs: str) -> str:
    return f'\n[[channel]]\napp = "{APP}"\nname = "{name}"\nneeds = ["{needs}"]\n'


def look(here: ReceiverHere, delivery: str) -> list[dict[str, Any]]:
    """The registrations of a delivery."""
    found: list[dict[str, Any]] = here.details(delivery)["registrations"]
    return found


def over(here: ReceiverHere, delivery: str) -> list[dict[str, Any]]:
    """The registrations of a delivery, once all are done or parked."""
    found = look(here, delivery)
    return found if all(one["state"] in {"done", "parked"} for one in found) else []


def test_the_trial_that_a_refusal_names_is_of_the_version_not_of_the_tag(
    start: Start, sandbox: EdgegapSandbox
) -> None:
    config = MOVES.replace("channels =", 'version = "b-{tag}"\nchannels =').replace(
        '["staging"]', '["staging", "prod"]'
    )
    sandbox.deployments.set_lifecycle(ready_after=0.1, crash_after=0.3)
    with start(config + TRIAL + channel("prod", "trial")) as here:
        commands = commands_beside(here)
        delivery = here.push("1.0")
        until(lambda: [one for one in look(here, delivery) if one["reason"] == "trial_failed"])

        refused = commands.run("promote", APP, "prod", "--to", "b-1.0")
        assert refused.exit_code != 0

        named = re.search(r"run `receiver ([^`]+)` first", refused.output)
        assert named is not None, refused.output
        assert named[1] == f"trial {APP} b-1.0"
        assert commands.run(*named[1].split()).exit_code == 0


def test_a_trial_is_waited_for_whatever_its_channel_waits_for(
    start: Start, sandbox: EdgegapSandbox
) -> None:
    """The move of the channel is older than the trial: the command waited for the approval."""
    with start(MOVES + TRIAL + channel("staging", "approval")) as here:
        commands = commands_beside(here)
        delivery = here.push("1.0")
        until(lambda: [one for one in look(here, delivery) if one["reason"] == "needs_approval"])

        passed = commands.run("trial", APP, "1.0", "--wait", "--timeout", "30")
        assert passed.exit_code == 0, passed.output

        sandbox.deployments.set_lifecycle(ready_after=0.1, crash_after=0.2)
        failed = commands.run("trial", APP, "1.0", "--wait", "--timeout", "30")
        assert failed.exit_code == 1, failed.output


def test_a_replayed_trial_is_the_trial_that_was_requested(
    start: Start, sandbox: EdgegapSandbox
) -> None:
    """It ended `superseded`: the rules had given the delivery another target."""
    with start(RULE + TRIAL) as here:
        commands = commands_beside(here)
        pushed = here.push("1.0")
        until(lambda: len(over(here, pushed)) == 2)
        sandbox.deployments.set_lifecycle(ready_after=0.1, crash_after=0.3)
        delivery = commands.json_of("trial", APP, "1.0", "--at", ELSEWHERE, "--json")["delivery"]
        (failed,) = until(lambda: over(here, delivery))
        assert (failed["reason"], "replay this" in failed["sentence"]) == ("trial_failed", True)

        sandbox.deployments.set_lifecycle(ready_after=0.1)
        assert commands.json_of("replay", delivery, "--json")["registrations"] == [failed["id"]]
        (passed,) = until(lambda: over(here, delivery))
        assert passed["outcome"] == "passed"

        commands.run("replay", "--since", "1h")  # which costs nothing: only what is named is tried
        assert look(here, delivery) == [passed]
        commands.json_of("replay", delivery, "--json")
        again = until(lambda: over(here, delivery))
        assert [one["outcome"] for one in again] == ["passed", "passed"]

    users = [call.body["users"] for call in sandbox.calls if call.body and "users" in call.body]
    assert len(users) == 4
    assert users[1] == users[2] == users[3] != users[0]


def test_a_version_that_was_deleted_is_not_tried(start: Start, sandbox: EdgegapSandbox) -> None:
    """It was accepted, and Edgegap refused it; a refused promotion even named this command."""
    with start(MOVES + TRIAL + channel("staging", "trial")) as here:
        commands = commands_beside(here)
        sandbox.deployments.set_lifecycle(ready_after=0.1, crash_after=0.3)
        delivery = here.push("1.0")
        until(lambda: "trial_failed" in [one["reason"] for one in look(here, delivery)])
        here.inside(lambda: here.ledger.write(deleted))

        refused = commands.run("trial", APP, "1.0")
        assert (refused.exit_code, "`receiver push studio/game-server:1.0`" in refused.output) == (
            1,
            True,
        ), refused.output
        promoted = commands.run("promote", APP, "staging", "--to", "1.0")
        assert "no version has it, so push or replay it" in promoted.output


def deleted(tx: Tx) -> None:
    note_deletion(tx, APP, "1.0", deleted=True, why="beyond keep = 1")

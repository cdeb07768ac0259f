"""`replay`: the rules are read again for a delivery, and its registrations are tried now."""

import json
from typing import Any

import pytest

from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from tests.support.commands import Commands, commands_beside
from tests.support.receiver_process import REPOSITORY, RULE, ReceiverProcess

IMAGE = f"{REPOSITORY}:1.0.0"
REFUSING = Fault("status", method="POST", status=400, message="No such thing")
OTHER_RULE = '\n[[rule]]\nrepository = "studio/other"\napp = "lobby"\npreflight = false\n'


def _replay(receiver: ReceiverProcess, *arguments: str) -> list[dict[str, Any]]:
    return commands_beside(receiver).rows("replay", *arguments, "--json")


def test_a_parked_delivery_is_tried_again_by_its_id_and_a_second_time_too(
    receiver: ReceiverProcess, sandbox: EdgegapSandbox
) -> None:
    sandbox.misbehave(REFUSING)
    identity = receiver.push("1.0.0")
    assert receiver.ended(identity)["state"] == "parked"

    (replayed,) = _replay(receiver, identity)
    assert receiver.ended(identity)["outcome"] == "created"
    _replay(receiver, identity)
    receiver.ended(identity)

    assert (replayed["delivery"], replayed["verdict"]) == (identity, "accepted")
    newest = receiver.details(identity)["registrations"][-1]
    assert newest["outcome"] == "unchanged"
    assert sandbox.posts_that_created("my-game", "1.0.0") == 1


def test_several_by_id_all_parked_and_by_registration_id(
    receiver: ReceiverProcess, sandbox: EdgegapSandbox
) -> None:
    sandbox.misbehave(*[REFUSING] * 4)
    first, second = receiver.push("1.0.0"), receiver.push("1.1.0")
    registration = receiver.ended(first)["id"]
    receiver.ended(second)

    assert [one["delivery"] for one in _replay(receiver, first, second)] == [first, second]
    assert {receiver.ended(one)["state"] for one in (first, second)} == {"parked"}
    assert [one["delivery"] for one in _replay(receiver, "--parked")] == [first, second]
    assert {receiver.ended(one)["outcome"] for one in (first, second)} == {"created"}
    assert [one["delivery"] for one in _replay(receiver, registration)] == [first]
    assert _replay(receiver, "--parked") == []


def test_an_ignored_delivery_is_taken_once_a_rule_names_it(
    commands_with_edgegap: Commands, sandbox: EdgegapSandbox
) -> None:
    commands = commands_with_edgegap
    identity = commands.push("studio/other:1.0")["id"]
    settings = RULE.split("preflight = false")[1]
    commands.configure(RULE + OTHER_RULE + settings)

    (replayed,) = commands.rows("replay", identity, "--json")
    commands.json_of("push", IMAGE, "--wait", "--json")

    assert replayed["verdict"] == "accepted"
    answer = commands.json_of("show", identity, "--json")
    assert (answer["verdict"], answer["reason"]) == ("accepted", None)
    assert answer["registrations"][0]["app"] == "lobby"
    assert ("lobby", "1.0") in sandbox.versions


def test_a_refused_delivery_holds_no_push_and_stays_refused(receiver: ReceiverProcess) -> None:
    identity = receiver.post(b"no json").json()["delivery"]

    (replayed,) = _replay(receiver, identity)

    assert (replayed["verdict"], replayed["reason"]) == ("refused", "bad_json")
    assert receiver.details(identity)["registrations"] == []


def test_since_takes_all_that_came_since_then_and_were_not_refused(commands: Commands) -> None:
    ids = [commands.push(image)["id"] for image in (IMAGE, "studio/other:1.0")]

    for since in ("1h", "10m", "1d", "2020-01-01", "2020-01-01T12:00", "1960-01-01T00:00Z"):
        assert [row["delivery"] for row in commands.rows("replay", "--since", since, "--json")] == [
            *ids
        ]
    done = commands.run("replay", "--since", "2999-01-01")

    assert done.exit_code == 0
    assert done.stderr == "Nothing to replay.\n"


@pytest.mark.parametrize(
    "since", ["", "yesterday", "h", "-1h", "99999999999999d", "²d", "0001-01-01", "2026-13-01"]
)
def test_a_time_that_is_none_is_wrong_usage(commands: Commands, since: str) -> None:
    done = commands.run("replay", "--since", since)

    assert done.exit_code == 2
    assert "is not a time: write" in done.stderr


def test_without_a_server_it_is_queued_for_the_next_one(commands: Commands) -> None:
    identity = commands.push(IMAGE)["id"]

    done = commands.run("replay", identity)

    assert done.exit_code == 0
    assert done.stdout == f"{identity}  accepted\n"
    assert "no server is running" in done.stderr


def test_without_a_server_and_without_rules_nothing_is_judged(commands: Commands) -> None:
    identity = commands.push(IMAGE)["id"]
    commands.configure("")

    done = commands.run("replay", identity)

    assert done.exit_code == 3
    assert commands.json_of("show", identity, "--json")["verdict"] == "accepted"


def test_ids_that_do_not_exist_are_named_and_the_others_are_replayed(
    commands: Commands,
) -> None:
    identity = commands.push(IMAGE)["id"]

    done = commands.run("replay", "d0", identity, "--json")

    assert done.exit_code == 5
    assert json.loads(done.stdout)["delivery"] == identity
    assert "there is no delivery d0;" in done.stderr


def test_a_running_server_names_the_missing_too(receiver: ReceiverProcess) -> None:
    done = commands_beside(receiver).run("replay", "d0", "r0")

    assert done.exit_code == 5
    assert "there is no delivery d0, r0;" in done.stderr


def test_to_ask_for_nothing_is_wrong_usage(commands: Commands) -> None:
    done = commands.run("replay")

    assert done.exit_code == 2
    assert "--parked or --since" in done.stderr

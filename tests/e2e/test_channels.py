"""Channels: versions that follow the newest push of a rule, and can be rolled back by a person."""

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from tests.contract.openapi import contract_checked
from tests.support.commands import Commands, commands_beside, commands_in
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import RULE, until, webhook_body

APPS = (
    "first-app", "order-app", "taken-app", "burst-app", "later-app",
    "back-app", "to-app", "after-app", "held-app", "none-app",
    "moved-app", "free-app", "two-app", "again-app", "tags-app", "time-app", "fresh-app",
    "ahead-app", "settled-app",
)  # fmt: skip
CONFIG = (
    "".join(
        RULE.replace("studio/game-server", f"studio/{app}").replace(
            'app = "my-game"', f'app = "{app}"\nchannels = ["staging"]'
        )
        for app in APPS
    )
    + """
[[channel]]
app = "tags-app"
name = "staging"
tags = { semver = "1.x" }

[[channel]]
app = "time-app"
name = "staging"
follow = "newest"

[[channel]]
app = "two-app"
name = "stable"
tags = ["stable-*"]

[catch_up]
every = "off"
"""
)
LONG_AGO = 1_780_000_000
MOVED = ["docker_image", "docker_repository", "docker_tag", "ports", "verify_image"]


@pytest.fixture(scope="module")
def edgegap() -> EdgegapSandbox:
    return EdgegapSandbox(apps=APPS)


@pytest.fixture(scope="module")
def running(
    edgegap: EdgegapSandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ReceiverHere]:
    checked = contract_checked(edgegap.app)
    folder = tmp_path_factory.mktemp("channels")
    with serving(checked) as url, receiver_here(folder, url, config=CONFIG) as receiver:
        receiver.environment["PORT"] = receiver.url.rpartition(":")[2]
        yield receiver
    assert checked.violations == []


@pytest.fixture
def here(running: ReceiverHere, edgegap: EdgegapSandbox) -> ReceiverHere:
    edgegap.calls.clear()
    return running


@pytest.fixture
def commands(here: ReceiverHere) -> Commands:
    return commands_beside(here)


def pushed(receiver: ReceiverHere, app: str, tag: str, at: int) -> dict[str, str]:
    """Push, wait until all is done or parked, and return the outcome by version."""
    delivery = receiver.push_to(f"studio/{app}", tag, pushed_at=at)

    def over() -> dict[str, str] | None:
        rows = receiver.details(delivery)["registrations"]
        ended = all(row["state"] in {"done", "parked"} for row in rows)
        parked = any(row["state"] == "parked" for row in rows)
        whole = ended and (parked or "staging" in {row["version"] for row in rows})
        return {row["version"]: row["outcome"] or row["reason"] for row in rows} if whole else None

    return until(over) or {}


def outcomes(receiver: ReceiverHere, delivery: str) -> dict[str, str]:
    """The outcome of each of a delivery's registrations, by version."""
    rows = receiver.details(delivery)["registrations"]
    return {row["version"]: row["outcome"] for row in rows}


def all_done(receiver: ReceiverHere, delivery: str) -> bool:
    """Whether each of a delivery's registrations has ended."""
    return all(row["state"] == "done" for row in receiver.details(delivery)["registrations"])


def sentences(receiver: ReceiverHere, delivery: str) -> dict[str, str]:
    """What is said of each of a delivery's registrations, by version."""
    rows = receiver.details(delivery)["registrations"]
    return {row["version"]: row["sentence"] for row in rows}


def staging(edgegap: EdgegapSandbox, app: str) -> Any:
    return edgegap.versions[app, "staging"]["docker_tag"]


def writes(edgegap: EdgegapSandbox, app: str) -> list[tuple[str, Any]]:
    """What was written to this app: method, and the version or the fields."""
    return [
        (call.method, call.body["name"] if call.method == "POST" else sorted(call.body))
        for call in edgegap.calls
        if call.method in {"POST", "PATCH"} and f"/{app}/" in call.path and call.body
    ]


def test_it_is_created_once_and_then_moved_after_the_pushs_own_version(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    assert pushed(here, "first-app", "1.0", LONG_AGO) == {"1.0": "created", "staging": "created"}
    assert staging(edgegap, "first-app") == "1.0"
    assert edgegap.versions["first-app", "staging"]["req_memory"] == 2048

    assert pushed(here, "first-app", "1.1", LONG_AGO + 1)["staging"] == "updated"

    assert staging(edgegap, "first-app") == "1.1"
    assert writes(edgegap, "first-app") == [
        ("POST", "1.0"),
        ("POST", "staging"),
        ("POST", "1.1"),
        ("PATCH", MOVED),
    ]


def test_a_hotfix_of_an_older_version_creates_its_version_and_does_not_move_the_channel(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    """Pushed later, it moved the channel back."""
    pushed(here, "order-app", "2.0.0", LONG_AGO)

    delivery = here.push_to("studio/order-app", "1.0.1", pushed_at=LONG_AGO + 50)
    until(lambda: outcomes(here, delivery) == {"1.0.1": "created", "staging": "superseded"})

    assert sentences(here, delivery)["staging"] == (
        "1.0.1 is lower than 2.0.0, which the channel followed."
    )
    assert staging(edgegap, "order-app") == "2.0.0"


def test_it_is_not_moved_where_the_pushs_own_version_is_not_made(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    pushed(here, "taken-app", "1.0", LONG_AGO)
    edgegap.add_version("taken-app", "2.0", docker_image="another/image")

    assert pushed(here, "taken-app", "2.0", LONG_AGO + 1) == {"2.0": "name_taken"}

    assert staging(edgegap, "taken-app") == "1.0"


def test_six_deliveries_of_one_push_make_it_once(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    body = webhook_body("1.0", "studio/burst-app", pushed_at=LONG_AGO)
    for _ in range(5):
        assert here.post(body, repository="studio/burst-app").status_code == 202

    came = pushed(here, "burst-app", "1.0", LONG_AGO)

    assert set(came) == {"1.0", "staging"}
    assert sorted(writes(edgegap, "burst-app")) == [("POST", "1.0"), ("POST", "staging")]


def test_a_rollback_puts_back_what_it_held_before(
    here: ReceiverHere, edgegap: EdgegapSandbox, commands: Commands
) -> None:
    pushed(here, "back-app", "1.0", LONG_AGO)
    pushed(here, "back-app", "1.1", LONG_AGO + 1)

    done = commands.run("rollback", "back-app", "staging")

    assert done.exit_code == 0, done.output
    assert "back-app/staging back from 1.1 to 1.0" in done.stdout
    until(lambda: staging(edgegap, "back-app") == "1.0")
    delivery = done.stdout.split()[-1]
    ended = here.ended(delivery)
    assert (ended["version"], ended["outcome"]) == ("staging", "updated")


def test_a_rollback_may_name_the_version_whose_image_it_takes(
    here: ReceiverHere, edgegap: EdgegapSandbox, commands: Commands
) -> None:
    for number in range(4):
        pushed(here, "to-app", f"1.{number}", LONG_AGO + number)

    answer = commands.json_of("rollback", "to-app", "staging", "--to", "1.1", "--json")

    assert here.ended(answer["delivery"])["outcome"] == "updated"
    assert staging(edgegap, "to-app") == "1.1"


def test_after_a_rollback_it_is_held_until_a_push_above_what_it_was_rolled_back_from(
    here: ReceiverHere, edgegap: EdgegapSandbox, commands: Commands
) -> None:
    """A repeated report of the bad tag undid the rollback, and so did the next hotfix."""
    pushed(here, "after-app", "1.0", LONG_AGO)
    pushed(here, "after-app", "1.1", LONG_AGO + 1)
    answer = commands.json_of("rollback", "after-app", "staging", "--json")
    here.ended(answer["delivery"])

    assert pushed(here, "after-app", "1.0.1", LONG_AGO + 2)["staging"] == "superseded"
    assert pushed(here, "after-app", "1.1", LONG_AGO + 3)["staging"] == "superseded"
    assert pushed(here, "after-app", "nightly", LONG_AGO + 4)["staging"] == "superseded"
    assert staging(edgegap, "after-app") == "1.0"
    (row,) = commands.json_of("channels", "after-app", "--json")["channels"]
    assert (row["tag"], row["held"]["lifted_above"]) == ("1.0", "1.1")

    assert pushed(here, "after-app", "1.2", LONG_AGO + 5)["staging"] == "updated"
    assert staging(edgegap, "after-app") == "1.2"
    (row,) = commands.json_of("channels", "after-app", "--json")["channels"]
    assert row["held"] is None
    assert [(one["action"], one["tag"]) for one in row["moves"]] == [
        ("push", "1.2"),
        ("rollback", "1.0"),
        ("push", "1.1"),
        ("push", "1.0"),
    ]


def test_released_the_next_push_above_what_it_has_moves_it(
    here: ReceiverHere, edgegap: EdgegapSandbox, commands: Commands
) -> None:
    pushed(here, "free-app", "1.0", LONG_AGO)
    pushed(here, "free-app", "2.0", LONG_AGO + 1)
    here.ended(commands.json_of("rollback", "free-app", "staging", "--json")["delivery"])
    held = here.push_to("studio/free-app", "1.1", pushed_at=LONG_AGO + 2)
    until(lambda: outcomes(here, held) == {"1.1": "created", "staging": "superseded"})
    assert "held at 1.0 since" in sentences(here, held)["staging"]

    done = commands.run("release", "free-app", "staging")

    assert done.exit_code == 0, done.output
    assert "the next push above 1.0 moves it" in done.stdout
    assert pushed(here, "free-app", "1.1", LONG_AGO + 2)["staging"] == "superseded"
    assert pushed(here, "free-app", "1.2", LONG_AGO + 3)["staging"] == "updated"
    assert staging(edgegap, "free-app") == "1.2"
    assert commands.run("release", "free-app", "staging").exit_code == 1


def test_a_person_promotes_a_channel_to_what_another_has_or_to_a_version(
    here: ReceiverHere, edgegap: EdgegapSandbox, commands: Commands
) -> None:
    for number in range(3):
        pushed(here, "two-app", f"1.{number}", LONG_AGO + number)

    answer = commands.json_of("promote", "two-app", "stable", "--to", "1.0", "--json")
    here.ended(answer["delivery"])
    assert edgegap.versions["two-app", "stable"]["docker_tag"] == "1.0"
    answer = commands.json_of("promote", "two-app", "stable", "--from", "staging", "--json")
    here.ended(answer["delivery"])

    assert edgegap.versions["two-app", "stable"]["docker_tag"] == "1.2"
    shown = commands.run("channels", "two-app").stdout
    assert "channel  two-app/stable  1.2  held  at 1.2 since" in shown
    assert "two-app/stable  1.0  1.2  promote by command" in shown
    refused = commands.run("promote", "two-app", "stable")
    assert (refused.exit_code, "name either" in refused.stderr) == (1, True)
    assert commands.run("channels", "no-such-app").exit_code == 2


def test_a_repeated_report_moves_nothing_and_a_higher_tag_with_the_same_image_does(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    """Without preflight no digest is known, and the tag alone says that it was reported."""
    pushed(here, "again-app", "nightly-1", LONG_AGO)
    pushed(here, "again-app", "nightly-2", LONG_AGO + 1)
    edgegap.calls.clear()

    assert pushed(here, "again-app", "nightly-2", LONG_AGO + 2)["staging"] == "unchanged"
    again = here.push_to("studio/again-app", "nightly-1", pushed_at=LONG_AGO + 3)
    until(lambda: outcomes(here, again) == {"nightly-1": "unchanged", "staging": "superseded"})

    assert "already reported" in sentences(here, again)["staging"]
    assert writes(edgegap, "again-app") == []
    assert pushed(here, "again-app", "nightly-3", LONG_AGO + 4)["staging"] == "updated"


def test_a_channel_with_tags_of_its_own_is_moved_by_these_alone(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    first = pushed(here, "tags-app", "1.0.0", LONG_AGO)
    delivery = here.push_to("studio/tags-app", "2.0.0", pushed_at=LONG_AGO + 1)

    until(lambda: outcomes(here, delivery) == {"2.0.0": "created"})
    assert first["staging"] == "created"
    assert staging(edgegap, "tags-app") == "1.0.0"
    assert pushed(here, "tags-app", "1.1.0", LONG_AGO + 2)["staging"] == "updated"


def test_a_channel_that_follows_the_newest_goes_by_time_alone(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    pushed(here, "time-app", "2.0.0", LONG_AGO)

    assert pushed(here, "time-app", "1.0.1", LONG_AGO + 1)["staging"] == "updated"
    assert pushed(here, "time-app", "3.0.0", LONG_AGO - 1)["staging"] == "superseded"
    assert staging(edgegap, "time-app") == "1.0.1"


def test_a_channel_that_the_ledger_does_not_know_is_not_moved_below_what_edgegap_has(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    """A fresh install, or a ledger lost: a hotfix would move it back all the same."""
    image = {"docker_repository": "docker.io", "docker_image": "studio/fresh-app"}
    edgegap.add_version("fresh-app", "staging", docker_tag="2.0.0", **image)

    assert pushed(here, "fresh-app", "1.0.1", LONG_AGO)["staging"] == "superseded"
    assert staging(edgegap, "fresh-app") == "2.0.0"
    assert pushed(here, "fresh-app", "2.0.1", LONG_AGO + 1)["staging"] == "updated"


def test_a_rollback_to_what_it_holds_undoes_what_is_queued(
    here: ReceiverHere, edgegap: EdgegapSandbox, commands: Commands
) -> None:
    pushed(here, "held-app", "1.0", LONG_AGO)
    pushed(here, "held-app", "1.1", LONG_AGO + 1)
    commands.run("pause", "studio/held-app")
    queued = here.push_to("studio/held-app", "1.2", pushed_at=LONG_AGO + 2)
    regretted = commands.json_of("rollback", "held-app", "staging", "--json")

    done = commands.run("rollback", "held-app", "staging", "--to", "1.1")

    assert done.exit_code == 0, done.output
    assert (
        "Held held-app/staging at 1.1. Nothing moves it until `receiver release held-app staging`"
        in done.stdout
    )
    commands.run("resume", "studio/held-app")
    assert here.ended(done.stdout.split()[-1])["outcome"] == "unchanged"
    assert here.ended(regretted["delivery"])["outcome"] == "superseded"
    until(lambda: outcomes(here, queued) == {"1.2": "created", "staging": "superseded"})
    assert staging(edgegap, "held-app") == "1.1"


@pytest.mark.parametrize("app", ["ahead-app", "settled-app"])
def test_a_replay_of_what_it_holds_undoes_no_rollback(
    here: ReceiverHere, edgegap: EdgegapSandbox, commands: Commands, app: str
) -> None:
    """It moves nothing, but lifted the hold and forgot the rollback that was queued behind it."""
    first = here.push_to(f"studio/{app}", "1.0", pushed_at=LONG_AGO)
    until(lambda: outcomes(here, first).get("staging") == "created")
    second = here.push_to(f"studio/{app}", "1.1", pushed_at=LONG_AGO + 1)
    until(lambda: outcomes(here, second).get("staging") == "updated")
    if app == "ahead-app":  # the replay is claimed first, and both are recorded by then
        commands.run("pause", f"studio/{app}")
        assert commands.run("replay", second).exit_code == 0
        back = commands.json_of("rollback", app, "staging", "--json")["delivery"]
        commands.run("resume", f"studio/{app}")
    else:
        back = commands.json_of("rollback", app, "staging", "--json")["delivery"]
        here.ended(back)
        assert commands.run("replay", first).exit_code == 0
    assert here.ended(back)["outcome"] == "updated"
    for delivery in (first, second):
        until(partial(all_done, here, delivery))

    assert staging(edgegap, app) == "1.0"
    (row,) = commands.json_of("channels", app, "--json")["channels"]
    assert (row["tag"], row["held"]["lifted_above"]) == ("1.0", "1.1")


def test_a_rollback_to_what_it_holds_puts_right_what_another_hand_moved(
    here: ReceiverHere, edgegap: EdgegapSandbox, commands: Commands
) -> None:
    pushed(here, "moved-app", "1.0", LONG_AGO)
    edgegap.versions["moved-app", "staging"]["docker_tag"] = "by-hand"

    answer = commands.json_of("rollback", "moved-app", "staging", "--to", "1.0", "--json")

    assert here.ended(answer["delivery"])["outcome"] == "updated"
    assert staging(edgegap, "moved-app") == "1.0"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none-app", "prod"], "moves no version prod of the app none-app; it moves: staging"),
        (["nobody", "staging"], "it moves: none. To have it moved, write channels ="),
        (
            ["nobody", "prod"],
            'channels = ["prod"] in a rule of that app, then run `receiver reload`',
        ),
        (["none-app", "1.0"], "moves no version 1.0"),
        (["none-app", "staging"], "held nothing before 1.0; name a version with --to"),
        (["none-app", "staging", "--to", "9.9"], "knows no version 9.9 of the app none-app"),
    ],
)
def test_an_impossible_rollback_is_refused_with_a_message(
    here: ReceiverHere, commands: Commands, arguments: list[str], words: str
) -> None:
    pushed(here, "none-app", "1.0", LONG_AGO)

    done = commands.run("rollback", *arguments)

    assert done.exit_code == 1
    assert words in done.stderr


def test_without_a_server_a_rollback_is_recorded_for_the_next_serve(
    here: ReceiverHere,
    edgegap: EdgegapSandbox,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("alone")
    with serving(edgegap.app) as url:
        with receiver_here(folder, url, config=CONFIG) as receiver:
            pushed(receiver, "later-app", "1.0", LONG_AGO)
            pushed(receiver, "later-app", "1.1", LONG_AGO + 1)
        commands = commands_in(folder, url)
        commands.configure(CONFIG)

        done = commands.run("rollback", "later-app", "staging", "--json")

        assert "no server is running" in done.stderr
        assert "later-app/staging" in json.loads(done.stdout)["sentence"]
        assert staging(edgegap, "later-app") == "1.1"
        with receiver_here(folder, url, config=CONFIG):
            until(lambda: staging(edgegap, "later-app") == "1.0")

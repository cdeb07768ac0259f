"""Channels: versions that follow the newest push of a rule, and can be rolled back by a person."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from tests.commanding import Commands, commands_beside, commands_in
from tests.contract.openapi import contract_checked
from tests.receiver_here import ReceiverHere, receiver_here
from tests.running import RULE, until, webhook_body

APPS = (
    "first-app", "order-app", "taken-app", "burst-app", "told-app",
    "back-app", "to-app", "after-app", "held-app", "none-app",
    "moved-app", "still-app",
)  # fmt: skip
CONFIG = "".join(
    RULE.replace("studio/game-server", f"studio/{app}").replace(
        'app = "my-game"', f'app = "{app}"\nchannels = ["staging"]'
    )
    for app in APPS
)
LONG_AGO = 1_780_000_000


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
    """Push, wait for the end of it all, and tell the outcome by version."""
    delivery = receiver.push_to(f"studio/{app}", tag, pushed_at=at)

    def over() -> dict[str, str] | None:
        rows = receiver.story(delivery)["registrations"]
        ended = all(row["state"] in {"done", "parked"} for row in rows)
        parked = any(row["state"] == "parked" for row in rows)
        whole = ended and (parked or "staging" in {row["version"] for row in rows})
        return {row["version"]: row["outcome"] or row["reason"] for row in rows} if whole else None

    return until(over) or {}


def outcomes(receiver: ReceiverHere, delivery: str) -> dict[str, str]:
    """The outcome of each of a delivery's registrations, by version."""
    rows = receiver.story(delivery)["registrations"]
    return {row["version"]: row["outcome"] for row in rows}


def staging(edgegap: EdgegapSandbox, app: str) -> Any:
    return edgegap.versions[app, "staging"]["docker_tag"]


def writes(edgegap: EdgegapSandbox, app: str) -> list[tuple[str, Any]]:
    """What was written to this app: method, and the version or the fields."""
    return [
        (call.method, call.body["name"] if call.method == "POST" else sorted(call.body))
        for call in edgegap.calls
        if call.method in {"POST", "PATCH"} and f"/{app}/" in call.path and call.body
    ]


def test_it_is_made_once_and_moved_by_its_tag_alone_after_the_pushs_own_version(
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
        ("PATCH", ["docker_tag"]),
    ]


def test_an_older_push_makes_its_version_but_does_not_move_the_channel(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    pushed(here, "order-app", "2.0", LONG_AGO + 50)

    came = pushed(here, "order-app", "1.9", LONG_AGO + 49)

    assert came == {"1.9": "created", "staging": "superseded"}
    assert staging(edgegap, "order-app") == "2.0"


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

    told = commands.told("rollback", "to-app", "staging", "--to", "1.1", "--json")

    assert here.ended(told["delivery"])["outcome"] == "updated"
    assert staging(edgegap, "to-app") == "1.1"


def test_after_a_rollback_only_later_pushes_move_it(
    here: ReceiverHere, edgegap: EdgegapSandbox, commands: Commands
) -> None:
    pushed(here, "after-app", "1.0", LONG_AGO)
    pushed(here, "after-app", "1.1", LONG_AGO + 1)
    told = commands.told("rollback", "after-app", "staging", "--json")
    here.ended(told["delivery"])
    now = int(time.time())

    assert pushed(here, "after-app", "1.2", now - 60)["staging"] == "superseded"
    assert staging(edgegap, "after-app") == "1.0"
    assert pushed(here, "after-app", "1.1", LONG_AGO + 1)["staging"] == "superseded"
    assert pushed(here, "after-app", "1.3", now + 60)["staging"] == "updated"
    assert staging(edgegap, "after-app") == "1.3"


def test_a_rollback_to_what_it_holds_undoes_what_is_queued(
    here: ReceiverHere, edgegap: EdgegapSandbox, commands: Commands
) -> None:
    pushed(here, "held-app", "1.0", LONG_AGO)
    pushed(here, "held-app", "1.1", LONG_AGO + 1)
    commands.run("pause", "studio/held-app")
    queued = here.push_to("studio/held-app", "1.2", pushed_at=LONG_AGO + 2)
    regretted = commands.told("rollback", "held-app", "staging", "--json")

    done = commands.run("rollback", "held-app", "staging", "--to", "1.1")

    assert done.exit_code == 0, done.output
    assert "Held held-app/staging at 1.1, by hand: only later pushes move it" in done.stdout
    commands.run("resume", "studio/held-app")
    assert here.ended(done.stdout.split()[-1])["outcome"] == "unchanged"
    assert here.ended(regretted["delivery"])["outcome"] == "superseded"
    until(lambda: outcomes(here, queued) == {"1.2": "created", "staging": "superseded"})
    assert staging(edgegap, "held-app") == "1.1"


def test_a_rollback_to_what_it_holds_puts_right_what_another_hand_moved(
    here: ReceiverHere, edgegap: EdgegapSandbox, commands: Commands
) -> None:
    pushed(here, "moved-app", "1.0", LONG_AGO)
    edgegap.versions["moved-app", "staging"]["docker_tag"] = "by-hand"

    told = commands.told("rollback", "moved-app", "staging", "--to", "1.0", "--json")

    assert here.ended(told["delivery"])["outcome"] == "updated"
    assert staging(edgegap, "moved-app") == "1.0"


def test_a_rollback_to_what_it_holds_lets_only_later_pushes_move_it(
    here: ReceiverHere, edgegap: EdgegapSandbox, commands: Commands
) -> None:
    pushed(here, "still-app", "1.0", LONG_AGO)

    told = commands.told("rollback", "still-app", "staging", "--to", "1.0", "--json")

    assert here.ended(told["delivery"])["outcome"] == "unchanged"
    assert pushed(here, "still-app", "1.1", int(time.time()) - 60)["staging"] == "superseded"
    assert staging(edgegap, "still-app") == "1.0"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none-app", "prod"], "moves no version prod of the app none-app; it moves: staging"),
        (["nobody", "staging"], "it moves: none"),
        (["none-app", "1.0"], "moves no version 1.0"),
        (["none-app", "staging"], "held nothing before 1.0; name a version with --to"),
        (["none-app", "staging", "--to", "9.9"], "knows no version 9.9 of the app none-app"),
    ],
)
def test_what_cannot_be_rolled_back_is_told(
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
            pushed(receiver, "told-app", "1.0", LONG_AGO)
            pushed(receiver, "told-app", "1.1", LONG_AGO + 1)
        commands = commands_in(folder, url)
        commands.configure(CONFIG)

        done = commands.run("rollback", "told-app", "staging", "--json")

        assert "no server is running" in done.stderr
        assert "told-app/staging" in json.loads(done.stdout)["sentence"]
        assert staging(edgegap, "told-app") == "1.1"
        with receiver_here(folder, url, config=CONFIG):
            until(lambda: staging(edgegap, "told-app") == "1.0")

"""What is due and yet not worked on: its details say what holds it back, and how it goes on."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from tests.support.commands import Commands, commands_beside
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import REPOSITORY, until
from tests.support.visitor import PAGE, Visitor


@pytest.fixture
def here(edgegap: str, tmp_path: Path) -> Iterator[ReceiverHere]:
    with receiver_here(tmp_path, edgegap) as receiver:
        receiver.environment["PORT"] = receiver.url.rpartition(":")[2]
        yield receiver


@pytest.fixture
def beside(here: ReceiverHere) -> Commands:
    return commands_beside(here)


def held_back(receiver: ReceiverHere, delivery: str) -> list[dict[str, Any]]:
    answer: list[dict[str, Any]] = receiver.details(delivery)["registrations"][0]["held_back"]
    return answer


def test_a_pause_is_named_with_the_command_that_ends_it(
    here: ReceiverHere, beside: Commands
) -> None:
    beside.run("pause", REPOSITORY)
    delivery = here.push("1.0")

    (held,) = held_back(here, delivery)

    assert held["by"] == "pause"
    assert f"`receiver resume {REPOSITORY}`" in held["sentence"]
    assert held["until_at"] is None
    assert f"  blocked   {held['sentence']}\n" in beside.run("show", delivery).stdout
    beside.run("resume", REPOSITORY)
    here.ended(delivery)
    assert held_back(here, delivery) == []


def test_a_pause_of_all_is_named_beside_its_own(here: ReceiverHere, beside: Commands) -> None:
    beside.run("pause", "--all")
    beside.run("pause", REPOSITORY)

    answer = held_back(here, here.push("1.0"))

    assert ["--all" in held["sentence"] for held in answer] == [True, False]


def test_a_refused_token_holds_back_what_comes_after_it(
    here: ReceiverHere, beside: Commands, sandbox: EdgegapSandbox
) -> None:
    sandbox.misbehave(Fault("status", status=401, message="bad token", times=None))
    first = here.push("1.0")
    until(lambda: held_back(here, first))
    second = here.push("2.0")

    (held,) = held_back(here, second)

    assert held["by"] == "token"
    assert "EDGEGAP_TOKEN" in held["sentence"]
    assert held["until_at"] is None
    assert held["sentence"] in beside.run("show", second).stdout


def test_what_edgegap_slowed_down_says_until_when(
    here: ReceiverHere, beside: Commands, sandbox: EdgegapSandbox
) -> None:
    sandbox.misbehave(Fault("status", status=429, retry_after=600))
    first = here.push("1.0")
    until(lambda: held_back(here, first))

    (held,) = held_back(here, here.push("2.0"))

    assert held["by"] == "busy"
    answer, since = (datetime.fromisoformat(held[key]) for key in ("until_at", "since_at"))
    assert 590 <= (answer - since).total_seconds() <= 610
    assert f"(until {held['until_at']})" in beside.run("show", first).stdout


def test_the_page_shows_it(edgegap: str, tmp_path: Path) -> None:
    with receiver_here(tmp_path, edgegap, environment=PAGE) as receiver:
        receiver.environment["PORT"] = receiver.url.rpartition(":")[2]
        commands_beside(receiver).run("pause", REPOSITORY)
        delivery = receiver.push("1.0")
        with Visitor(receiver) as visitor:
            visitor.sign_in()
            page = visitor.read(f"/deliveries/{delivery}")

    assert "Held back" in page.text
    assert f"receiver resume {REPOSITORY}" in page.text

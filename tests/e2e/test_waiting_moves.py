"""Moves that wait while people disagree, and while the configuration changes under them."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from receiver.sandbox.edgegap import EdgegapSandbox
from tests.support.approvals import CHANNELS, PUSHED, link_to, registration_of
from tests.support.commands import Commands, commands_beside
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import APP, NO_CATCH_UP, REPOSITORY, RULE, until
from tests.support.visitor import Reading

RULES = RULE.replace("preflight = false", 'preflight = false\nchannels = ["staging"]')
CONFIG = RULES + CHANNELS + NO_CATCH_UP


@pytest.fixture
def here(edgegap: str, tmp_path: Path) -> Iterator[ReceiverHere]:
    with receiver_here(tmp_path, edgegap, config=CONFIG) as receiver:
        receiver.environment["PORT"] = receiver.url.rpartition(":")[2]
        yield receiver


@pytest.fixture
def commands(here: ReceiverHere) -> Commands:
    return commands_beside(here)


def waiting(here: ReceiverHere, tag: str) -> str:
    """Push a tag for which `prod` then waits; return the delivery."""
    delivery = here.push(tag, pushed_at=PUSHED)
    assert registration_of(here, delivery, "prod")["reason"] == "needs_approval"
    return delivery


def approve(here: ReceiverHere, method: str, tag: str) -> httpx.Response:
    return httpx.request(method, here.url + link_to(tag), trust_env=False, timeout=20)


def reloaded(here: ReceiverHere, config: str) -> None:
    here.config.write_text(config, "utf-8")
    assert not here.inside(lambda: here.service.reload(here.environment)).faults


def outcome(here: ReceiverHere, delivery: str) -> str:
    """The outcome or the reason of the move of `prod`, empty while it is worked on."""
    found = registration_of(here, delivery, "prod")
    return str(found["outcome"] or found["reason"])


def given(sandbox: EdgegapSandbox) -> list[str]:
    """The tags that requests gave `prod`."""
    sent = [call for call in sandbox.calls if call.method in {"POST", "PATCH"}]
    bodies = [(call.path.rpartition("/")[2], call.body or {}) for call in sent]
    of_prod = [body for end, body in bodies if "prod" in {end, body.get("name")}]
    return [str(body["docker_tag"]) for body in of_prod]


def test_of_two_promotions_the_last_one_is_made_and_only_it(
    here: ReceiverHere, commands: Commands, sandbox: EdgegapSandbox
) -> None:
    for tag in ("1.0", "1.1"):
        waiting(here, tag)
    commands.run("pause", REPOSITORY)
    asked = [
        commands.json_of("promote", APP, "prod", "--to", tag, "--json")["delivery"]
        for tag in ("1.1", "1.0")
    ]
    commands.run("resume", REPOSITORY)

    until(lambda: outcome(here, asked[1]) == "created")
    until(lambda: outcome(here, asked[0]) == "superseded")
    assert given(sandbox) == ["1.0"]


def test_an_older_image_that_is_approved_after_a_newer_one_moves_nothing(
    here: ReceiverHere, commands: Commands, sandbox: EdgegapSandbox
) -> None:
    older = waiting(here, "1.0")
    commands.run("pause", REPOSITORY)
    newer = here.push("1.1", pushed_at=PUSHED)
    commands.run("resume", REPOSITORY)
    until(lambda: outcome(here, newer) == "needs_approval")
    for tag in ("1.1", "1.0"):
        approve(here, "POST", tag)

    until(lambda: outcome(here, newer) == "created")
    until(lambda: outcome(here, older) == "superseded")
    assert given(sandbox) == ["1.1"]


def test_what_needs_no_approval_any_more_is_moved_at_once(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    """It went on waiting for up to half an hour."""
    delivery = waiting(here, "1.0")

    reloaded(here, CONFIG.replace('needs = ["approval"]', "needs = []"))

    until(lambda: outcome(here, delivery) == "created")
    assert given(sandbox) == ["1.0"]


@pytest.mark.parametrize("renamed", ["staging", "prod", "rule"])
def test_what_is_not_in_the_rules_any_more_is_neither_asked_for_nor_moved(
    here: ReceiverHere, sandbox: EdgegapSandbox, renamed: str
) -> None:
    """Its page went on to ask, and said that the channel was being moved."""
    delivery = waiting(here, "1.0")
    other = {
        "staging": CONFIG.replace('"staging"', '"stage"'),
        "prod": CONFIG.replace('"prod"', '"live"'),
        "rule": CONFIG.replace(f'"{REPOSITORY}"', '"studio/other"'),
    }

    reloaded(here, other[renamed])

    until(lambda: outcome(here, delivery) != "needs_approval")
    answer = approve(here, "POST", "1.0")
    assert "There is nothing to approve any more." in Reading(answer.text).text
    ended = registration_of(here, delivery, "prod")
    assert ended["reason"] in {None, "rule_gone", "rule_changed"}, ended["sentence"]
    assert given(sandbox) == []
    reloaded(here, CONFIG)
    if ended["state"] == "parked":
        until(lambda: outcome(here, delivery) == "needs_approval")
        approve(here, "POST", "1.0")
        until(lambda: outcome(here, delivery) == "created")

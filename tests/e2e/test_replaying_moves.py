"""Replaying what moved a channel by a person's request: it is that request that is done again."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from tests.support.commands import Commands, commands_beside
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import APP, NO_CATCH_UP, RULE, until

MOVES = RULE.replace("preflight = false", 'preflight = false\nchannels = ["staging"]')
CONFIG = f"""{MOVES}
[[channel]]
app = "{APP}"
name = "prod"
from = "staging"
needs = ["approval"]
{NO_CATCH_UP}"""
NO = Fault("status", status=422, body='{"message": "no"}', times=1)


@pytest.fixture
def here(edgegap: str, tmp_path: Path) -> Iterator[ReceiverHere]:
    with receiver_here(tmp_path, edgegap, config=CONFIG) as one:
        one.environment["PORT"] = one.url.rpartition(":")[2]
        for tag in ("1.0", "1.1"):
            waits_for_approval(one, one.push(tag))
        yield one


@pytest.fixture
def commands(here: ReceiverHere) -> Commands:
    return commands_beside(here)


def prod_of(here: ReceiverHere, delivery: str) -> dict[str, Any]:
    """The last registration of a delivery that moves `prod`, once nobody works on it."""

    def look() -> dict[str, Any]:
        found = [one for one in here.details(delivery)["registrations"] if one["version"] == "prod"]
        still = [one for one in found if one["state"] in {"queued", "working"}]
        return found[-1] if found and not still else {}

    found: dict[str, Any] = until(look)
    return found


def waits_for_approval(here: ReceiverHere, delivery: str) -> None:
    until(lambda: prod_of(here, delivery)["reason"] == "needs_approval")


def promoted(commands: Commands, here: ReceiverHere, tag: str) -> str:
    """Promote `prod` to a version; return the delivery once the request has ended."""
    asked = commands.json_of("promote", APP, "prod", "--to", tag, "--json")
    delivery = str(asked["delivery"])
    until(lambda: prod_of(here, delivery)["state"] in {"done", "parked"})
    return delivery


def tag_of(sandbox: EdgegapSandbox) -> str:
    return str(sandbox.versions[APP, "prod"]["docker_tag"])


def refused(commands: Commands, here: ReceiverHere, sandbox: EdgegapSandbox) -> str:
    """Have `prod` at 1.0, and a promotion to 1.1 that is parked."""
    promoted(commands, here, "1.0")
    sandbox.misbehave(replace(NO, method="PATCH"))
    delivery = promoted(commands, here, "1.1")
    assert prod_of(here, delivery)["state"] == "parked"
    return delivery


def test_a_parked_promotion_is_carried_out_by_a_replay(
    here: ReceiverHere, commands: Commands, sandbox: EdgegapSandbox
) -> None:
    """It ended `superseded`: the rules had given the delivery another target."""
    delivery = refused(commands, here, sandbox)

    replayed = commands.json_of("replay", delivery, "--json")

    assert "Promoted my-game/prod to 1.1" in replayed["sentence"]
    assert prod_of(here, delivery)["outcome"] == "updated"
    assert tag_of(sandbox) == "1.1"


def test_a_dismissed_promotion_is_carried_out_by_a_replay(
    here: ReceiverHere, commands: Commands, sandbox: EdgegapSandbox
) -> None:
    delivery = refused(commands, here, sandbox)
    commands.json_of("dismiss", delivery, "--json")

    commands.json_of("replay", delivery, "--json")

    assert prod_of(here, delivery)["outcome"] == "updated"
    assert tag_of(sandbox) == "1.1"


@pytest.mark.parametrize("since", [("rollback", "--to", "1.0"), ("release",)], ids=" ".join)
def test_a_replayed_promotion_does_not_undo_what_was_requested_since(
    here: ReceiverHere, commands: Commands, sandbox: EdgegapSandbox, since: tuple[str, ...]
) -> None:
    delivery = refused(commands, here, sandbox)
    action, *options = since
    assert commands.run(action, APP, "prod", *options).exit_code == 0

    replayed = commands.json_of("replay", delivery, "--json")

    assert "`receiver promote my-game prod --to 1.1`" in replayed["sentence"]
    assert replayed["registrations"] == []
    assert prod_of(here, delivery)["outcome"] == "superseded"
    assert tag_of(sandbox) == "1.0"


def test_a_promotion_stays_although_the_push_that_it_joined_is_replayed(
    here: ReceiverHere, commands: Commands, sandbox: EdgegapSandbox
) -> None:
    """The move that waited for an approval became the promotion's own."""
    sandbox.misbehave(replace(NO, method="POST"))
    delivery = promoted(commands, here, "1.1")
    joined = prod_of(here, delivery)
    assert joined["state"] == "parked"
    (push,) = (one for one in joined["deliveries"] if one != delivery)

    commands.json_of("replay", push, "--json")

    until(lambda: prod_of(here, delivery)["outcome"] == "created")
    assert tag_of(sandbox) == "1.1"


def test_a_reload_gives_a_promotion_no_other_target(
    here: ReceiverHere, commands: Commands, sandbox: EdgegapSandbox
) -> None:
    """It ended `superseded` by the version of its tag, and was not parked any more."""
    delivery = refused(commands, here, sandbox)
    here.config.write_text(MOVES + NO_CATCH_UP, "utf-8")
    assert not here.inside(lambda: here.service.reload(here.environment)).faults

    until(lambda: prod_of(here, delivery)["reason"] == "rule_changed")
    here.config.write_text(CONFIG, "utf-8")
    assert not here.inside(lambda: here.service.reload(here.environment)).faults

    assert prod_of(here, delivery)["outcome"] == "updated"
    assert tag_of(sandbox) == "1.1"

"""A hundred thousand parked registrations: dismissed and replayed in parts."""

import asyncio
from functools import partial
from typing import Any

import pytest

from receiver.cli.client import Server
from receiver.config.settings import LiveSettings, Settings
from receiver.ledger.ledger import Ledger
from receiver.ledger.parked import parked_ids
from receiver.logs import Source
from receiver.reasons import Reason
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.upkeep import operations
from tests.e2e.test_dismissing import outcome, taken
from tests.support.commands import Commands
from tests.support.ledger_work import one_claim, parked, pushed, settled, write
from tests.support.receiver_here import ReceiverHere
from tests.support.receiver_process import APP
from tests.support.visitor import Reading, visitor


def test_what_is_long_is_done_in_parts_that_are_printed_one_by_one(
    here: ReceiverHere,
    sandbox: EdgegapSandbox,
    beside: Commands,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The command gave up after 15 seconds, although it was all done a minute later."""
    monkeypatch.setattr(operations, "MAX_IN_REQUEST", 2)
    monkeypatch.setattr(operations, "MAX_BATCH", 2)
    deliveries = [taken(here, sandbox, f"1.{number}") for number in range(5)]
    really, asked = Server.ask, []

    async def ask(self: Server, method: str, path: str, *given: Any, **more: Any) -> Any:
        asked.append(path)
        return await really(self, method, path, *given, **more)

    monkeypatch.setattr(Server, "ask", ask)
    replayed = beside.run("replay", "--parked").stdout.splitlines()
    assert [line.split()[0] for line in replayed] == deliveries
    assert asked == ["/api/replay"] * 3
    for delivery in deliveries:
        assert here.ended(delivery)["state"] == "parked"
    dismissed = beside.run("dismiss", "--all").stdout.splitlines()
    assert [line.split()[2] for line in dismissed] == [f"{APP}/1.{number}" for number in range(5)]
    assert asked[3:] == ["/api/dismiss"] * 3
    assert {outcome(here, one) for one in deliveries} == {("done", "dismissed")}


def test_the_page_says_that_it_replays_the_oldest_only(
    here: ReceiverHere, sandbox: EdgegapSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        taken(here, sandbox, f"1.{number}")
    monkeypatch.setattr(operations, "MAX_IN_REQUEST", 2)
    with visitor(here) as person:
        form = person.read("/").form("/do/replay-parked")

        asked = Reading(person.post("/do/replay-parked", data=form).text)
        person.confirm("/do/replay-parked", form)

        assert "Replay the oldest 2 of 3 parked? 3 for name_taken" in asked.text
        done = "2 pushes were replayed; a version that cannot be created is parked again. Others"
        assert done in person.read("/").text


def test_all_that_is_parked_is_dismissed_or_replayed_in_short_transactions(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one for a hundred thousand no push was accepted for half a minute."""
    monkeypatch.setattr(operations, "MAX_BATCH", 2)
    for number, reason in enumerate(6 * [Reason.APP_MISSING, Reason.NOT_AMD64]):
        write(ledger, lambda tx, number=number: pushed(tx, f"1.{number}"))  # type: ignore[misc]
        settled(ledger, one_claim(ledger), parked(reason))
    manual = operations.Manual(ledger, LiveSettings(Settings()), lambda: None, lambda: None)
    before = ledger.commits
    asyncio.run(manual.replay((), Source.API, parked=True))
    assert ledger.commits - before > 6
    before = ledger.commits

    dismissed = operations.dismiss(ledger, operations.Requester("page"), everything=True)
    changed = asyncio.run(dismissed)

    assert len({one.id for one in changed.registrations}) == len(changed.registrations) > 6
    assert (changed.missing, changed.unchanged, changed.superseded) == ((), (), ())
    assert ledger.commits - before > len(changed.registrations) / 2
    assert ledger.read_sync(partial(parked_ids, reason=None)) == []
    nothing = asyncio.run(operations.dismiss(ledger, operations.Requester("page")))
    assert nothing == operations.Dismissed((), (), (), ())

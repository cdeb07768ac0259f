"""What is older than the ledger keeps goes; what is open or held stays."""

import asyncio
import time
from functools import partial

import pytest
from sqlalchemy.engine import URL

from receiver.config.settings import LiveSettings, Settings
from receiver.images import ImageReference
from receiver.ledger import ids, purge
from receiver.ledger.approvals import approve
from receiver.ledger.claims import claim
from receiver.ledger.deliveries import NewDelivery, record
from receiver.ledger.ledger import Ledger
from receiver.ledger.results import Result, settle
from receiver.ledger.transaction import Tx
from receiver.reasons import Outcome, State, Verdict
from receiver.rules.rule import Decision, Match, Mode
from receiver.signing import Approvable
from receiver.upkeep.purge import Purge

DAY = 86_400_000


def _delivered(tx: Tx, tag: str, *, days_ago: int, channel: str = "") -> str:
    tx._now = time.time_ns() // 1_000_000 - days_ago * DAY
    delivery = NewDelivery(source="webhook", repository="studio/game", tag=tag)
    match = Match(rule="r", app="my-game", version=tag)
    if channel:
        match = Match(rule="r", app="my-game", version=channel, mode=Mode.CHANNEL)
    return record(tx, delivery, Decision(Verdict.ACCEPTED, matches=(match,))).delivery


def _done(tx: Tx, days_ago: int, outcome: Outcome = Outcome.CREATED) -> None:
    tx._now = time.time_ns() // 1_000_000 - days_ago * DAY
    for claimed in claim(tx, owner="w", most=1000):
        assert settle(tx, claimed, "w", Result(State.DONE, outcome=outcome))


def _approved(tx: Tx, tag: str, *, days_ago: int) -> None:
    tx._now = time.time_ns() // 1_000_000 - days_ago * DAY
    image = ImageReference(repository="studio/game", tag=tag)
    approve(tx, Approvable("my-game", "prod", image, None), approver="anna", address="203.0.113.7")


def _count(tx: Tx, table: str) -> int:
    return int(tx.run(f"SELECT count(*) FROM {table}").scalar_one())


def test_old_deliveries_go_and_targets_with_their_last_registration_stay(
    either: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ids, "_last", 0)  # ids of this process never go back, these must

    async def scenario() -> None:
        ledger = Ledger(either)
        ledger.open_to_write()
        for number in range(700):
            await ledger.write(partial(_delivered, tag=f"1.{number}", days_ago=100))
        await ledger.write(lambda tx: _done(tx, 100))
        again = await ledger.write(lambda tx: _delivered(tx, "1.0", days_ago=99))
        await ledger.write(lambda tx: _done(tx, 99))
        waiting = await ledger.write(lambda tx: _delivered(tx, "old-but-open", days_ago=100))
        young = await ledger.write(lambda tx: _delivered(tx, "2.0", days_ago=1))

        gone = await Purge(ledger, LiveSettings(Settings())).run()

        assert gone == 701
        left = await ledger.read(lambda tx: {row.id for row in tx.run("SELECT id FROM deliveries")})
        assert left == {waiting, young}
        assert again not in left
        assert await ledger.read(lambda tx: _count(tx, "targets")) == 700
        held = await ledger.read(
            lambda tx: tx.run(
                "SELECT count(*) FROM targets t JOIN registrations r ON r.id = t.registration_id"
            ).scalar_one()
        )
        assert held == 700
        assert await ledger.read(lambda tx: _count(tx, "registrations")) == 702
        ledger.close()

    asyncio.run(scenario())


def test_what_is_parked_hides_nothing_that_is_behind_it(
    either: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ids, "_last", 0)
    monkeypatch.setattr(purge, "WINDOW", 2)

    async def scenario() -> None:
        ledger = Ledger(either)
        ledger.open_to_write()
        for tag in ("a", "b", "c", "d", "e"):
            await ledger.write(partial(_delivered, tag=f"parked-{tag}", days_ago=100))
        parked = "UPDATE registrations SET state = 'parked'"
        await ledger.write(lambda tx: tx.run(parked).rowcount)
        for tag in ("x", "y", "z"):
            await ledger.write(partial(_delivered, tag=tag, days_ago=99))
        request = """INSERT INTO requests (registration_id, attempt, step, at, method, path)
         SELECT id, 1, 1, created_at, 'GET', '/' FROM registrations"""
        await ledger.write(lambda tx: tx.run(request).rowcount)
        await ledger.write(lambda tx: _done(tx, 98, Outcome.SUPERSEDED))
        await ledger.write(partial(_delivered, tag="young", days_ago=1))

        assert await Purge(ledger, LiveSettings(Settings())).run() == 3

        for table, left in (("deliveries", 6), ("registrations", 6), ("requests", 5)):
            assert await ledger.read(partial(_count, table=table)) == left
        ledger.close()

    asyncio.run(scenario())


def test_who_approved_a_move_is_deleted_with_it(
    either: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger keeps names and addresses no longer than the deliveries."""
    monkeypatch.setattr(ids, "_last", 0)

    async def scenario() -> None:
        ledger = Ledger(either)
        ledger.open_to_write()
        await ledger.write(partial(_delivered, tag="old", days_ago=100, channel="prod"))
        await ledger.write(lambda tx: _done(tx, 100, Outcome.SUPERSEDED))
        await ledger.write(partial(_delivered, tag="open", days_ago=100, channel="prod"))
        await ledger.write(partial(_delivered, tag="young", days_ago=1, channel="prod"))
        for tag, days in (("old", 100), ("open", 100), ("young", 1)):
            await ledger.write(partial(_approved, tag=tag, days_ago=days))

        await Purge(ledger, LiveSettings(Settings())).run()

        left = await ledger.read(lambda tx: tx.run("SELECT tag FROM approvals ORDER BY 1").all())
        assert [row.tag for row in left] == ["open", "young"]
        ledger.close()

    asyncio.run(scenario())

"""Turns: what one of the replicas does alone, until it is done, or dead, or hangs."""

import asyncio
import threading
import time

import pytest
from sqlalchemy import Connection, Engine

from receiver.errors import LedgerError
from receiver.ledger import replicas as turns
from receiver.ledger.ledger import Ledger
from tests.support.ledger_work import alone
from tests.support.postgres import Postgres, rows
from tests.support.receiver_process import until

END_TURNS = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'"
HELD = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"


def test_one_does_a_thing_alone_until_it_is_done_or_dead(
    replicas: tuple[Ledger, Ledger], postgres: Postgres
) -> None:
    one, other = replicas

    async def turns() -> list[bool]:
        seen = []
        async with (
            one.try_lock("purge") as mine,
            other.try_lock("purge") as theirs,
            other.try_lock("catch-up") as another,
        ):
            seen += [mine, theirs, another]
        async with other.try_lock("purge") as free:
            seen.append(free)
        async with one.try_lock("purge") as first:
            assert await asyncio.to_thread(rows, one._url, END_TURNS)
            await asyncio.to_thread(until, lambda: rows(one._url, HELD) == [(0,)])
            async with other.try_lock("purge") as heir:
                seen += [first, heir]
        return seen

    assert asyncio.run(turns()) == [True, False, True, True, True, True]


def test_one_that_hangs_loses_its_turn_and_one_that_works_on_keeps_it(
    replicas: tuple[Ledger, Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica that was stopped kept catch-up from all the others meanwhile."""
    one, other = replicas
    monkeypatch.setattr(turns, "IDLE_MS", 600)
    monkeypatch.setattr(turns, "SHOWN_SECONDS", 0.1)

    async def works_on() -> bool:
        async with one.try_lock("purge") as mine:
            await asyncio.sleep(1.5)
            return mine and not await alone(other)

    async def hangs() -> None:
        async with one.try_lock("purge") as mine:
            assert mine
            await asyncio.to_thread(until, lambda: asyncio.run(alone(other)))
            await asyncio.sleep(5)

    assert asyncio.run(works_on())
    monkeypatch.setattr(turns, "SHOWN_SECONDS", 1.5)  # it shows itself too late
    with pytest.raises(LedgerError, match="the turn to do the purge was lost"):
        asyncio.run(hangs())
    assert asyncio.run(alone(one))


def test_who_is_cancelled_while_it_takes_its_turn_does_not_keep_it(
    replicas: tuple[Ledger, Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread takes it all the same: then it is given back."""
    one, other = replicas
    take, begun, done = turns._take, threading.Event(), threading.Event()

    def slowly(engine: Engine, name: str) -> Connection | None:
        begun.set()
        time.sleep(0.2)
        try:
            return take(engine, name)
        finally:
            done.set()

    async def cancelled() -> bool:
        monkeypatch.setattr(turns, "_take", slowly)
        asking = asyncio.create_task(alone(one))
        await asyncio.to_thread(begun.wait, 10)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert await asyncio.to_thread(done.wait, 10)
        monkeypatch.setattr(turns, "_take", take)
        return await alone(other)

    assert asyncio.run(cancelled())


def test_who_is_stopped_while_its_turn_is_lost_stops(
    replicas: tuple[Ledger, Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stop was confused with the lost turn, and the work went on."""
    monkeypatch.setattr(turns, "SHOWN_SECONDS", 0.1)
    lost = asyncio.Event()

    async def work() -> None:
        async with replicas[0].try_lock("purge") as mine:
            assert mine
            try:
                await asyncio.sleep(30)
            finally:
                await asyncio.to_thread(rows, replicas[0]._url, END_TURNS)
                await lost.wait()

    async def stopped() -> None:
        working = asyncio.create_task(work())
        await asyncio.to_thread(until, lambda: rows(replicas[0]._url, HELD) == [(1,)])
        working.cancel()
        await working

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(stopped())

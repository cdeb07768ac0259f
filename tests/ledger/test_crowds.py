"""Many writes at once: they share a commit, and the event loop never waits for the disk."""

import asyncio
import resource
import shutil
import sqlite3
import threading
import time
from collections.abc import Awaitable, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from receiver.errors import LedgerError
from receiver.ledger import writer
from receiver.ledger.engine import BUSY_TIMEOUT_MS
from receiver.ledger.ledger import Ledger
from receiver.ledger.sqlite_file import LedgerReplaced
from receiver.ledger.transaction import Tx
from tests.support.disk import on_disk, put

ON_FILE = pytest.mark.parametrize("either", ["sqlite"], indirect=True)
CROWD = 16


class Keys:
    """Writes keys, and notes how many each group has; a group takes `seconds`."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.groups: list[int] = []
        self.seconds = 0.0
        self._number = 0

    async def put(self, many: int) -> list[str]:
        """Write as many at once; returns their results."""
        return await asyncio.gather(*self.writes(many))

    def writes(self, many: int) -> list[Awaitable[str]]:
        keys = [f"key {self._number + number}" for number in range(many)]
        self._number += many
        return [self.ledger.write_batched(self._put_all, key) for key in keys]

    def _put_all(self, tx: Tx, keys: Sequence[str]) -> list[str]:
        self.groups.append(len(keys))
        time.sleep(self.seconds)
        return [put(tx, key) for key in keys]


@pytest.fixture
def keys(ledger: Ledger) -> Keys:
    return Keys(ledger)


def test_a_crowd_is_on_disk_before_its_answers(keys: Keys, either: URL) -> None:
    async def written() -> list[bool]:
        async def one(write: Awaitable[str]) -> bool:
            return await write in on_disk(either)

        return await asyncio.gather(*map(one, keys.writes(3 * CROWD)))

    assert asyncio.run(written()) == [True] * 3 * CROWD


def test_what_comes_at_once_is_one_group(keys: Keys) -> None:
    async def in_turn() -> None:
        for many in (1, CROWD, 1):
            await keys.put(many)

    asyncio.run(in_turn())

    assert keys.groups == [1, CROWD, 1]


def test_a_slow_disk_does_not_hold_up_the_loop(keys: Keys) -> None:
    async def beside() -> int:
        keys.seconds = 0.5
        crowd = asyncio.ensure_future(keys.put(CROWD))
        rounds = 0
        while not crowd.done():
            await asyncio.sleep(0.001)
            rounds += 1
        return rounds

    assert asyncio.run(beside()) > 10


def test_a_crowd_does_not_hold_up_the_loop_behind_a_write_that_lasts(keys: Keys) -> None:
    begun, done = threading.Event(), threading.Event()

    def lasting(tx: Tx) -> str:
        begun.set()
        assert done.wait(10)
        return put(tx, "lasting")

    async def beside() -> list[str]:
        first = asyncio.ensure_future(keys.ledger.write(lasting))
        assert await asyncio.to_thread(begun.wait, 10)
        crowd = asyncio.ensure_future(keys.put(2 * CROWD))
        for _ in range(20):  # the loop goes round
            await asyncio.sleep(0.001)
        assert not crowd.done()
        done.set()
        return [await first, *await crowd]

    assert len(asyncio.run(beside())) == 1 + 2 * CROWD


@ON_FILE
def test_a_crowd_does_not_hold_up_the_loop_at_a_locked_file(keys: Keys, either: URL) -> None:
    """The loop was blocked for the two seconds that a lock is waited for."""

    went_round = threading.Event()

    def until_it_goes_round(stranger: sqlite3.Connection) -> bool:
        goes_round = went_round.wait(BUSY_TIMEOUT_MS / 1000 * 0.8)
        stranger.rollback()
        return goes_round

    async def beside_a_stranger() -> tuple[list[str], bool]:
        await keys.put(1)
        where = str(either.database)
        with closing(sqlite3.connect(where, check_same_thread=False)) as stranger:
            stranger.execute("BEGIN IMMEDIATE")
            holding = asyncio.ensure_future(asyncio.to_thread(until_it_goes_round, stranger))
            crowd = asyncio.ensure_future(keys.put(CROWD))
            for _ in range(20):
                await asyncio.sleep(0.001)
            went_round.set()
            return await crowd, await holding

    written, goes_round = asyncio.run(beside_a_stranger())
    assert goes_round
    assert set(written) <= on_disk(either)


@ON_FILE
def test_a_crowd_does_not_hold_up_the_loop_behind_a_long_look_at_a_replaced_file(
    keys: Keys, either: URL
) -> None:
    """A reader of the former file must close it first, and may read for long."""
    path = Path(str(either.database))
    begun, done = threading.Event(), threading.Event()

    def long_look(tx: Tx) -> None:
        tx.run("SELECT 1")
        begun.set()
        assert done.wait(10)

    async def beside_a_reader() -> list[str | BaseException]:
        await keys.put(1)
        looking = asyncio.ensure_future(keys.ledger.read(long_look))
        assert await asyncio.to_thread(begun.wait, 10)
        shutil.copy(path, path.with_name("other"))
        path.with_name("other").replace(path)
        crowd = asyncio.gather(*keys.writes(CROWD), return_exceptions=True)
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert not crowd.done()
        done.set()
        await looking
        return await crowd

    assert {type(one) for one in asyncio.run(beside_a_reader())} == {LedgerReplaced}


@ON_FILE
def test_a_crowd_on_a_full_disk_is_refused_and_none_of_it_is_kept(keys: Keys, either: URL) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    async def on_a_full_disk() -> list[str | BaseException]:
        await keys.put(1)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            return await asyncio.gather(*keys.writes(CROWD), return_exceptions=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert {type(one) for one in asyncio.run(on_a_full_disk())} == {LedgerError}
    there = set(asyncio.run(keys.put(CROWD)))
    assert {one for one in on_disk(either) if one.startswith("key ")} == {"key 0", *there}


def test_a_write_while_the_ledger_closes_is_refused(either: URL) -> None:
    """It was waited for for ever."""
    keys = Keys(Ledger(either))
    keys.ledger.open_to_write(wait_seconds=0)

    async def closing_meanwhile() -> list[str | BaseException]:
        await keys.put(1)
        answer = asyncio.gather(*keys.writes(3), return_exceptions=True)
        keys.ledger.close()
        return await asyncio.wait_for(answer, 10)

    assert {type(one) for one in asyncio.run(closing_meanwhile())} == {LedgerError}


def test_what_is_written_no_longer_waits_for_the_disk(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MAX_PENDING", 2 * CROWD)

    async def in_turn() -> None:
        for many in (1, CROWD, CROWD + 1, 2 * CROWD, 3, 2 * CROWD):
            await keys.put(many)
        with pytest.raises(LedgerError, match="waiting for the disk"):
            await keys.put(2 * CROWD + 1)

    asyncio.run(in_turn())


def test_one_that_cannot_be_written_fails_alone_in_a_crowd(keys: Keys, either: URL) -> None:
    async def with_one_twice() -> list[object]:
        await keys.ledger.write(lambda tx: put(tx, "key 3"))
        return list(await asyncio.gather(*keys.writes(CROWD), return_exceptions=True))

    came = asyncio.run(with_one_twice())

    assert isinstance(came.pop(3), LedgerError)
    assert len(came) == CROWD - 1
    assert set(came) <= set(on_disk(either))

"""Writes that come at once share a commit, and each is on disk before its answer: on both."""

import asyncio
import threading
from collections.abc import Sequence

import pytest
from sqlalchemy import event
from sqlalchemy.engine import URL

from receiver.errors import LedgerError
from receiver.ledger.ledger import Ledger
from receiver.ledger.transaction import Tx
from tests.support.disk import on_disk, put


def commits_of(ledger: Ledger) -> list[str]:
    seen: list[str] = []
    event.listen(ledger._write_engine, "commit", lambda _: seen.append("commit"))
    return seen


def test_concurrent_writes_share_a_commit_and_are_on_disk_before_their_answer(
    ledger: Ledger, either: URL
) -> None:
    commits = commits_of(ledger)
    queued = threading.Event()

    def first(tx: Tx) -> str:
        assert queued.wait(10)
        return put(tx, "first")

    def put_all(tx: Tx, keys: Sequence[str]) -> list[str]:
        return [put(tx, key) for key in keys]

    async def answered(key: str) -> bool:
        return await ledger.write_batched(put_all, key) in on_disk(either)

    async def many() -> list[bool]:
        holding = asyncio.create_task(ledger.write(first))
        waiting = [asyncio.create_task(answered(f"key {number}")) for number in range(50)]
        await asyncio.sleep(0)
        queued.set()
        assert await holding in on_disk(either)
        return await asyncio.gather(*waiting)

    assert all(asyncio.run(many()))
    assert 1 <= len(commits) <= 2


def test_what_is_written_alike_is_written_by_one_call_and_each_gets_its_own_answer(
    ledger: Ledger, either: URL
) -> None:
    calls: list[int] = []
    queued = threading.Event()

    def hold(tx: Tx) -> None:
        assert queued.wait(10)

    def put_all(tx: Tx, keys: Sequence[str]) -> list[str]:
        calls.append(len(keys))
        return [put(tx, key) for key in keys]

    async def many() -> list[object]:
        holding = asyncio.create_task(ledger.write(hold))
        alike = [ledger.write_batched(put_all, f"key {number}") for number in range(20)]
        twice = ledger.write_batched(put_all, "key 7")
        tasks = [asyncio.ensure_future(one) for one in (*alike, twice)]
        await asyncio.sleep(0.05)
        queued.set()
        await holding
        return await asyncio.gather(*tasks, return_exceptions=True)

    *answers, doubled = asyncio.run(many())

    assert answers == [f"key {number}" for number in range(20)]
    assert isinstance(doubled, LedgerError)  # alone: it fails none of the others
    assert calls[0] == 21
    assert on_disk(either) >= {f"key {number}" for number in range(20)}


def test_a_ledger_that_is_not_open_takes_nothing(either: URL) -> None:
    closed = Ledger(either)

    with pytest.raises(LedgerError, match="not open"):
        asyncio.run(closed.write(lambda tx: put(tx, "k")))
    closed.close()


@pytest.mark.parametrize("text", ["a\0b", "a\ud800b", "\\u0000 as it is", "a\nb"])
def test_no_text_that_a_database_refuses_keeps_its_group_from_being_written(
    ledger: Ledger, either: URL, text: str
) -> None:
    rows = [("one", text), ("two", "x" * 5)]
    kept = text.replace("\0", "\ufffd").replace("\ud800", "\ufffd")

    asyncio.run(ledger.write(lambda tx: tx.insert("meta", ("key", "value"), rows)))

    found = ledger.read_sync(lambda tx: tx.run("SELECT value FROM meta WHERE key = 'one'").scalar())
    assert found == kept
    assert "two" in on_disk(either)

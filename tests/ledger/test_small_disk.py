"""A small disk does not fill up with the ledger's own log."""

import asyncio
from functools import partial
from pathlib import Path

from receiver.ledger.engine import PAGE_BYTES, WAL_BYTES, WAL_PAGES, read_database_url
from receiver.ledger.ledger import Ledger
from receiver.ledger.transaction import Tx


def _write(tx: Tx, key: str) -> None:
    tx.run("INSERT INTO meta (key, value) VALUES (:key, :value)", key=key, value="x" * 2000)


def test_the_log_stays_small_however_much_is_written(tmp_path: Path) -> None:
    async def scenario() -> int:
        ledger = Ledger(read_database_url(f"sqlite:///{tmp_path / 'ledger.db'}"))
        ledger.open_to_write()
        largest = 0
        for number in range(1000):
            await ledger.write(partial(_write, key=str(number)))
            largest = max(largest, (tmp_path / "ledger.db-wal").stat().st_size)
        ledger.close()
        return largest

    largest = asyncio.run(scenario())

    assert largest <= WAL_BYTES
    assert largest <= 2 * WAL_PAGES * PAGE_BYTES

"""The smallest write there is, one key, and what any other process would see of it on disk."""

import sqlite3
from contextlib import closing

from sqlalchemy.engine import URL

from receiver.ledger.transaction import Tx
from tests.support.postgres import rows

KEYS = "SELECT key FROM meta"


def put(tx: Tx, key: str) -> str:
    tx.run("INSERT INTO meta (key, value) VALUES (:key, 'x')", key=key)
    return key


def on_disk(url: URL) -> set[str]:
    """Read with another library's connection, or the driver's own."""
    if url.drivername != "sqlite":
        return {row[0] for row in rows(url, KEYS)}
    with closing(sqlite3.connect(str(url.database))) as connection:
        return {row[0] for row in connection.execute(KEYS)}

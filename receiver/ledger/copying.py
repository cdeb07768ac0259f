"""Copies of the ledger: a backup of a live SQLite file, and a move to another database."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from sqlalchemy import Select, Table, func, insert, select, tuple_

from receiver.errors import LedgerError
from receiver.ledger.ledger import Ledger
from receiver.ledger.schema import (
    attempts,
    cursors,
    deliveries,
    gates,
    led_to,
    notices,
    pauses,
    registrations,
    retirements,
    targets,
)
from receiver.ledger.transactions import Tx

COPIED = (
    deliveries, registrations, led_to, attempts, targets, gates, cursors, pauses, retirements,
    notices,
)  # fmt: skip
BITE = 500


def back_up(ledger: Path, copy: Path) -> int:
    """Make a consistent copy of a live SQLite ledger; return its bytes. Raises LedgerError."""
    if copy.exists():
        raise LedgerError(f"{copy} is there already; name a new file")
    try:
        with (
            closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(copy)) as target,
        ):
            # In one step, of one snapshot: between steps any commit would have it begin anew.
            source.backup(target)
            sound = target.execute("PRAGMA quick_check").fetchone()[0]
    except sqlite3.Error as error:
        copy.unlink(missing_ok=True)
        raise LedgerError(f"the backup failed: {error}") from None
    if sound != "ok":
        raise LedgerError(f"the backup {copy} is not sound: {sound}")
    return copy.stat().st_size


def rows_of(tx: Tx, table: Table) -> int:
    """Return how many rows a table has."""
    return int(tx.connection.execute(select(func.count()).select_from(table)).scalar_one())


async def copy_ledger(source: Ledger, target: Ledger, moved: Callable[[int], None]) -> int:
    """Copy everything into an empty ledger, checked by counts; return the number of rows.

    `moved` is told of each bite. Raises LedgerError when the target holds something already, or
    the counts differ at the end.
    """
    for table in COPIED:
        if await target.read(lambda tx, t=table: rows_of(tx, t)):  # type: ignore[misc]
            raise LedgerError(f"the target is not empty: its {table.name} hold rows")
    total = 0
    for table in COPIED:
        copied = await _copy_table(source, target, table, moved)
        there = await target.read(partial(rows_of, table=table))
        if there != copied:
            raise LedgerError(f"{table.name}: {copied} rows copied, {there} are there")
        total += copied
    return total


async def _copy_table(
    source: Ledger, target: Ledger, table: Table, moved: Callable[[int], None]
) -> int:
    keys = list(table.primary_key.columns)
    pages = select(table).order_by(*keys).limit(BITE)
    page, copied = pages, 0
    while True:
        rows = await source.read(partial(_page, page=page))
        if not rows:
            return copied
        await target.write(partial(_insert, table=table, rows=rows))
        copied += len(rows)
        last = [rows[-1][key.name] for key in keys]
        page = pages.where(tuple_(*keys) > tuple_(*last))
        moved(len(rows))


def _page(tx: Tx, page: Select[Any]) -> list[dict[str, Any]]:
    return [dict(row) for row in tx.connection.execute(page).mappings()]


def _insert(tx: Tx, table: Table, rows: list[dict[str, Any]]) -> None:
    tx.connection.execute(insert(table), rows)

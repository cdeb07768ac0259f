"""One transaction on the ledger: plain SQL with `:name` parameters, the same on both engines.

Also single values about the ledger itself, by key.
"""

import re
import time
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import msgspec
from sqlalchemy import Connection, CursorResult

from receiver.ledger import ids

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # no text of a database: it would refuse it all
_NAMED = re.compile(r"(?<!:):([a-z_]+)")
MAX_ROWS = 64
NEWEST_IDS = " UNION ALL ".join(
    f"SELECT max(id) FROM {table}"  # noqa: S608 - constant SQL
    for table in ("deliveries", "registrations", "deletions", "channel_moves", "outbox", "trials")
)
DATABASE_CLOCK = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"


class Tx:
    """An open transaction. Its clock is read once: all rows that it writes have the same time.

    Who writes sets `quiet` if it changes nothing that a page shows.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.quiet = False
        self.postgresql = connection.dialect.name == "postgresql"
        self._now: int | None = None
        self._numbered = not self.postgresql  # one receiver alone knows the newest id itself

    @property
    def now(self) -> int:
        """The time in UTC epoch milliseconds: the database's own if replicas share it."""
        if self._now is None:
            self._now = self.clock()
        return self._now

    def clock(self) -> int:
        """Read that clock once more, however long this transaction lasts already."""
        if self.postgresql:
            return int(self.connection.exec_driver_sql(DATABASE_CLOCK).scalar_one())
        return time.time_ns() // 1_000_000

    def new_id(self, prefix: str) -> str:
        """Return a new id, after all that are in the ledger."""
        if not self._numbered:
            self.continue_after_newest()
        return ids.new_id(prefix, self.now)

    def continue_after_newest(self) -> None:
        """Have new ids come after the newest of the ledger, whose clock may have been ahead."""
        ids.continue_after(self.run(NEWEST_IDS).scalars())
        self._numbered = True

    def run(self, sql: str, **params: object) -> CursorResult[Any]:
        """Run one statement; its `:name` parameters are given by name."""
        return self.connection.exec_driver_sql(
            _for_psycopg(sql) if self.postgresql else sql,
            {name: _storable(value) for name, value in params.items()},
        )

    def insert(
        self,
        table: str,
        columns: Sequence[str],
        rows: Sequence[Sequence[object]],
        *,
        unless_there: bool = False,
    ) -> int:
        """Insert many rows by few statements; returns how many were inserted.

        With `unless_there`, those that a unique index knows already are left out. One statement
        for many is many times quicker than one each: the threads hand over once. It is for a power
        of two of rows, because SQLite keeps each statement compiled (up to 0.2 MB).
        """
        inserted = 0
        while rows:
            many = min(MAX_ROWS, 1 << len(rows).bit_length() - 1)
            sql = _insert(
                table, tuple(columns), many, unless_there, "%s" if self.postgresql else "?"
            )
            values = tuple(chain.from_iterable(rows[:many]))
            if not _all_storable(values):
                values = tuple(map(_storable, values))
            inserted += self.connection.exec_driver_sql(sql, values).rowcount
            rows = rows[many:]
        return inserted


@lru_cache(maxsize=256)
def _insert(table: str, columns: tuple[str, ...], many: int, unless_there: bool, mark: str) -> str:
    row = f"({', '.join([mark] * len(columns))})"
    values = ", ".join([row] * many)
    end = " ON CONFLICT DO NOTHING" if unless_there else ""
    return f"INSERT INTO {table} ({', '.join(columns)}) VALUES {values}{end}"  # noqa: S608 - constant SQL


def _all_storable(values: Sequence[object]) -> bool:
    """Check all together: nearly all are valid, and checking each costs more than binding it."""
    try:
        return b"\\u0000" not in msgspec.json.encode(values)
    except (UnicodeEncodeError, TypeError):  # half a surrogate pair; no plain value
        return False


def _storable(value: object) -> object:
    if isinstance(value, str) and not value.isprintable():
        return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value)
    return value


@lru_cache(maxsize=256)
def _for_psycopg(sql: str) -> str:
    return _NAMED.sub(r"%(\1)s", sql.replace("%", "%%"))


def read_note(tx: Tx, key: str) -> str | None:
    """Return a value, None if there is none."""
    found = tx.run("SELECT value FROM meta WHERE key = :key", key=key).scalar()
    return None if found is None else str(found)


def write_note(tx: Tx, key: str, value: str) -> None:
    """Set a value."""
    tx.run(
        "INSERT INTO meta (key, value) VALUES (:key, :value)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        key=key,
        value=value,
    )

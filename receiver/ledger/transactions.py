"""One transaction on the ledger: plain SQL with `:name` parameters, the same on both engines."""

import re
import time
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, CursorResult

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # no text of a database: it would refuse it all
_NAMED = re.compile(r"(?<!:):([a-z_]+)")
DATABASE_CLOCK = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"


class Tx:
    """A transaction under way. Its clock is read once: all it writes happened at one time."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.postgresql = connection.dialect.name == "postgresql"
        self._now: int | None = None

    @property
    def now(self) -> int:
        """The time in UTC epoch milliseconds: the database's own where replicas share one."""
        if self._now is None:
            if self.postgresql:
                self._now = int(self.connection.exec_driver_sql(DATABASE_CLOCK).scalar_one())
            else:
                self._now = time.time_ns() // 1_000_000
        return self._now

    def run(self, sql: str, **params: object) -> CursorResult[Any]:
        """Run one statement; its `:name` parameters are given by name."""
        return self.connection.exec_driver_sql(
            _for_psycopg(sql) if self.postgresql else sql,
            {name: _storable(value) for name, value in params.items()},
        )


def _storable(value: object) -> object:
    if isinstance(value, str) and not value.isprintable():
        return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", value)
    return value


@lru_cache(maxsize=256)
def _for_psycopg(sql: str) -> str:
    return _NAMED.sub(r"%(\1)s", sql.replace("%", "%%"))

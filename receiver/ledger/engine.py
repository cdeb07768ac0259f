"""Opening the ledger's database: SQLite in a file, or PostgreSQL by URL.

SQLite must really run in WAL with synchronous=FULL, PostgreSQL with fsync and synchronous_commit:
else a delivery answered 202 could be lost with the power. It is checked at each opening.
"""

import re
from contextlib import suppress
from pathlib import Path
from sqlite3 import Connection as SqliteConnection
from sqlite3 import Error as SqliteError
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import NullPool

from receiver.errors import LedgerError
from receiver.extras import how_to_install
from receiver.logs import masking

MAX_ERROR = 200
DAMAGED = ("malformed", "not a database")  # in SQLite's words for it
DEADLOCK = "40P01"  # https://www.postgresql.org/docs/current/errcodes-appendix.html
BUSY_TIMEOUT_MS = 2000
PAGE_BYTES = 4096  # of 4, 8 and 16 KiB what a group of accepts is written quickest with
CACHED_STATEMENTS = 512  # inserts have a text for each number of rows, up to 64
SYNCHRONOUS_FULL = 2
WAL_PAGES = 512  # 2 MiB: a small disk must not fill up with the log alone
WAL_BYTES = 4 * 1024 * 1024
CACHED_KIB = 8 * 1024  # more than the log: what that holds can be saved if it is cut off under us
# A replica that is stopped or cut off in the midst of a transaction must not hold the others up.
IDLE_IN_TRANSACTION_MS = 5000
CONNECTING = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,
}  # detects a host that disappeared without closing; the URL may override these


def is_deadlock(error: DBAPIError) -> bool:
    """Return whether PostgreSQL ended the transaction because of a deadlock: try it again."""
    return getattr(error.orig, "sqlstate", None) == DEADLOCK


def describe_error(error: Exception) -> str:
    """Return the driver's own words; masked before they are cut, or half a secret would pass."""
    cause = getattr(error, "orig", None) or error
    words = masking(" ".join(str(cause).split()))[:MAX_ERROR] or type(cause).__name__
    if any(damaged in words for damaged in DAMAGED):
        return f"{words}: the file is damaged; stop the receiver and put a backup in its place"
    return words


def read_database_url(text: str) -> URL:
    """Read DATABASE_URL: `sqlite:///path`, `postgresql://…` or `postgres://…`.

    Raises ValueError, saying what it should look like; never with the URL, it may hold a password.
    """
    scheme, separator, rest = text.partition("://")
    try:
        url = make_url(f"{scheme.lower()}{separator}{rest}")
    except (ArgumentError, ValueError):
        raise ValueError("it is not a database URL") from None
    database, _, driver = url.drivername.partition("+")
    if database == "sqlite":
        fault = _sqlite_fault(url)
        if fault is not None:
            raise ValueError(fault)
        return url
    if database in {"postgresql", "postgres"}:
        if driver not in {"", "psycopg"}:
            raise ValueError(f"it names the driver {driver}: write postgresql:// alone")
        if "@" in (url.host or ""):  # a part of the password: errors would show it as host
            raise ValueError("an @ of the password must be written as %40, as : / ? # % by theirs")
        return url.set(drivername="postgresql+psycopg")
    raise ValueError("it names neither a SQLite file nor PostgreSQL")


def _sqlite_fault(url: URL) -> str | None:
    path = url.database or ""
    if url.drivername != "sqlite":
        return "it names a driver: write sqlite:/// alone"
    if url.host is not None or url.username is not None:
        place = "/".join(part for part in (url.host, path) if part)
        return (
            f"sqlite:// has two slashes: write three for a path from here (sqlite:///{place}), "
            f"four for one from the root (sqlite:////{place})"
        )
    if not path or path.startswith((":memory:", "file:")):
        return "it names no file, and a ledger in memory would be lost"
    if path.endswith("/"):
        return "it names a directory: add the name of a file"
    if re.match(r"[A-Za-z]:[\\/]|\\\\", path):
        return "it names a path of Windows, which would be a strange file name here"
    if path.startswith("~"):
        return "~ is not expanded in it: write the whole path"
    return "a SQLite file takes no `?…` after its path" if url.query else None


def sqlite_path(url: URL) -> Path | None:
    """Return the ledger's file, None when it is on PostgreSQL."""
    return Path(str(url.database)).absolute() if url.drivername == "sqlite" else None


def open_engine(url: URL, *, read_only: bool = False, pooled: bool = True) -> Engine:
    """Return an engine whose connections are set up for the ledger. Nothing is opened yet."""
    if url.drivername != "sqlite":
        return _open_postgresql(url, pooled=pooled)
    engine = create_engine(
        url,
        poolclass=NullPool,
        connect_args={
            "check_same_thread": False,
            "timeout": BUSY_TIMEOUT_MS / 1000,
            "cached_statements": CACHED_STATEMENTS,
        },
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: SqliteConnection, _: Any) -> None:
        connection.isolation_level = None  # `begin` below begins transactions
        for pragma in _pragmas(read_only=read_only):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")

    return engine


def _open_postgresql(url: URL, *, pooled: bool) -> Engine:
    answer = {name: value for name, value in CONNECTING.items() if name not in url.query}
    pool: dict[str, Any] = {"pool_pre_ping": True, "pool_size": 1, "max_overflow": 0}
    try:
        engine = create_engine(
            url, connect_args=answer, **(pool if pooled else {"poolclass": NullPool})
        )
    except ModuleNotFoundError:
        raise LedgerError(
            "the ledger is on PostgreSQL, whose driver is not installed: "
            + how_to_install("postgres")
        ) from None

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _: Any) -> None:
        connection.execute(f"SET idle_in_transaction_session_timeout = {IDLE_IN_TRANSACTION_MS}")
        connection.commit()

    return engine


def check_durability(connection: Connection) -> None:
    """Raise LedgerError unless a commit here outlives a power cut."""
    if connection.dialect.name == "sqlite":
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        level = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
        if mode != "wal" or level != SYNCHRONOUS_FULL:
            raise LedgerError(
                f"SQLite runs with journal_mode={mode}, synchronous={level} where wal and 2 are "
                "needed: a network file system often refuses WAL. Put the ledger on a local disk, "
                "or set DATABASE_URL to a PostgreSQL."
            )
        return
    if not connection.exec_driver_sql("SELECT 'a' < 'aa' AND 'aa' < 'ab' AND 'ch' < 'd'").scalar():
        raise LedgerError(
            "this PostgreSQL database sorts text by a language's own order, and the ledger goes by "
            "plain order: make one for it with CREATE DATABASE … LC_COLLATE 'C' TEMPLATE template0"
        )
    for setting in ("fsync", "synchronous_commit"):
        value = connection.exec_driver_sql(f"SHOW {setting}").scalar_one()
        if value == "off":
            raise LedgerError(
                f"PostgreSQL runs with {setting} = off; turn it on: pushes would be lost"
            )


def checkpoint(connection: Connection) -> bool:
    """Empty SQLite's write-ahead log into the file, which also gives a full disk room again.

    Return False if a reader prevents it, or if the disk has no room for it: then the next write
    reports the error.
    """
    if connection.dialect.name == "sqlite":
        driver = connection.connection.driver_connection
        if driver is not None:
            with suppress(SqliteError):
                return not driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
    return False


def _pragmas(*, read_only: bool) -> tuple[str, ...]:
    common = (f"busy_timeout = {BUSY_TIMEOUT_MS}", "foreign_keys = ON")
    if read_only:
        return (*common, "query_only = ON")
    return (
        *common,
        f"page_size = {PAGE_BYTES}",
        "auto_vacuum = INCREMENTAL",
        "journal_mode = WAL",
        "synchronous = FULL",
        "temp_store = MEMORY",  # else each group of accepts makes and deletes a temporary file
        f"cache_size = -{CACHED_KIB}",
        f"wal_autocheckpoint = {WAL_PAGES}",
        f"journal_size_limit = {WAL_BYTES}",
    )

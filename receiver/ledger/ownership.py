"""Check whether a database is the receiver's, empty, or another program's, which is refused."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import Connection, create_engine, inspect
from sqlalchemy.pool import NullPool

from receiver.errors import LedgerError
from receiver.ledger.schema import metadata

# https://sqlite.org/fileformat.html#application_id: four bytes that say whose file it is.
APPLICATION_ID = int.from_bytes(b"rcvr", "big")
REVISIONS = "alembic_version"
# In each schema, and no other program's tables have all of these columns.
ALWAYS_THERE = {
    REVISIONS: {"version_num"},
    "deliveries": {"id", "received_at", "source", "repository", "tag", "verdict"},
    "registrations": {"id", "repository", "tag", "app", "version", "state", "due_at"},
    "meta": {"key", "value"},
}
MOST_NAMED = 5
_REVISION = re.compile(r"\d{4}")


def check_ours(connection: Connection) -> None:
    """Raise LedgerError if another program's tables are there; an empty database is ours to fill.

    On PostgreSQL tables of other names may be beside ours.
    """
    inspector = inspect(connection)
    names = {*inspector.get_table_names(), *inspector.get_view_names()}
    on_file = connection.dialect.name == "sqlite"
    stamp = _number(connection, "application_id") & 0xFFFFFFFF if on_file else 0
    if stamp not in {0, APPLICATION_ID}:
        raise _foreign(f"application id 0x{stamp:08x}", names, on_file=on_file)
    if _are_ours(connection, names) and _is_numbered(connection):
        return
    others = names if on_file else names & {REVISIONS, *metadata.tables}
    if others:
        raise _foreign("", others, on_file=on_file)
    # The number that a program may give its file; ours have one with their tables.
    if on_file and not stamp and (version := _number(connection, "user_version")):
        raise _foreign(f"user version {version}", names, on_file=on_file)


def check_file_ours(path: Path) -> None:
    """Do as `check_ours` with a SQLite file, before anything of ours can change it.

    Raises sqlite3.Error or SQLAlchemyError for one that cannot be read.
    """
    if path.exists() and path.stat().st_size:
        with reading_file(path) as connection:
            check_ours(connection)


@contextmanager
def reading_file(path: Path) -> Iterator[Connection]:
    """Yield a connection that can change nothing in the file, not even its journal mode."""
    uri = f"{path.absolute().as_uri()}?mode=ro"
    engine = create_engine(
        "sqlite://", creator=lambda: sqlite3.connect(uri, uri=True), poolclass=NullPool
    )
    with closing(engine.connect()) as connection:
        yield connection


def _number(connection: Connection, pragma: str) -> int:
    return int(connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one())


def _are_ours(connection: Connection, names: set[str]) -> bool:
    if not names >= ALWAYS_THERE.keys():
        return False
    inspector = inspect(connection)
    return all(
        columns <= {str(column["name"]) for column in inspector.get_columns(table)}
        for table, columns in ALWAYS_THERE.items()
    )


def _is_numbered(connection: Connection) -> bool:
    """Return whether the schema has a number, as only our own migrations have."""
    found = connection.exec_driver_sql(f"SELECT version_num FROM {REVISIONS}").scalar()  # noqa: S608
    return found is not None and _REVISION.fullmatch(str(found)) is not None


def _foreign(stamp: str, names: set[str], *, on_file: bool) -> LedgerError:
    some = sorted(names)[:MOST_NAMED]
    more = ", …" if len(names) > len(some) else ""
    tables = f"table{'' if len(names) == 1 else 's'} {', '.join(some)}{more}" if some else ""
    held = " and ".join(part for part in (stamp, tables) if part)
    what = "file" if on_file else "PostgreSQL database or schema"
    fix = (
        "name a file of its own for the ledger in DATABASE_URL"
        if on_file
        else "create a database or schema for the ledger alone, and name it in DATABASE_URL"
    )
    return LedgerError(f"this {what} belongs to another program ({held}): {fix}")

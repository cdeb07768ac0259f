"""Whether a database is ours, and its schema: `serve` brings it up to date, others only check.

A database is the receiver's, empty, or another program's, which is refused.

A new ledger is created from the schema; only an older one needs Alembic and its migrations.
"""

import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, inspect
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from receiver.errors import LedgerError, LedgerSchemaError
from receiver.ledger.files import APPLICATION_ID
from receiver.ledger.schema import SCHEMA, SERVES_SCHEMA, metadata
from receiver.ledger.transaction import Tx, read_note, write_note

REVISIONS = "alembic_version"
# In each schema, and no other program's tables have all of these columns.
ALWAYS_THERE = {
    REVISIONS: {"version_num"},
    "deliveries": {"id", "received_at", "source", "repository", "tag", "verdict"},
    "registrations": {"id", "repository", "tag", "app", "version", "state", "due_at"},
    "meta": {"key", "value"},
}
MAX_NAMED = 5
_REVISION = re.compile(r"\d{4}")
MIGRATIONS = Path(__file__).with_name("migrations")
SERVES = "serves_schema"
ADVISORY_LOCK = 0x52454345  # "RECE": one migration at a time among replicas
MARK = "copying"  # in `meta` while a copy into the ledger has not ended
LOCK_MS = 500  # how long accepts may be held up at a time
BETWEEN_TRIES_SECONDS = 1.0
TIMEOUT_SECONDS = 120.0
VERSION_TABLE = (  # as Alembic makes it
    f"CREATE TABLE {REVISIONS} (version_num VARCHAR(32) NOT NULL, "
    f"CONSTRAINT {REVISIONS}_pkc PRIMARY KEY (version_num))"
)
# A lock was not available in time, or there was a deadlock with a writer.
HELD_UP = frozenset({"55P03", "40P01"})


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
        # Read-only: nothing in the file is changed, not even its journal mode.
        uri = f"{path.absolute().as_uri()}?mode=ro"
        engine = create_engine(
            "sqlite://", creator=lambda: sqlite3.connect(uri, uri=True), poolclass=NullPool
        )
        with closing(engine.connect()) as connection:
            check_ours(connection)


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
    found = schema_of(connection)
    return found is not None and _REVISION.fullmatch(str(found)) is not None


def _foreign(stamp: str, names: set[str], *, on_file: bool) -> LedgerError:
    some = sorted(names)[:MAX_NAMED]
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


def schema_of(connection: Connection) -> str | None:
    """Return the schema's number, None if there is no ledger yet."""
    if not inspect(connection).has_table(REVISIONS):
        return None
    return connection.exec_driver_sql(f"SELECT version_num FROM {REVISIONS}").scalar()  # noqa: S608


def _is_compatible(connection: Connection, found: str | None) -> bool:
    """Return whether this program may work on the schema: its own, or a newer compatible schema.

    Migrations are additive within a minor version, and each writes into `meta` under SERVES the
    oldest schema whose programs may continue: so upgrades can be rolling, and be rolled back.
    """
    if found == SCHEMA:
        return True
    if found is None or found < SCHEMA:
        return False
    serves = read_note(Tx(connection), SERVES)
    return serves is not None and serves <= SCHEMA


def check_schema(engine: Engine) -> str:
    """Return the schema's number; raises LedgerSchemaError unless this program may work on it.

    Raises LedgerError if the database is another program's, or a copy into it has not ended.
    """
    with engine.connect() as connection:
        check_ours(connection)
        found = schema_of(connection)
        good = _is_compatible(connection, found)
        if good and read_note(Tx(connection), MARK) is not None:
            raise LedgerError(
                "a `receiver ledger copy` into this ledger has not ended: wait for it or, if it "
                "was cut off, run it again; or name another ledger with DATABASE_URL"
            )
    if found is None:
        raise LedgerSchemaError("there is no ledger in it yet; `receiver serve` creates it")
    newer = newer_schema(found)
    if not good and newer is not None:
        raise LedgerSchemaError(f"{newer}: upgrade the program")
    if not good:
        raise LedgerSchemaError(
            f"the ledger's schema {found} is older than this program's {SCHEMA}: start `receiver "
            "serve` of this version once, or use the version that wrote the ledger"
        )
    return found


def newer_schema(found: str) -> str | None:
    """Return what is to be said of a schema that a newer program wrote, None for any other."""
    if found <= SCHEMA:
        return None
    return (
        f"the ledger was written by a newer version of the receiver (schema {found}; this "
        f"program's is {SCHEMA})"
    )


def migrate(engine: Engine) -> str:
    """Bring the schema up to date, make sure that the ledger is whole, return its number.

    Raises LedgerSchemaError if a newer program made it, LedgerError if it is another program's or
    a copy into it has not ended.
    """
    migrate_to_newest(engine)
    return check_schema(engine)


def migrate_to_newest(engine: Engine) -> None:
    """Run what migrations are missing, one process at a time, in one transaction.

    Other replicas continue to work meanwhile. ALTER TABLE waits for all readers of the table (a
    dump can take an hour), and writers queue up behind it: so each wait for the lock is short.
    """
    with engine.connect() as connection:
        check_ours(connection)
        if _is_compatible(connection, schema_of(connection)):
            return  # Alembic is not even imported: a start should be quick
    until = time.monotonic() + TIMEOUT_SECONDS
    while True:
        try:
            with engine.begin() as connection:
                _wait_for_turn(connection)
                if schema_of(connection) is None:
                    _create(connection)
                else:
                    _upgrade(connection)
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) not in HELD_UP:
                raise
            if time.monotonic() >= until:
                raise LedgerError(
                    "the schema cannot be brought up to date: something holds the ledger's tables "
                    "(a dump, a session left open); end it, then start again"
                ) from None
            time.sleep(BETWEEN_TRIES_SECONDS)
        else:
            return


def _wait_for_turn(connection: Connection) -> None:
    """Wait for another replica that brings the schema up to date; a file has one owner."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {LOCK_MS}")


def _create(connection: Connection) -> None:
    """Create all tables, and note the schema as its migrations do."""
    metadata.create_all(connection)
    connection.exec_driver_sql(VERSION_TABLE)
    connection.exec_driver_sql(f"INSERT INTO {REVISIONS} VALUES ('{SCHEMA}')")  # noqa: S608
    write_note(Tx(connection), SERVES, SERVES_SCHEMA)


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - see above
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError:
        newer = newer_schema(schema_of(connection) or "unknown")
        raise LedgerSchemaError(f"{newer}: upgrade the program") from None

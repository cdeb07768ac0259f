"""Copies of the ledger: a backup of a live SQLite file, and all of it in another database.

A backup is either complete and valid, or it does not exist. To another database all is copied in
one transaction, or nothing: the source is read in one snapshot while no receiver works on it. The
target is marked before and the mark goes with the commit: nobody works on a target whose copy has
not ended.
"""

import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from tempfile import mkstemp
from typing import Any

from sqlalchemy import Connection, Engine, Table, func, insert, select, tuple_
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from receiver.errors import LedgerError, LedgerInUse, LedgerSchemaError
from receiver.ledger.engine import check_durability, describe_error, open_engine, sqlite_path
from receiver.ledger.files import (
    APPLICATION_ID,
    MAGIC,
    FileLock,
    check_log_belongs,
    check_place,
    lock_of,
    make_private,
    new_stamp,
)
from receiver.ledger.migrate import MARK, check_schema, migrate_to_newest, schema_of
from receiver.ledger.replicas import at_work
from receiver.ledger.schema import SCHEMA, meta, metadata, replicas
from receiver.ledger.transaction import Tx, write_note

PART = ".being-made-"
MODE = 0o600
# Of https://sqlite.org/fileformat.html: what reads and writes it, and whose file it is.
FORMATS, APPLICATION = slice(18, 20), slice(68, 72)
WITHOUT_LOG = b"\1\1"  # as `write_copy` leaves it; a ledger in use has a log
CUT_OFF_SECONDS = 3600.0  # a process still writing a backup modifies it more often
# All but what describes this ledger and those that work on it.
COPIED = tuple(table for table in metadata.sorted_tables if table not in {meta, replicas})
BATCH_ROWS = 500
LOCK_MS = 2000  # for what somebody has just begun on the target

AGAIN = (
    "Nothing of it is in the target, which is marked so that no receiver takes it for whole: "
    "fix the cause, then run `receiver ledger copy` again"
)
_CHANGED = "SELECT max(updated_at) FROM registrations"

Moved = Callable[[int, int], None]
RowCounts = tuple[dict[str, int], int | None]


def backup_ledger(ledger: Path, copy: Path, *, overwrite: bool = False) -> int:
    """Make a consistent copy of a live SQLite ledger; return its bytes. Raises LedgerError.

    The copy has a temporary name until it is complete: an interrupted copy is not mistaken for a
    backup, and an earlier backup of the same name is kept until it is replaced.
    """
    try:
        _check_name(ledger, copy, overwrite=overwrite)
        check_log_belongs(ledger)
        part = partial_copy(copy)
    except OSError as error:
        raise LedgerError(f"{copy} cannot be made: {error.strerror}; name another file") from None
    try:
        uri = f"{ledger.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as source:
            write_copy(source, part)
        if overwrite:
            replace_file(part, copy, mode=MODE)
        else:
            _give_name(part, copy)
    except (sqlite3.Error, OSError) as error:
        raise LedgerError(
            f"the backup of {ledger} failed: {error}; look whether it may be read, and whether "
            f"{copy.parent} may be written to and has room"
        ) from None
    finally:
        part.unlink(missing_ok=True)
    return copy.stat().st_size


def write_copy(source: sqlite3.Connection, part: Path) -> None:
    """Write all that the connection sees into a file, with a stamp of its own.

    Raises sqlite3.Error, and LedgerError for a copy that is damaged.
    """
    with closing(sqlite3.connect(part)) as target:
        # In one step, of one snapshot: between steps any commit would have it begin again.
        source.backup(target)
        sound = target.execute("PRAGMA quick_check").fetchone()[0]
        # A file of its own: restored, it is not taken for the one whose log may still be there.
        target.execute(f"PRAGMA user_version = {new_stamp()}")
        target.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        # The backup is one file, without a log: it can be copied, or read on a read-only disk.
        target.execute("PRAGMA journal_mode = DELETE")
    if sound != "ok":
        raise LedgerError(f"the copy is damaged: {sound}")


def partial_copy(copy: Path) -> Path:
    """Make the file to write to, of a name that no other backup has; remove those cut off."""
    ours = re.compile(re.escape(copy.name + PART) + r"\w{8}(-journal)?")
    for left in copy.parent.iterdir():
        if ours.fullmatch(left.name) and time.time() - left.stat().st_mtime > CUT_OFF_SECONDS:
            left.unlink(missing_ok=True)
    descriptor, part = mkstemp(prefix=copy.name + PART, dir=copy.parent)
    os.close(descriptor)
    return Path(part)


def _check_name(ledger: Path, copy: Path, *, overwrite: bool) -> None:
    """Raise LedgerError if the name is not free, or would be taken for the ledger's own."""
    whole = ledger.resolve()
    own = {whole.with_name(whole.name + ending) for ending in ("-journal", "-wal", "-shm")}
    if overwrite and copy.exists() and (copy.is_dir() or copy.samefile(ledger)):
        raise LedgerError(f"{copy} is the ledger itself or a folder; name another file")
    if overwrite and copy.exists() and not _is_a_backup(copy):
        raise LedgerError(f"{copy} is no backup of a ledger, so it is kept; name another file")
    if copy.parent.resolve() / copy.name in {*own, lock_of(ledger)}:
        raise LedgerError(f"{copy} is a name that SQLite or the receiver uses; name another")
    if not copy.parent.is_dir():
        raise LedgerError(f"{copy.parent} is no folder; make it, or name a file elsewhere")
    if copy.exists() and not overwrite:
        raise LedgerError(f"{copy} is there already; name a new file")


def _is_a_backup(path: Path) -> bool:
    """Return whether a file is empty or was written by `write_copy`, and no receiver uses it."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        header = file.read(APPLICATION.stop)
    return not header or (
        header.startswith(MAGIC)
        and header[FORMATS] == WITHOUT_LOG
        and header[APPLICATION] == APPLICATION_ID.to_bytes(4, "big")
    )


def _give_name(part: Path, copy: Path) -> None:
    """Give the copy its final name; never overwrite a file created by that name meanwhile."""
    try:
        os.link(part, copy)
    except FileExistsError:
        raise
    except OSError:  # a file system without links, as FAT: there a moment is left open
        if copy.exists():
            raise
        part.rename(copy)


def replace_file(part: Path, path: Path, *, mode: int | None = None) -> None:
    """Put a whole file in the place of another, with that one's owner; raises OSError.

    It has the mode `mode`, or the other file's.
    """
    with suppress(FileNotFoundError):
        found = path.stat()
        with suppress(PermissionError):
            os.chown(part, found.st_uid, found.st_gid)
        part.chmod(found.st_mode & 0o7777 if mode is None else mode)
    part.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)  # or a power cut would undo it
    finally:
        os.close(folder)


def copy_ledger(source: URL, target: URL, moved: Moved) -> int:
    """Copy everything into an empty ledger, checked by counts; return the number of rows.

    `moved` is called after each batch with the total number of rows and the rows of the batch.
    Raises LedgerInUse when a receiver works on either ledger, LedgerError when the target is not
    empty, the source was written meanwhile, the counts differ, or a database is unavailable.
    """
    if _are_one(source, target):
        raise LedgerError("the source and the target are one ledger: name another target")
    with ExitStack() as held:
        reading = held.enter_context(_source(source))
        before = _standing(reading)
        engine = held.enter_context(_target(target))
        try:
            with engine.begin() as writing:
                _take(writing)
                copied = _copy(reading, writing, partial(moved, sum(before[0].values())))
                _check_unchanged(source, before)
                writing.exec_driver_sql(f"DELETE FROM meta WHERE key = '{MARK}'")  # noqa: S608
        except SQLAlchemyError as error:
            raise LedgerError(f"the copy failed: {describe_error(error)}. {AGAIN}") from None
        except LedgerError as error:
            raise LedgerError(f"{error}. {AGAIN}") from None
        except KeyboardInterrupt:
            raise LedgerError(f"the copy was stopped. {AGAIN}") from None
    return copied


def _are_one(source: URL, target: URL) -> bool:
    here, there = sqlite_path(source), sqlite_path(target)
    if here is None or there is None:
        return source == target
    return here.resolve() == there.resolve()


@contextmanager
def _source(url: URL) -> Iterator[Connection]:
    """Yield one snapshot of a ledger that nobody works on."""
    path = sqlite_path(url)
    if path is not None and not path.exists():
        raise LedgerError(f"there is no ledger at {path}")
    with _held(url, "source"), _engine(url, "source", read_only=True) as engine:
        with _ledger_errors("source"):
            check_schema(engine)
            reading = engine.connect()
        with reading, reading.begin():
            with _ledger_errors("source"):
                _check_standing(reading, "source")
            yield reading


@contextmanager
def _target(url: URL) -> Iterator[Engine]:
    """Yield a new ledger, marked as one that is not whole yet."""
    with _held(url, "target") as lock, _engine(url, "target") as engine:
        with _ledger_errors("target"):
            with engine.connect() as connection:
                check_durability(connection)
                found = schema_of(connection)
            if lock is not None:  # distinguished from a former ledger, whose lock may still exist
                with suppress(OSError):
                    lock.write_note(lock.ledger.stat().st_ino)
            if found is None:
                migrate_to_newest(engine)
            with engine.begin() as writing:
                _take(writing)
                tx = Tx(writing)
                write_note(tx, MARK, str(tx.now))
        yield engine


@contextmanager
def _held(url: URL, what: str) -> Iterator[FileLock | None]:
    """Lock a SQLite ledger; for PostgreSQL, `_check_standing` checks that no receiver uses it."""
    path = sqlite_path(url)
    if path is None:
        yield None
        return
    check_place(path)
    lock = FileLock(path)
    try:
        lock.acquire(0)
    except LedgerInUse:
        raise LedgerInUse(
            f"another receiver holds the {what} {path}: stop it first, then copy"
        ) from None
    try:
        check_log_belongs(path)
        if what == "target":
            make_private(path)
        yield lock
    finally:
        lock.release()


@contextmanager
def _engine(url: URL, what: str, *, read_only: bool = False) -> Iterator[Engine]:
    with _ledger_errors(what):
        engine = open_engine(url, read_only=read_only, pooled=False)
    if read_only and engine.dialect.name == "postgresql":
        engine = engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def _ledger_errors(what: str) -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise LedgerError(f"the {what} cannot be used: {describe_error(error)}") from None


def _check_standing(connection: Connection, what: str) -> None:
    """Raise LedgerError unless it is of this very schema and nobody works on it."""
    found = schema_of(connection)
    if found != SCHEMA:  # a newer one may hold what this program knows nothing of
        raise LedgerSchemaError(
            f"the {what}'s schema is {found}, this program's is {SCHEMA}: copy with the version "
            "that made it"
        )
    if connection.dialect.name != "postgresql":
        return
    # The side that is idle meanwhile must not reach its session's timeout.
    connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
    if at_work(Tx(connection)):
        raise LedgerInUse(
            f"receivers work on the {what}: stop them all first, then copy (one that was killed "
            "counts for half a minute)"
        )


def _take(writing: Connection) -> None:
    """Lock the target until the end; raises LedgerError unless it is empty.

    A receiver that was let in a moment before the mark waits, and finds the whole ledger.
    """
    if writing.dialect.name == "postgresql":
        names = ", ".join(table.name for table in COPIED)
        writing.exec_driver_sql(f"SET LOCAL lock_timeout = {LOCK_MS}")
        writing.exec_driver_sql(f"LOCK TABLE {names} IN EXCLUSIVE MODE")
        writing.exec_driver_sql("SET LOCAL lock_timeout = 0")
    _check_standing(writing, "target")
    for table in COPIED:
        if rows_of(writing, table):
            raise LedgerError(
                f"the target is not empty: its {table.name} hold rows. Name a fresh "
                "database or file, on which no receiver was started"
            )


def rows_of(connection: Connection, table: Table) -> int:
    """Return how many rows a table has."""
    return int(connection.execute(select(func.count()).select_from(table)).scalar_one())


def _standing(connection: Connection) -> RowCounts:
    counts = {table.name: rows_of(connection, table) for table in COPIED}
    return counts, connection.exec_driver_sql(_CHANGED).scalar()


def _check_unchanged(source: URL, before: RowCounts) -> None:
    # Beside the snapshot; the lock is still held.
    with _engine(source, "source", read_only=True) as engine, engine.connect() as connection:
        now = _standing(connection)
        if now != before or (connection.dialect.name == "postgresql" and at_work(Tx(connection))):
            raise LedgerError("the source was written during the copy: stop all receivers first")


def _copy(reading: Connection, writing: Connection, moved: Callable[[int], None]) -> int:
    total = 0
    for table in COPIED:
        copied = 0
        for rows in _batches(reading, table):
            writing.execute(insert(table), rows)
            copied += len(rows)
            moved(len(rows))
        there = rows_of(writing, table)
        if there != copied:
            raise LedgerError(f"{table.name}: {copied} rows copied, {there} are there")
        total += copied
    return total


def _batches(reading: Connection, table: Table) -> Iterator[list[dict[str, Any]]]:
    keys = list(table.primary_key.columns)
    pages = page = select(table).order_by(*keys).limit(BATCH_ROWS)
    while rows := [dict(row) for row in reading.execute(page).mappings()]:
        yield rows
        page = pages.where(tuple_(*keys) > tuple_(*[rows[-1][key.name] for key in keys]))

"""The SQLite file that we work on, under its lock; others may delete, cut or replace it meanwhile.

Each group of writes is checked before and after: what is answered as accepted must be in a file
that the next start will read. What can be saved is saved from the open connection.
"""

import fcntl
import os
import sqlite3
import struct
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from receiver.errors import LedgerError
from receiver.ledger.copy import partial_copy, replace_file, write_copy
from receiver.ledger.engine import checkpoint
from receiver.ledger.files import (
    NO_STAMP,
    STAMP,
    FileLock,
    Identity,
    Seen,
    access_fault,
    check_log_belongs,
    check_place,
    identity_of,
    log_fault,
    look_at,
    make_private,
    missing_from,
    remove_stale_wal,
    stamp_in,
    write_new_stamp,
)
from receiver.ledger.migrate import check_file_ours
from receiver.ledger.write_ahead_log import Frames, LogIndex, OwnLog, has_page, judge, read_frames
from receiver.logs import get_logger

LOOK_EVERY_SECONDS = 0.5
CHECK_EVERY_SECONDS = 10.0
ASIDE = ".unusable"  # after the name of a log that must not be read
CHANGES = slice(24, 28)  # https://sqlite.org/fileformat.html#file_change_counter
# The bytes that SQLite locks to empty the log into the file when the last connection closes:
# https://sqlite.org/src/file/src/os.h, SHARED_FIRST and SHARED_SIZE.
SHARED_BYTES = (0x40000002, 510)

log = get_logger()


class LedgerReplaced(LedgerError):
    """Another file was put in the place of the ledger: all connections to the old must close."""


class LogNotSaved(LedgerError):
    """The newest pushes are only in what the open connection holds: it must not be closed."""


class SqliteFile:
    """One ledger's file: locked, looked at before SQLite opens it, and known from then on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = FileLock(path)
        self.trouble: str | None = None  # why it is neither read nor written
        self.log = OwnLog(path, self.lock)
        self._checked = False
        self._ours: Identity | None = None
        self._stamps: tuple[int, ...] = ()
        self._descriptor: int | None = None  # to close it drops SQLite's locks: so it stays open
        self._file: Seen | None = None  # as our last write left it
        self._changes = 0
        self.reopen = False  # all connections are to be closed
        self._lost = False
        self._look_at = self._check_at = 0.0
        self._replaced_by: Identity | None = None

    def exists(self) -> bool:
        """Return whether it is there; raises LedgerError if that cannot be found out."""
        try:
            return self.path.exists()
        except OSError as error:
            fault = access_fault(self.path) or f"{self.path}: {error.strerror}; see DATABASE_URL"
            raise LedgerError(fault) from None

    def check_place(self) -> None:
        """Raise LedgerError if it cannot be there, or what is there is not ours.

        Raises SQLAlchemyError or OSError for a file that cannot be read.
        """
        if not self._checked:
            check_place(self.path)
            check_file_ours(self.path)

    def check(self) -> None:
        """Raise LedgerError if another ledger's log is beside it.

        ApprovalRequest more often it looks once: afterwards SQLite has the file open.
        """
        if not self._checked:
            check_log_belongs(self.path)
            self._checked = True

    def log_harm(self) -> str | None:
        """Return what was done to the log since the last commit, None if it is whole.

        To be asked with the lock and before SQLite opens the file. A log that would damage the
        file is put aside. May raise OSError.
        """
        fault, note = log_fault(self.path), self.lock.note()
        if fault is not None or note is None or note.log is None or not self.path.exists():
            return fault
        if self._descriptor is None:
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        if stamp_in(os.pread(self._descriptor, STAMP.stop, 0)) not in note.stamps:
            return None
        in_file = has_page(self._descriptor, note.log)
        harm = judge(note.log, _frames_in(self.log.path), in_file=in_file)
        if not harm.lost and not harm.stale:
            return None
        said = f"{self.log.path} was deleted, emptied, cut off or replaced since the last commit"
        if harm.stale:
            aside = self.log.path.with_name(self.log.path.name + ASIDE)
            self.log.path.replace(aside)
            said += f" (what was there is now {aside.name}: it would damage {self.path.name})"
        return f"{said}. {missing_from(self.path) if harm.lost else 'Nothing is missing'}"

    def make(self) -> None:
        """Make the empty file if there is none, and note that it is no former ledger's."""
        if make_private(self.path):
            with suppress(OSError):
                self.lock.write_note(self.path.stat().st_ino)

    def take_ownership(self, engine: Engine) -> None:
        """Know it as ours from now on, and stamp it as the one that its log is written for.

        No connection to the file that was ours before may be open.
        """
        if not self._is_open():
            self.close()
        self._replaced_by, self.trouble, self._lost = None, None, False
        self._ours = identity_of(self.path)
        if self._ours is None:
            return
        with suppress(OSError):
            if self._descriptor is None:
                self._descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        inode = self._ours[1]
        with suppress(SQLAlchemyError, OSError), engine.connect() as connection:
            if not checkpoint(connection):  # somebody reads: it goes on under the stamp it has
                note = self.lock.note()
                known = note is not None and note.ledger_inode == inode
                self.lock.write_note(inode, note.stamps if note is not None and known else ())
            else:
                driver = _driver(connection)
                write_new_stamp(driver, lambda stamps: self.lock.write_note(inode, stamps))
        note = self.lock.note()
        noted = note.stamps if note is not None and note.ledger_inode == inode else ()
        self._stamps = (*noted, *self._own_stamp())

    def close(self) -> None:
        """Give back what keeps the file known; only after SQLite's connections are closed."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self.log.close()
        self._descriptor = None
        self._ours, self._file, self.reopen = None, None, False

    def _is_open(self) -> bool:
        if self._descriptor is None:
            return False
        status = os.fstat(self._descriptor)
        return identity_of(self.path) == (status.st_dev, status.st_ino)

    def connected(self) -> None:
        """Know the files as they are now that the connection that writes has opened them.

        Raises LedgerError if the file is another's.
        """
        self.log.open()
        self._file = look_at(self.path)
        self._changes = self._check_stamp()
        self.reopen = False

    def committed(self, connection: Connection) -> None:
        """Make sure that what was just committed will be read again.

        Raises LogNotSaved if it will not, and LedgerError if the file was overwritten.
        """
        file, (seen, index) = look_at(self.path), self.log.look()
        if file != self._file:
            self._check_written_by_sqlite(connection, file, index)
        if seen is None or self.log.is_gone(seen):
            self._save(connection)
        elif self.log.is_harmed(seen, index):
            self._rescue(connection)
        else:
            self.log.note()
        self._file = file
        self.log.seen, self.log.at = seen, index

    def replaced(self) -> bool:
        """Return whether another file has taken the place of the one that we work on."""
        return self._ours is not None and identity_of(self.path) not in {self._ours, None}

    def check_there(self) -> Seen:
        """Return what is there now; raises LedgerError for none: SQLite would make one."""
        seen = look_at(self.path)
        if seen is None:
            raise LedgerError(f"{self.path} is gone; put it back, or restart to begin a new ledger")
        return seen

    def check_ours(self) -> bool:
        """Return whether it is the file that we work on; False if another is to be adopted now.

        Raises LedgerError if it is gone, or another receiver took its lock; and LedgerReplaced,
        for the connections to the former one to be closed, if it was just replaced.
        """
        seen = self.check_there()
        if seen.identity == self._ours:
            self._keep_lock()
            return True
        if seen.identity != self._replaced_by:
            self._replaced_by = seen.identity
            raise LedgerReplaced(f"{self.path} was replaced; it is read again in a moment")
        remove_stale_wal(self.path, self.log.seen)
        return False

    def is_kept(self, connection: Connection | None) -> bool:
        """Return whether to go on with the connections; False if all are to be opened again.

        Raises LogNotSaved if the newest pushes cannot be saved now, and LedgerError if the file was
        overwritten.
        """
        if self.trouble is not None:
            raise LogNotSaved(self.trouble) if self._lost else LedgerError(self.trouble)
        if connection is None:  # one that reads may still have the deleted log
            self._check_stamp()
            known, self.log.seen = self.log.seen, None
            return known is None or identity_of(self.log.path) == known.identity
        file, (seen, index) = look_at(self.path), self.log.look()
        if file != self._file:
            self._check_written_by_sqlite(connection, file, index)
        if seen is None or self.log.is_gone(seen):
            self._save(connection)
            return not self.reopen
        self.log.suspect_change(seen)
        if self.log.is_harmed(seen, index):
            self._rescue(connection)
        else:
            self._file = file
            self.log.seen, self.log.at = seen, index
        return not self.reopen

    def _save(self, connection: Connection) -> None:
        """Write the log, which others no longer find, into the file; then open all again."""
        name = self.log.path.name
        if not checkpoint(connection):
            raise LogNotSaved(
                f"{name} was deleted or replaced while in use, and its content cannot be written "
                f"into {self.path.name} now (a long read, or a full disk): it is tried again"
            )
        self.log.path.unlink(missing_ok=True)  # another's: a start would play it into the file
        self.reopen = True
        saved = f"{name} was deleted or replaced while in use; its content is in {self.path.name}"
        log.warning("ledger_log_saved", ledger=str(self.path), sentence=saved)

    def _rescue(self, connection: Connection) -> None:
        """Write what the connection has in memory of a log that was cut off into a new file."""
        part = None
        try:
            part = partial_copy(self.path)
            write_copy(_driver(connection), part)
            self.log.check_not_lost()
            replace_file(part, self.path)
        except (sqlite3.Error, OSError, LedgerError) as error:
            if part is not None:
                part.unlink(missing_ok=True)
            self._exclude()
            self._lost = True
            self.trouble = (
                f"{self.log.path.name} was cut off or overwritten while in use, and its content "
                f"could not be saved ({error}). Restart the receiver: it goes on with what is in "
                f"{self.path.name}; `receiver catch-up --since` finds the pushes that are missing"
            )
            log.error("ledger_log_lost", ledger=str(self.path), sentence=self.trouble)
            raise LogNotSaved(self.trouble) from None
        self._replaced_by, self.reopen = identity_of(self.path), True
        remove_stale_wal(self.path, self.log.seen)
        name = self.log.path.name
        saved = f"{name} was cut off or overwritten while in use; all of the ledger was saved"
        log.warning("ledger_log_saved", ledger=str(self.path), sentence=saved)

    def _check_written_by_sqlite(
        self, connection: Connection, file: Seen | None, index: LogIndex | None
    ) -> None:
        """Raise LedgerError if something else wrote into the file, which only SQLite may.

        A copy made by `cp` since our start has our stamp, but is smaller or older. Raises
        LedgerReplaced if `file` is not ours: it was moved away since we last looked.
        """
        if file is None or file.identity != self._ours:
            raise LedgerReplaced(f"{self.path} was moved away while in use")
        changes = self._check_stamp()
        if index is None or self.log.at is None or index.wrote_since(self.log.at):
            self._changes = changes
            return
        shrunk = self._file is not None and file.size < self._file.size
        if shrunk or changes < self._changes:
            self._refuse()
        if time.monotonic() >= self._check_at:  # a full disk, or the clock of a file server
            with connection.engine.connect() as fresh:  # the other has pages in memory
                found = fresh.exec_driver_sql("PRAGMA integrity_check(1)").scalar()
            if found != "ok":
                self._refuse()
            self._check_at = time.monotonic() + CHECK_EVERY_SECONDS

    def _check_stamp(self) -> int:
        """Return SQLite's count of changes in the file; raises LedgerError if it is not ours."""
        if self._descriptor is None or not self._stamps:
            return 0
        header = os.pread(self._descriptor, STAMP.stop, 0)
        if stamp_in(header) not in self._stamps:
            self._refuse()
        return int.from_bytes(header[CHANGES], "big")

    def _refuse(self) -> NoReturn:
        """Neither read nor write it any more, until another file is in its place."""
        self._protect()
        self.trouble = (
            f"{self.path} was emptied or overwritten while in use. Stop the receiver, move "
            f"{self.log.path.name} and {self.path.name}-shm away, put a backup in its place, and "
            "start again"
        )
        log.error("ledger_overwritten", ledger=str(self.path), sentence=self.trouble)
        raise LedgerError(self.trouble)

    def _protect(self) -> None:
        """Keep SQLite from writing the log into what is there now, and the next start, too."""
        self._exclude()
        with suppress(OSError):
            if self._ours is not None:
                self.lock.write_note(self._ours[1], (NO_STAMP,))

    def _exclude(self) -> None:
        """Keep SQLite from writing the log into the file.

        A lock of this descriptor, unlike SQLite's own, excludes this process as well.
        """
        number = getattr(fcntl, "F_OFD_SETLK", None)
        with suppress(OSError):
            if number is not None and self._descriptor is not None:
                # C's `struct flock`, as Linux has it on 64 bits
                shared = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, *SHARED_BYTES, 0)
                fcntl.fcntl(self._descriptor, number, shared)

    def _own_stamp(self) -> tuple[int, ...]:
        if self._descriptor is None:
            return ()
        stamp = stamp_in(os.pread(self._descriptor, STAMP.stop, 0))
        return () if stamp is None else (stamp,)

    def _keep_lock(self) -> None:
        """Check the lock now and then, not each time: each check makes threads wait for others."""
        if time.monotonic() >= self._look_at:
            self.lock.keep()
            self._look_at = time.monotonic() + LOOK_EVERY_SECONDS


def _frames_in(log: Path) -> Frames:
    try:
        descriptor = os.open(log, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return Frames()
    try:
        return read_frames(descriptor)
    finally:
        os.close(descriptor)


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        raise LedgerError("the connection is closed")
    return driver

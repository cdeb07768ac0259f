"""The SQLite file that we work on, under its lock; another may be put in its place meanwhile."""

import time
from contextlib import suppress
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from receiver.errors import LedgerError
from receiver.ledger.engines import empty_log
from receiver.ledger.files import Identity, access_fault, check_place, drop_log, identity_of, log_of
from receiver.ledger.locks import FileLock
from receiver.ledger.ownership import check_file_ours
from receiver.ledger.stamps import check_log_belongs, stamp_anew

LOOK_EVERY_SECONDS = 0.5


class OwnFile:
    """One ledger's file: locked, looked at before SQLite opens it, and known from then on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lock = FileLock(path)
        self._log_path = log_of(path)
        self._checked = False
        self._ours: Identity | None = None
        self._log: Identity | None = None
        self._look_at = 0.0
        self._replaced_by: Identity | None = None

    def exists(self) -> bool:
        """Tell whether it is there; raises LedgerError where that cannot be told."""
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
        """Raise LedgerError where another ledger's log lies beside it.

        Asked more often it looks once: afterwards SQLite has the file open.
        """
        if not self._checked:
            check_log_belongs(self.path)
            self._checked = True

    def adopt(self, engine: Engine) -> None:
        """Know it as ours from now on, and stamp it as the one that its log is written for."""
        self._ours, self._replaced_by, self._log = identity_of(self.path), None, None
        if self._ours is None:
            return
        inode = self._ours[1]
        with suppress(SQLAlchemyError, OSError), engine.connect() as connection:
            if not empty_log(connection):  # somebody reads: it goes on under the stamp it has
                note = self.lock.note()
                known = note is not None and note.ledger_inode == inode
                self.lock.write_note(inode, note.stamps if note is not None and known else ())
                return
            driver = connection.connection.driver_connection
            if driver is not None:
                stamp_anew(driver, lambda stamps: self.lock.write_note(inode, stamps))

    def replaced(self) -> bool:
        """Tell whether another file has taken the place of the one that we work on."""
        return self._ours is not None and identity_of(self.path) not in {self._ours, None}

    def check_there(self) -> Identity:
        """Return which file is there now; raises LedgerError for none: SQLite would make one."""
        identity = identity_of(self.path)
        if identity is None:
            raise LedgerError(f"{self.path} is gone; put it back, or restart to begin a new ledger")
        return identity

    def is_unchanged(self) -> bool:
        """Tell whether it still is the one that we work on; waits for nobody.

        Raises LedgerError when another receiver took its lock.
        """
        return self._is_still(identity_of(self.path))

    def is_ours(self) -> bool:
        """Tell whether to go on writing; False when another file is to be adopted now.

        Raises LedgerError when it is gone or another receiver took its lock; and, for whoever
        holds the former one to let go of it, when it was just replaced.
        """
        identity = self.check_there()
        if self._is_still(identity):
            return True
        if identity != self._replaced_by:
            self._replaced_by = identity
            raise LedgerReplaced(f"{self.path} was replaced; it is read anew in a moment")
        drop_log(self.path, self._log)
        return False

    def _is_still(self, identity: Identity | None) -> bool:
        if identity is None or identity != self._ours:
            return False
        self._look_around()
        return True

    def _look_around(self) -> None:
        """Look after the files beside it, now and then: each look has the threads take turns."""
        if self._log is None or time.monotonic() >= self._look_at:
            self.lock.keep()
            self._log = identity_of(self._log_path)  # it comes anew with a new connection
            self._look_at = time.monotonic() + LOOK_EVERY_SECONDS


class LedgerReplaced(LedgerError):
    """Another file was put in the place of the ledger: all must let go of the former one."""

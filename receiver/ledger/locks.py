"""The lock beside a SQLite ledger: one `serve` a file, so that the former owner is surely dead."""

import errno
import fcntl
import os
import time
from pathlib import Path

from receiver.errors import LedgerError, LedgerInUse
from receiver.ledger.files import lock_of
from receiver.ledger.stamps import LONGEST_NOTE, Note, read_note

ROLLING_RESTART_SECONDS = 15.0
LOOK_EVERY_SECONDS = 0.05


class FileLock:
    """An exclusive `flock` on `<ledger>.lock`, held until released or the process ends."""

    def __init__(self, ledger: Path) -> None:
        self.ledger = ledger
        self.path = lock_of(ledger)
        self._descriptor: int | None = None

    def acquire(self, wait_seconds: float = ROLLING_RESTART_SECONDS) -> None:
        """Take the lock, waiting for a process that is just leaving; raises LedgerInUse."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LedgerError(
                f"{self.path} cannot be opened ({os.strerror(error.errno or 0)}): the ledger needs "
                "a folder it may write to; see DATABASE_URL"
            ) from None
        until = time.monotonic() + wait_seconds
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in {errno.EWOULDBLOCK, errno.EACCES}:
                    os.close(descriptor)
                    raise LedgerError(f"{self.path} cannot be locked: {error.strerror}") from None
                if time.monotonic() >= until:
                    os.close(descriptor)
                    raise LedgerInUse(
                        f"another receiver holds {self.path}; stop it, or give this one a ledger "
                        "of its own with DATABASE_URL"
                    ) from None
                time.sleep(LOOK_EVERY_SECONDS)
            else:
                self._descriptor = descriptor
                return

    def note(self) -> Note | None:
        """Return what is written down of the ledger that it stands for."""
        if self._descriptor is None:
            return None
        return read_note(os.pread(self._descriptor, LONGEST_NOTE, 0).decode("ascii", "replace"))

    def write_note(self, ledger_inode: int, stamps: tuple[int, ...] = ()) -> None:
        """Write down which file the lock stands for, and which stamps that may bear.

        Raises OSError.
        """
        if self._descriptor is not None:
            note = Note(os.fstat(self._descriptor).st_ino, ledger_inode, stamps)
            os.pwrite(self._descriptor, note.text().encode(), 0)
            os.fsync(self._descriptor)  # a stamp must not outlive a power cut without its note

    def release(self) -> None:
        """Give the lock back; harmless when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

"""The lock beside a SQLite ledger: one `serve` per file, which proves the former owner dead."""

import errno
import fcntl
import os
import time
from pathlib import Path

from msgspec.structs import replace

from receiver.errors import LedgerError, LedgerInUse
from receiver.ledger.files import LONGEST_NOTE, LogNote, Note, access_fault, lock_of, read_note

ROLLING_RESTART_SECONDS = 15.0
LOOK_EVERY_SECONDS = 0.05


class FileLock:
    """An exclusive `flock` on `<ledger>.lock`, held until released or the process ends."""

    def __init__(self, ledger: Path) -> None:
        self.ledger = ledger
        self.path = lock_of(ledger)
        self._descriptor: int | None = None
        self._noted: Note | None = None  # as we wrote it

    def acquire(self, wait_seconds: float = ROLLING_RESTART_SECONDS) -> None:
        """Take the lock, waiting for a process that is just leaving; raises LedgerInUse."""
        until = time.monotonic() + wait_seconds
        while (descriptor := self._try()) is None:
            if time.monotonic() >= until:
                raise LedgerInUse(
                    f"another receiver holds {self.path}; stop it, or give this one a ledger "
                    "of its own with DATABASE_URL"
                )
            time.sleep(LOOK_EVERY_SECONDS)
        self._descriptor = descriptor

    def keep(self) -> None:
        """Take the lock again if its file was deleted; raises LedgerInUse if another holds it."""
        if self._descriptor is None or self._is_at_path(self._descriptor):
            return
        descriptor = self._try()
        if descriptor is None:
            raise LedgerInUse(
                f"{self.path} was deleted, and another receiver took it: stop one of the two"
            )
        note = self.note()
        self.release()
        self._descriptor = descriptor
        if note is not None:
            self.write_note(note.ledger_inode, note.stamps)
            self.note_log(note.log)

    def note(self) -> Note | None:
        """Return the note of the ledger that the lock belongs to."""
        if self._descriptor is None:
            return None
        return read_note(os.pread(self._descriptor, LONGEST_NOTE, 0).decode("ascii", "replace"))

    def write_note(self, ledger_inode: int, stamps: tuple[int, ...] = ()) -> None:
        """Write down which file the lock belongs to, and which stamps that file may have.

        Raises OSError.
        """
        if self._descriptor is not None:
            self._noted = Note(os.fstat(self._descriptor).st_ino, ledger_inode, stamps)
            os.pwrite(self._descriptor, self._noted.text().encode(), 0)
            os.fsync(self._descriptor)  # a stamp must not outlive a power cut without its note

    def note_log(self, seen: LogNote | None) -> None:
        """Add to the note what its ledger's log holds now; may raise OSError.

        It is not synced: a note that is older than the log does no harm.
        """
        if self._descriptor is not None and self._noted is not None:
            text = replace(self._noted, log=seen).text()
            os.pwrite(self._descriptor, text.encode(), 0)

    def release(self) -> None:
        """Give the lock back; harmless when it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _try(self) -> int | None:
        """Return a descriptor that holds the lock, None if another does; raises LedgerError."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise LedgerError(
                access_fault(self.ledger)
                or f"{self.path} cannot be opened ({os.strerror(error.errno or 0)}): the ledger "
                "needs a folder it may write to; see DATABASE_URL"
            ) from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if error.errno not in {errno.EWOULDBLOCK, errno.EACCES}:
                raise LedgerError(f"{self.path} cannot be locked: {error.strerror}") from None
            return None
        if self._is_at_path(descriptor):
            return descriptor
        os.close(descriptor)  # deleted meanwhile: the next process would lock another file
        return None

    def _is_at_path(self, descriptor: int) -> bool:
        try:
            return self.path.stat().st_ino == os.fstat(descriptor).st_ino
        except OSError:
            return False

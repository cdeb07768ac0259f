"""The files of a SQLite ledger: which one it is, and which log belongs to it.

SQLite plays whatever log lies beside a file into it; beside a backup that was put in the place of
the ledger, the old one's would damage it. So each `serve` and each backup puts a stamp of its own
into the file's header, and the lock beside it tells which one the log was written for.
"""

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import randbelow

from receiver.errors import LedgerError

Identity = tuple[int, int]

# The "user version" of https://sqlite.org/fileformat.html: four bytes for the application's use.
STAMP = slice(60, 64)
LARGEST_STAMP = 2**31 - 1
LONGEST_NOTE = 96


@dataclass(frozen=True, slots=True)
class Note:
    """What a lock tells of the ledger: its own inode, the ledger's, and the stamps it may bear.

    No stamps: any will do. There are two from before a new one is written until it surely is.
    """

    lock: int
    ledger: int
    stamps: tuple[int, ...] = ()

    def text(self) -> str:
        """Return it as it is written: of one length, so that a full disk takes it as well."""
        return " ".join(map(str, (self.lock, self.ledger, *self.stamps))).ljust(LONGEST_NOTE)


def read_note(text: str) -> Note | None:
    """Read what `Note.text` wrote, None where it is anything else."""
    words = text.split()
    if len(words) < 2 or not all(word.isdigit() for word in words):  # noqa: PLR2004
        return None
    lock, ledger, *stamps = map(int, words)
    return Note(lock, ledger, tuple(stamps))


def identity_of(path: Path) -> Identity | None:
    """Return what tells a file from another of its name, None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def log_of(path: Path) -> Path:
    """Return where SQLite keeps what is not in the file yet."""
    return _beside(path, "-wal")


def lock_of(path: Path) -> Path:
    """Return the lock of a ledger, by whatever way it is reached."""
    return _beside(path, ".lock")


def _beside(path: Path, ending: str) -> Path:
    path = path.resolve()
    return path.with_name(path.name + ending)


def drop_log(path: Path, known: Identity | None) -> None:
    """Delete the log of the file that was here before; one that came with the new stays."""
    log = log_of(path)
    if known is not None and identity_of(log) == known:
        log.unlink(missing_ok=True)
        _beside(path, "-shm").unlink(missing_ok=True)


def new_stamp() -> int:
    """Return a stamp that no other file bears."""
    return randbelow(LARGEST_STAMP) + 1


def stamp_anew(
    database: sqlite3.Connection, noted: Callable[[tuple[int, ...]], None], *, empty: bool
) -> None:
    """Give the ledger a new stamp; `noted` writes down which ones it may bear, before and after.

    `empty` tells whether its log is: else an older stamp may be in the file. On a full disk it
    keeps the one it has.
    """
    with suppress(sqlite3.Error, OSError):
        if not empty:
            noted(())
            return
        old = database.execute("PRAGMA user_version").fetchone()[0]
        stamp = new_stamp()
        noted((old, stamp))
        database.execute(f"PRAGMA user_version = {stamp}")
        busy = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if not busy:
            noted((stamp,))


def check_log_belongs(path: Path) -> None:
    """Raise LedgerError where a log lies beside a ledger that it was not written for.

    To be asked before this process has SQLite open the ledger: to close any other descriptor of
    it takes away SQLite's locks (https://sqlite.org/howtocorrupt.html, 2.2).
    """
    log, lock = log_of(path), lock_of(path)
    try:
        if not log.stat().st_size or not path.stat().st_size:
            return
        note = read_note(lock.read_text("ascii", "replace"))
        if note is None or _is_meant(note, path, lock):
            return
    except OSError:
        return  # there is none; or we may not look, and SQLite will say so of the ledger
    raise LedgerError(
        f"{path} was put in the place of another ledger, whose log {log} still lies beside it and "
        f"would damage it. Stop the receiver; if {path.name} is a backup, delete {log.name} and "
        f"{log.name.removesuffix('-wal')}-shm; if all of them were moved here together, delete "
        f"{lock.name}"
    )


def _is_meant(note: Note, path: Path, lock: Path) -> bool:
    with path.open("rb") as file:
        stamp = int.from_bytes(file.read(STAMP.stop)[STAMP], "big")
    if note.stamps and stamp not in note.stamps:
        return False
    moved_together = lock.stat().st_ino != note.lock  # a restored folder, a copied volume
    return moved_together or path.stat().st_ino == note.ledger

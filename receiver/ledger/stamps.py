"""Stamps: how a ledger is told from a backup that was put in its place.

SQLite plays whatever log lies beside a file into it; beside a backup, the old ledger's would damage
it. So each `serve` and each backup puts a stamp of its own into the file's header, and the lock
beside it holds a note: which stamp the log was written for.
"""

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from secrets import randbelow

from receiver.errors import LedgerError
from receiver.ledger.files import MAGIC, lock_of, log_of
from receiver.ledger.log_notes import LogNote
from receiver.ledger.ownership import APPLICATION_ID

# The "user version" of https://sqlite.org/fileformat.html: four bytes for the application's use.
STAMP = slice(60, 64)
LARGEST_STAMP = 2**31 - 1
NO_STAMP = 2**31  # that no file bears: with it a note refuses whatever is there
LONGEST_NOTE = 160
LOG = "log"  # in a note: what follows is of the log


@dataclass(frozen=True, slots=True)
class Note:
    """What a lock says of the ledger: the inodes of both, and the stamps that it may bear.

    No stamps: any will do. There are two from before a new one is written until it surely is.
    `log` is its log as the last commit left it, if one was made under this stamp.
    """

    lock_inode: int
    ledger_inode: int
    stamps: tuple[int, ...] = ()
    log: LogNote | None = None

    def text(self) -> str:
        """Return it as it is written: of one length, so that a full disk takes it as well."""
        words: tuple[object, ...] = (self.lock_inode, self.ledger_inode, *self.stamps)
        if self.log is not None:
            words = (*words, LOG, *self.log.words)
        return " ".join(map(str, words)).ljust(LONGEST_NOTE)


def read_note(text: str) -> Note | None:
    """Read what `Note.text` wrote, None where it is anything else."""
    front, _, back = text.partition(f" {LOG} ")
    words, of_log = front.split(), back.split()
    if len(words) < 2 or not all(word.isdigit() for word in (*words, *of_log)):  # noqa: PLR2004
        return None
    lock, ledger, *stamps = map(int, words)
    whole = len(of_log) == len(fields(LogNote))
    return Note(lock, ledger, tuple(stamps), LogNote(*map(int, of_log)) if whole else None)


def stamp_in(header: bytes) -> int | None:
    """Return the stamp in a file's first bytes, None if they are not SQLite's."""
    if len(header) < STAMP.stop or not header.startswith(MAGIC):
        return None
    return int.from_bytes(header[STAMP], "big")


def new_stamp() -> int:
    """Return a stamp that hardly any other file bears."""
    return randbelow(LARGEST_STAMP) + 1


def stamp_anew(database: sqlite3.Connection, write_note: Callable[[tuple[int, ...]], None]) -> None:
    """Give the ledger, whose log must be empty, a new stamp.

    `write_note` writes down which stamps it may bear, before and after. On a full disk it keeps the
    one it has.
    """
    with suppress(sqlite3.Error, OSError):
        old = database.execute("PRAGMA user_version").fetchone()[0]
        stamp = new_stamp()
        write_note((old, stamp))
        database.execute(f"PRAGMA user_version = {stamp}")
        database.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        busy = database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
        if not busy:
            write_note((stamp,))


def check_log_belongs(path: Path) -> None:
    """Raise LedgerError where a log lies beside a ledger that it was not written for.

    To be asked before this process has SQLite open the ledger: to close any other descriptor of
    it takes away SQLite's locks (https://sqlite.org/howtocorrupt.html, 2.2).
    """
    log, lock = log_of(path), lock_of(path)
    with suppress(OSError):
        if not path.stat().st_size and _was_ours(path, log, lock):
            raise LedgerError(
                f"{path} is empty, though a ledger was in it: put a backup in its place; or, to "
                f"begin a new ledger, delete it and what is beside it ({path.name}-wal, "
                f"{path.name}-shm, {lock.name})"
            )
    try:
        if not log.stat().st_size or not path.stat().st_size or _belongs(path, lock):
            return
    except OSError:
        return  # there is none; or we may not look, and SQLite will say so of the ledger
    raise LedgerError(
        f"{path} was put in the place of another ledger, whose log {log} still lies beside it and "
        f"would damage it. Stop the receiver. Were all of them moved here together, delete "
        f"{lock.name} alone; is {path.name} a backup, move {log.name} and "
        f"{log.name.removesuffix('-wal')}-shm away (they hold the former ledger's newest pushes)"
    )


def _was_ours(path: Path, log: Path, lock: Path) -> bool:
    """Return whether pushes were in a file that is empty now."""
    if log.exists() and log.stat().st_size:
        return True
    note = read_note(lock.read_text("ascii", "replace"))
    if note is None or not note.stamps:
        return False
    noted = (note.lock_inode, note.ledger_inode)
    return noted == (lock.stat().st_ino, path.stat().st_ino)


def _belongs(path: Path, lock: Path) -> bool:
    seen = ""
    while True:
        text = lock.read_text("ascii", "replace")
        note = read_note(text)
        if note is None or _is_meant(note, path, lock):
            return True
        if text == seen:
            return False
        seen = text  # a `serve` that begins may have written both since we looked


def _is_meant(note: Note, path: Path, lock: Path) -> bool:
    with path.open("rb") as file:
        stamp = stamp_in(file.read(STAMP.stop))
    if note.stamps and stamp not in note.stamps:
        return False
    moved_together = lock.stat().st_ino != note.lock_inode  # a restored folder, a copied volume
    return moved_together or path.stat().st_ino == note.ledger_inode

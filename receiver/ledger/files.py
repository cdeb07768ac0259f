"""The files of a SQLite ledger: their names, how to distinguish one from another, and the lock.

One `serve` holds the lock beside a ledger; its note says which file it belongs to.
"""

import errno
import fcntl
import os
import pwd
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from secrets import randbelow

import msgspec
from msgspec.structs import astuple, replace

from receiver.errors import LedgerError, LedgerInUse
from receiver.ledger.mounts import mounted_alone

Identity = tuple[int, int]
BLOCK = 512  # what st_blocks counts in, on any file system
MOUNTS = Path("/proc/self/mountinfo")
LOG_MAGIC = b"\x37\x7f\x06\x82"  # or 83 at its end: https://sqlite.org/walformat.html
MAGIC = b"SQLite format 3\0"  # https://www.sqlite.org/fileformat.html#magic_header_string
# https://sqlite.org/fileformat.html#application_id: four bytes that say whose file it is.
APPLICATION_ID = int.from_bytes(b"rcvr", "big")
# The "user version" of https://sqlite.org/fileformat.html: four bytes for the application's use.
STAMP = slice(60, 64)
MAX_STAMP = 2**31 - 1
NO_STAMP = 2**31  # no file has this stamp: a note with it refuses any file
MAX_NOTE = 160
LOG = "log"  # in a note: what follows is of the log
ROLLING_RESTART_SECONDS = 15.0
LOOK_EVERY_SECONDS = 0.05  # at a lock that another process holds


@dataclass(frozen=True, slots=True)
class Seen:
    """A file as it was at one look: which file it is, its bytes, and its last change.

    `modified` and `changed` are its mtime and ctime in ns: a copy may set the first back, nothing
    the second. `allocated`: the bytes that it has on the disk; fewer than its size if it has holes.
    """

    identity: Identity
    size: int
    modified: int
    changed: int = 0
    allocated: int = field(default=0, compare=False)


def look_at(path: Path) -> Seen | None:
    """Return what is there, None if there is no such file."""
    try:
        status = os.stat(path)  # noqa: PTH116 - around each group; half of Path.stat's price
    except OSError:
        return None
    identity, allocated = (status.st_dev, status.st_ino), status.st_blocks * BLOCK
    return Seen(identity, status.st_size, status.st_mtime_ns, status.st_ctime_ns, allocated)


def identity_of(path: Path) -> Identity | None:
    """Return what distinguishes a file from another of its name, None if there is none."""
    seen = look_at(path)
    return None if seen is None else seen.identity


def check_place(path: Path) -> None:
    """Raise LedgerError if a ledger cannot be there: no folder, a mounted file, another kind.

    Do not call this while SQLite has the file open: closing a descriptor drops SQLite's locks.
    """
    real = Path(os.path.realpath(path))  # as SQLite does: what belongs to it is beside that
    what = None
    if real.is_symlink():  # what `realpath` cannot follow
        raise LedgerError(f"{path} is a symbolic link that leads back to itself: remove it")
    with suppress(PermissionError):  # `access_fault` explains it when the file is opened
        if not real.parent.is_dir():
            raise LedgerError(
                f"there is no folder {real.parent} for the ledger {real.name}: create it, or "
                "correct DATABASE_URL"
            )
        what = _other_kind(real)
        for one in (wal_path(real), beside(real, "-shm"), lock_of(real)):
            if one.is_dir():
                raise LedgerError(
                    f"{one} is a folder, and {real.name} needs a file of that name beside it: "
                    "remove it (Docker creates one if the file to mount is missing)"
                )
    alone = mounted_alone(str(real), read_mounts())
    if what is not None:
        if alone is not None and real.is_dir():
            what += " (Docker creates one if the file to mount is missing)"
        raise LedgerError(f"{path} is {what}, not a ledger: name a file for it in DATABASE_URL")
    if alone is not None:
        raise LedgerError(alone)


def _other_kind(path: Path) -> str | None:
    """Return what is there instead of a SQLite file, None for one, an empty file, or nothing."""
    if not path.exists():
        return None
    if not path.is_file():
        return "a folder" if path.is_dir() else "no plain file"
    with path.open("rb") as file:
        begins = file.read(len(MAGIC))
    return None if begins in {b"", MAGIC} else "another kind of file, or an encrypted database"


def access_fault(path: Path) -> str | None:
    """Return which of the ledger's files this user may not use and who owns it, else None."""
    real = Path(os.path.realpath(path))
    me = f"this is user {_user(os.geteuid())}"
    for one in (real.parent, real, wal_path(real), beside(real, "-shm"), lock_of(real)):
        needed = os.R_OK | os.W_OK | (os.X_OK if one == real.parent else 0)
        try:
            found = one.stat()
        except FileNotFoundError:
            continue
        except OSError as error:
            return f"{one} cannot be reached ({error.strerror}), and {me}: see DATABASE_URL"
        if os.access(one, needed, effective_ids=True):
            continue
        if os.statvfs(one).f_flag & os.ST_RDONLY:
            return f"{one} is on a read-only file system, and the ledger must be written"
        return (
            f"{one} belongs to user {_user(found.st_uid)} (mode {found.st_mode & 0o7777:04o}), and "
            f"{me}, who may not read and write it: change its owner (chown), or run as that user"
        )
    return None


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def read_mounts() -> str:
    """Return the text of /proc/self/mountinfo, empty on systems that have none."""
    try:
        return MOUNTS.read_text("utf-8", "surrogateescape")
    except OSError:
        return ""


def make_private(path: Path) -> bool:
    """Make the empty file if there is none, for nobody else to read: SQLite makes it for all."""
    with suppress(OSError):  # it is there, or what makes it next says why not
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        return True
    return False


def wal_path(path: Path) -> Path:
    """Return the path of SQLite's write-ahead log."""
    return beside(path, "-wal")


def log_fault(path: Path) -> str | None:
    """Return what is wrong with a log that SQLite would silently ignore, else None."""
    log = wal_path(path)
    try:
        with log.open("rb") as file:
            begins = file.read(len(LOG_MAGIC))
            size = file.seek(0, os.SEEK_END)
            whole = not size or file.seek(0, os.SEEK_HOLE) == size  # it is written without gaps
    except OSError:
        return None
    if whole and (not begins or (begins[:3] == LOG_MAGIC[:3] and begins[3:] in {b"\x82", b"\x83"})):
        return None
    return f"{log} cannot be read: it was cut off or overwritten. {missing_from(path)}"


def missing_from(path: Path) -> str:
    """Return what is missing from a ledger without its log, and what to do."""
    return (
        f"What was accepted since SQLite last wrote it into {path.name} is missing: `receiver "
        "catch-up --since` finds those pushes"
    )


def lock_of(path: Path) -> Path:
    """Return the lock of a ledger, by whatever way it is reached."""
    return beside(path, ".lock")


def remove_stale_wal(path: Path, known: Seen | None) -> None:
    """Delete the log of the file that was here before; one that came with the new stays."""
    log = wal_path(path)
    if known is not None and identity_of(log) == known.identity:
        log.unlink(missing_ok=True)
        beside(path, "-shm").unlink(missing_ok=True)


def beside(path: Path, ending: str) -> Path:
    """Return the file that belongs to a ledger and has its name with that ending."""
    real = Path(os.path.realpath(path))
    return real.with_name(real.name + ending)


class LogNote(msgspec.Struct, frozen=True):
    """A log as a commit left it: its frames, how many of them are in the file, the last page.

    `number` and `content` are that page's number and CRC. The lock's note has it, so that a start
    notices a log that was harmed meanwhile: SQLite itself takes a deleted or emptied log for one
    that never was, and a part of one for all.
    """

    salt: int
    frames: int
    written: int
    number: int
    content: int


class Note(msgspec.Struct, frozen=True):
    """The lock's note of the ledger: the inodes of both, and the stamps that the ledger may have.

    Without stamps, any stamp is accepted. There are two stamps while a new stamp is being written.
    `log` is the ledger's log after the last commit, if a commit was made under this stamp.
    """

    lock_inode: int
    ledger_inode: int
    stamps: tuple[int, ...] = ()
    log: LogNote | None = None

    def text(self) -> str:
        """Return it as it is written: of one length, so that a full disk takes it as well."""
        words: tuple[object, ...] = (self.lock_inode, self.ledger_inode, *self.stamps)
        if self.log is not None:
            words = (*words, LOG, *astuple(self.log))
        return " ".join(map(str, words)).ljust(MAX_NOTE)


def read_note(text: str) -> Note | None:
    """Parse the output of `Note.text`; return None for any other text."""
    front, _, back = text.partition(f" {LOG} ")
    words, of_log = front.split(), back.split()
    if len(words) < 2 or not all(word.isdigit() for word in (*words, *of_log)):  # noqa: PLR2004
        return None
    lock, ledger, *stamps = map(int, words)
    whole = len(of_log) == len(LogNote.__struct_fields__)
    return Note(lock, ledger, tuple(stamps), LogNote(*map(int, of_log)) if whole else None)


def stamp_in(header: bytes) -> int | None:
    """Return the stamp in a file's first bytes, None if they are not SQLite's."""
    if len(header) < STAMP.stop or not header.startswith(MAGIC):
        return None
    return int.from_bytes(header[STAMP], "big")


def new_stamp() -> int:
    """Return a random stamp, which is unlikely to be used by another file."""
    return randbelow(MAX_STAMP) + 1


def write_new_stamp(
    database: sqlite3.Connection, write_note: Callable[[tuple[int, ...]], None]
) -> None:
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
    """Raise LedgerError if the log beside a ledger was written for another file.

    Call this before SQLite opens the ledger in this process: closing any other descriptor of the
    ledger drops SQLite's locks (https://sqlite.org/howtocorrupt.html, 2.2).
    """
    log, lock = wal_path(path), lock_of(path)
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
        return read_note(os.pread(self._descriptor, MAX_NOTE, 0).decode("ascii", "replace"))

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

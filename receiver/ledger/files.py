"""The files of a SQLite ledger: their names, and what tells one file from another."""

import os
import pwd
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from receiver.errors import LedgerError
from receiver.hosts import mounted_alone

Identity = tuple[int, int]
BLOCK = 512  # what st_blocks counts in, on any file system
MOUNTS = Path("/proc/self/mountinfo")
LOG_MAGIC = b"\x37\x7f\x06\x82"  # or 83 at its end: https://sqlite.org/walformat.html
MAGIC = b"SQLite format 3\0"  # https://www.sqlite.org/fileformat.html#magic_header_string


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

    Not to be asked while SQLite has the file open: to close it again drops SQLite's locks.
    """
    real = Path(os.path.realpath(path))  # as SQLite does: what belongs to it is beside that
    what = None
    with suppress(PermissionError):  # `access_fault` explains it when the file is opened
        if not real.parent.is_dir():
            raise LedgerError(
                f"there is no folder {real.parent} for the ledger {real.name}: create it, or "
                "correct DATABASE_URL"
            )
        what = _other_kind(real)
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
    for one in (real.parent, real, log_of(real), beside(real, "-shm"), lock_of(real)):
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


def log_of(path: Path) -> Path:
    """Return where SQLite keeps what is not in the file yet."""
    return beside(path, "-wal")


def log_fault(path: Path) -> str | None:
    """Return what is wrong with a log that SQLite would ignore without a word, else None."""
    log = log_of(path)
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


def drop_log(path: Path, known: Identity | None) -> None:
    """Delete the log of the file that was here before; one that came with the new stays."""
    log = log_of(path)
    if known is not None and identity_of(log) == known:
        log.unlink(missing_ok=True)
        beside(path, "-shm").unlink(missing_ok=True)


def beside(path: Path, ending: str) -> Path:
    """Return the file that belongs to a ledger and has its name with that ending."""
    path = path.resolve()
    return path.with_name(path.name + ending)

"""The files of a SQLite ledger: their names, and what tells one file from another."""

import os
from contextlib import suppress
from pathlib import Path

from receiver.errors import LedgerError

Identity = tuple[int, int]
MAGIC = b"SQLite format 3\0"  # https://www.sqlite.org/fileformat.html#magic_header_string


def identity_of(path: Path) -> Identity | None:
    """Return what tells a file from another of its name, None where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - before each group; half of Path.stat's price
    except OSError:
        return None
    return status.st_dev, status.st_ino


def check_is_ledger(path: Path) -> None:
    """Raise LedgerError where something else has the name: nothing is to be put beside that.

    Not to be asked while SQLite has the file open: to close it again drops SQLite's locks.
    """
    what = None
    with suppress(OSError):  # there is none yet, or what is wrong with it is told later
        if path.exists() and not path.is_file():
            what = "a folder" if path.is_dir() else "no plain file"
        elif path.exists():
            with path.open("rb") as file:
                begins = file.read(len(MAGIC))
            what = None if begins in {b"", MAGIC} else "another kind of file"
    if what is not None:
        raise LedgerError(f"{path} is {what}, not a ledger: name a file for it in DATABASE_URL")


def make_private(path: Path) -> None:
    """Make the empty file where there is none, for nobody else to read: SQLite makes it for all."""
    with suppress(OSError):  # it is there, or what makes it next says why not
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))


def log_of(path: Path) -> Path:
    """Return where SQLite keeps what is not in the file yet."""
    return _beside(path, "-wal")


def lock_of(path: Path) -> Path:
    """Return the lock of a ledger, by whatever way it is reached."""
    return _beside(path, ".lock")


def drop_log(path: Path, known: Identity | None) -> None:
    """Delete the log of the file that was here before; one that came with the new stays."""
    log = log_of(path)
    if known is not None and identity_of(log) == known:
        log.unlink(missing_ok=True)
        _beside(path, "-shm").unlink(missing_ok=True)


def _beside(path: Path, ending: str) -> Path:
    path = path.resolve()
    return path.with_name(path.name + ending)

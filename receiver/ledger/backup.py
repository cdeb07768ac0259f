"""A backup of a live SQLite ledger: it is either complete and valid, or it does not exist."""

import os
import re
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from tempfile import mkstemp

from receiver.errors import LedgerError
from receiver.ledger.files import APPLICATION_ID, MAGIC, check_log_belongs, lock_of, new_stamp

PART = ".being-made-"
MODE = 0o600
# Of https://sqlite.org/fileformat.html: what reads and writes it, and whose file it is.
FORMATS, APPLICATION = slice(18, 20), slice(68, 72)
WITHOUT_LOG = b"\1\1"  # as `write_copy` leaves it; a ledger in use has a log
CUT_OFF_SECONDS = 3600.0  # a process still writing a backup modifies it more often


def backup_ledger(ledger: Path, copy: Path, *, overwrite: bool = False) -> int:
    """Make a consistent copy of a live SQLite ledger; return its bytes. Raises LedgerError.

    The copy has a temporary name until it is complete: an interrupted copy is not mistaken for a
    backup, and an earlier backup of the same name is kept until it is replaced.
    """
    try:
        _check_name(ledger, copy, overwrite=overwrite)
        check_log_belongs(ledger)
        part = own_part(copy)
    except OSError as error:
        raise LedgerError(f"{copy} cannot be made: {error.strerror}; name another file") from None
    try:
        uri = f"{ledger.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as source:
            write_copy(source, part)
        if overwrite:
            put_in_place(part, copy, mode=MODE)
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


def own_part(copy: Path) -> Path:
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


def put_in_place(part: Path, path: Path, *, mode: int | None = None) -> None:
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

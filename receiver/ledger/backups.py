"""A backup of a live SQLite ledger: whole and sound, or not there at all."""

import os
import re
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from tempfile import mkstemp

from receiver.errors import LedgerError
from receiver.ledger.files import lock_of
from receiver.ledger.stamps import check_log_belongs, new_stamp

PART = ".being-made-"
CUT_OFF_SECONDS = 3600.0  # who still writes a backup has touched it since


def back_up(ledger: Path, copy: Path) -> int:
    """Make a consistent copy of a live SQLite ledger; return its bytes. Raises LedgerError.

    It has another name until it is whole: one that was cut off is not taken for a backup.
    """
    try:
        _check_name(ledger, copy)
        check_log_belongs(ledger)
        part = _own_part(copy)
    except OSError as error:
        raise LedgerError(f"{copy} cannot be made: {error.strerror}; name another file") from None
    try:
        with (
            closing(sqlite3.connect(f"{ledger.absolute().as_uri()}?mode=ro", uri=True)) as source,
            closing(sqlite3.connect(part)) as target,
        ):
            # In one step, of one snapshot: between steps any commit would have it begin anew.
            source.backup(target)
            sound = target.execute("PRAGMA quick_check").fetchone()[0]
            # A file of its own: restored, it is told from the one whose log may still lie there.
            target.execute(f"PRAGMA user_version = {new_stamp()}")
            # Nothing beside it is a part of it: it may be copied, or read where none may write.
            target.execute("PRAGMA journal_mode = DELETE")
        if sound != "ok":
            raise LedgerError(f"the backup is not sound: {sound}; look after {ledger}")
        _give_name(part, copy)
    except (sqlite3.Error, OSError) as error:
        raise LedgerError(
            f"the backup of {ledger} failed: {error}; look whether it may be read, and whether "
            f"{copy.parent} may be written to and has room"
        ) from None
    finally:
        part.unlink(missing_ok=True)
    return copy.stat().st_size


def _check_name(ledger: Path, copy: Path) -> None:
    """Raise LedgerError where the name is not free, or would be taken for the ledger's own."""
    whole = ledger.resolve()
    own = {whole.with_name(whole.name + ending) for ending in ("-journal", "-wal", "-shm")}
    if copy.parent.resolve() / copy.name in {*own, lock_of(ledger)}:
        raise LedgerError(f"{copy} is a name that SQLite or the receiver uses; name another")
    if not copy.parent.is_dir():
        raise LedgerError(f"{copy.parent} is no folder; make it, or name a file elsewhere")
    if copy.exists():
        raise LedgerError(f"{copy} is there already; name a new file")


def _own_part(copy: Path) -> Path:
    """Make the file to write to, of a name that no other backup has; remove those cut off."""
    ours = re.compile(re.escape(copy.name + PART) + r"\w{8}(-journal)?")
    for left in copy.parent.iterdir():
        if ours.fullmatch(left.name) and time.time() - left.stat().st_mtime > CUT_OFF_SECONDS:
            left.unlink(missing_ok=True)
    descriptor, part = mkstemp(prefix=copy.name + PART, dir=copy.parent)
    os.close(descriptor)
    return Path(part)


def _give_name(part: Path, copy: Path) -> None:
    """Name it in the end; nothing that came by that name meanwhile is written over."""
    try:
        os.link(part, copy)
    except FileExistsError:
        raise
    except OSError:  # a file system without links, as FAT: there a moment is left open
        if copy.exists():
            raise
        part.rename(copy)

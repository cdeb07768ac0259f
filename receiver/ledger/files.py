"""The files of a SQLite ledger: their names, and what tells one file from another."""

import os
from pathlib import Path

Identity = tuple[int, int]


def identity_of(path: Path) -> Identity | None:
    """Return what tells a file from another of its name, None where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - before each group; half of Path.stat's price
    except OSError:
        return None
    return status.st_dev, status.st_ino


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

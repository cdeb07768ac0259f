"""The files of a SQLite ledger: which one it is, and which log belongs to it.

SQLite plays whatever log lies beside a file into it. Beside a file that was put in its place, a
restored backup, the old one's log would damage it.
"""

from pathlib import Path

from receiver.errors import LedgerError

Identity = tuple[int, int]


def identity_of(path: Path) -> Identity | None:
    """Return what tells a file from another of its name, None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def log_of(path: Path) -> Path:
    """Return where SQLite keeps what is not in the file yet."""
    return path.with_name(f"{path.name}-wal")


def drop_log(path: Path, known: Identity | None) -> None:
    """Delete the log of the file that was here before; one that came with the new stays."""
    if known is not None and identity_of(log_of(path)) == known:
        log_of(path).unlink(missing_ok=True)
        path.with_name(f"{path.name}-shm").unlink(missing_ok=True)


def check_log_belongs(path: Path, noted: Identity | None) -> None:
    """Raise LedgerError where a log lies beside a file that it was not written for.

    `noted` is the file that the last receiver here worked on.
    """
    log = log_of(path)
    if noted is None or noted == identity_of(path) or not path.exists():
        return
    if log.exists() and log.stat().st_size:
        raise LedgerError(
            f"{path} was put in the place of another ledger, whose log {log} still lies beside it "
            f"and would damage it. If {path.name} is a backup, delete {log.name} and "
            f"{path.name}-shm; if both were moved here together, delete {path.name}.lock"
        )

"""A log that is deleted, emptied, cut off or replaced after the receiver was killed is noticed."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.engine import URL
from structlog.testing import capture_logs

from receiver.errors import LedgerError
from receiver.ledger.files import LogNote, lock_of, wal_path
from receiver.ledger.ledger import Ledger
from receiver.ledger.write_ahead_log import Frames, LogDamage, judge
from tests.support.disk import put
from tests.support.ledger_work import write

SALT = (70 << 32) + 12345
NOTED = LogNote(salt=SALT, frames=20, written=5, number=3, content=99)


def frames(count: int, salt: int = SALT) -> Frames:
    return Frames(salt, 4096, count)


@pytest.mark.parametrize(
    ("found", "in_file", "harm"),
    [
        (frames(20), False, LogDamage()),
        (frames(25), False, LogDamage()),
        (
            frames(3, SALT + (1 << 32)),
            False,
            LogDamage(),
        ),  # begun again; the note is of before a crash
        (frames(12), False, LogDamage(lost=True)),
        (frames(4), False, LogDamage(lost=True, stale=True)),  # the file has newer pages
        (frames(12), True, LogDamage(stale=True)),
        (frames(0), False, LogDamage(lost=True)),
        (frames(0), True, LogDamage()),  # another program closed it, which empties it into the file
        (frames(30, SALT - (1 << 32)), True, LogDamage(stale=True)),
        (frames(30, SALT - (1 << 32)), False, LogDamage(lost=True, stale=True)),
        (frames(30, SALT ^ (1 << 62)), False, LogDamage(lost=True, stale=True)),
        (frames(30, SALT ^ (1 << 62)), True, LogDamage()),  # what another program wrote since
    ],
)
def test_what_happened_to_a_log_follows_from_the_note(
    found: Frames, in_file: bool, harm: LogDamage
) -> None:
    assert judge(NOTED, found, in_file=in_file) == harm


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A ledger as a kill leaves it, with ten keys of which the last five are in the log alone."""
    path = tmp_path / "live" / "receiver.db"
    path.parent.mkdir()
    ledger = opened(path)
    for number in range(5):
        write(ledger, lambda tx, n=number: put(tx, f"key {n}"))  # type: ignore[misc]
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for number in range(5, 10):
        write(ledger, lambda tx, n=number: put(tx, f"key {n}"))  # type: ignore[misc]
    copy = tmp_path / "killed"
    copy.mkdir()
    for file in (path, wal_path(path), lock_of(path)):
        shutil.copyfile(file, copy / file.name)
    ledger.close()
    return copy / path.name


def opened(path: Path) -> Ledger:
    ledger = Ledger(URL.create("sqlite", database=str(path)))
    ledger.open_to_write(wait_seconds=0)
    return ledger


def started(path: Path) -> tuple[list[Any], set[str]]:
    """Start on it; return what the start says of the log, and the keys it has."""
    with capture_logs() as logs:
        ledger = opened(path)
    rows = ledger.read_sync(lambda tx: tx.run("SELECT key FROM meta WHERE key LIKE 'key%'").all())
    ledger.close()
    said = [line["sentence"] for line in logs if line["event"] == "ledger_log_unreadable"]
    return said, {row.key for row in rows}


def keys(count: int) -> set[str]:
    return {f"key {number}" for number in range(count)}


HARMS: dict[str, Callable[[Path], object]] = {
    "deleted": lambda path: wal_path(path).unlink(),
    "emptied": lambda path: os.truncate(wal_path(path), 0),
    "cut off in the first frame": lambda path: os.truncate(wal_path(path), 1000),
    "cut off in its header": lambda path: os.truncate(wal_path(path), 20),
    "zeroed": lambda path: wal_path(path).write_bytes(bytes(wal_path(path).stat().st_size)),
}


@pytest.mark.parametrize("harm", HARMS)
def test_a_log_harmed_after_a_kill_is_named_at_the_next_start(killed: Path, harm: str) -> None:
    """15 of 15 accepted pushes were gone, and no line of the log said so."""
    HARMS[harm](killed)

    (said,), found = started(killed)

    assert found == keys(5)
    assert "receiver.db-wal" in said
    assert "`receiver catch-up --since` finds those pushes" in said
    assert started(killed) == ([], keys(5))


def test_a_log_cut_off_in_the_middle_gives_what_is_left_and_is_named(killed: Path) -> None:
    os.truncate(wal_path(killed), wal_path(killed).stat().st_size - 4096)

    (said,), found = started(killed)

    assert keys(5) < found < keys(10)
    assert "catch-up --since" in said


def test_a_log_that_another_program_emptied_into_the_file_is_no_loss(killed: Path) -> None:
    with closing(sqlite3.connect(killed)) as database:
        database.execute("SELECT 1 FROM meta").fetchall()
    assert not wal_path(killed).exists()

    assert started(killed) == ([], keys(10))


def test_a_log_left_whole_is_read_without_a_word(killed: Path) -> None:
    assert started(killed) == ([], keys(10))


def test_part_of_a_log_that_the_file_has_already_is_not_put_into_it_again(killed: Path) -> None:
    """SQLite would take its old pages for the newest, and mix them with newer ones."""
    log = wal_path(killed).read_bytes()
    with closing(sqlite3.connect(killed)) as database:
        database.execute("SELECT 1 FROM meta").fetchall()
    wal_path(killed).write_bytes(log[: 32 + 2 * 4120])

    (said,), found = started(killed)

    assert found == keys(10)
    assert "receiver.db-wal.unusable" in said
    assert "Nothing is missing" in said


def test_a_log_of_another_ledger_is_put_aside(killed: Path, tmp_path: Path) -> None:
    other = opened(tmp_path / "other.db")
    write(other, lambda tx: put(tx, "key of the other"))
    shutil.copyfile(wal_path(tmp_path / "other.db"), wal_path(killed))
    other.close()

    (said,), found = started(killed)

    assert found == keys(5)
    assert "receiver.db-wal.unusable" in said
    assert "catch-up --since" in said


def test_when_the_index_is_overwritten_with_the_log_nothing_more_is_accepted(
    tmp_path: Path,
) -> None:
    """SQLite forgets the commits then, also those that the open connection has in memory."""
    path = tmp_path / "receiver.db"
    ledger = opened(path)
    for number in range(5):
        write(ledger, lambda tx, n=number: put(tx, f"key {n}"))  # type: ignore[misc]
    for ending in ("-wal", "-shm"):
        file = path.with_name(path.name + ending)
        size = file.stat().st_size
        with file.open("r+b") as harmed:
            harmed.write(bytes(size))

    with pytest.raises(LedgerError, match="its content could not be saved"):
        write(ledger, lambda tx: put(tx, "key 9"))
    ledger.close()
    (said,), found = started(path)
    assert found == set()
    assert "catch-up --since" in said

"""The ledger's file while we have it open: other processes read it, or put another in its place."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from receiver.errors import LedgerError, LedgerInUse
from receiver.ledger import sqlite_file as own_file
from receiver.ledger.copy import backup_ledger, copy_ledger
from receiver.ledger.engine import open_engine
from receiver.ledger.files import check_log_belongs, identity_of, lock_of, read_note, wal_path
from receiver.ledger.ledger import Ledger
from receiver.ledger.transaction import Tx
from tests.ledger.test_copy import filled, sqlite
from tests.support.ledger_work import pushed, write

READ_AND_CLOSE = """import sqlite3, sys
with sqlite3.connect(sys.argv[1]) as database: database.execute("SELECT 1 FROM meta").fetchall()
database.close()"""
WRITE_AND_STAY = """import sqlite3, sys, time
with sqlite3.connect(sys.argv[1]) as database: database.execute("INSERT INTO meta VALUES (1, 2)")
print("written", flush=True)
time.sleep(60)"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "receiver.db"


def opened(path: Path) -> Ledger:
    ledger = Ledger(URL.create("sqlite", database=str(path)))
    ledger.open_to_write(wait_seconds=0)
    return ledger


def tags(tx: Tx) -> list[str]:
    return [row.tag for row in tx.run("SELECT tag FROM deliveries ORDER BY id")]


def test_a_ledger_that_was_read_first_keeps_its_locks_and_its_log(path: Path) -> None:
    """To look at the file once more dropped them: another's close took the log from under it."""
    opened(path).close()
    ledger = Ledger(URL.create("sqlite", database=str(path)))
    with subprocess.Popen(
        [sys.executable, "-c", WRITE_AND_STAY, str(path)], stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"written\n"
        for _ in range(2):
            ledger.open_readonly()
            assert ledger.read_sync(tags) == []
        other.kill()
    assert wal_path(path).stat().st_size
    ledger.open_to_write(wait_seconds=0)
    write(ledger, lambda tx: pushed(tx, "1.0"))
    log = identity_of(wal_path(path))

    subprocess.run([sys.executable, "-c", READ_AND_CLOSE, str(path)], check=True)

    assert log is not None
    assert identity_of(wal_path(path)) == log
    ledger.close()


@pytest.mark.parametrize("read_before", [False, True], ids=["at-rest", "read-before"])
def test_who_reads_just_after_a_backup_was_put_there_plays_no_old_log_into_it(
    path: Path, tmp_path: Path, read_before: bool
) -> None:
    """The backup was gone, and nothing could be written any more."""
    ledger = opened(path)
    write(ledger, lambda tx: pushed(tx, "in-the-backup"))
    backup_ledger(path, tmp_path / "backup.db")
    for number in range(40):
        write(ledger, lambda tx, n=number: pushed(tx, f"since.{n}"))  # type: ignore[misc]
    if read_before:
        ledger.read_sync(tags)
    (tmp_path / "backup.db").replace(path)

    with pytest.raises(LedgerError, match="was replaced; it is read again"):
        ledger.read_sync(tags)
    with pytest.raises(LedgerError, match="was replaced; it is read again"):
        write(ledger, lambda tx: pushed(tx, "refused"))
    with pytest.raises(LedgerError, match="was replaced; it is read again"):
        ledger.read_sync(tags)
    write(ledger, lambda tx: pushed(tx, "after"))

    assert ledger.read_sync(tags) == ["in-the-backup", "after"]
    write(ledger, lambda tx: pushed(tx, "last"))
    ledger.close()
    again = opened(path)
    assert again.read_sync(tags) == ["in-the-backup", "after", "last"]
    again.close()


def test_reading_a_missing_ledger_does_not_create_it(path: Path, tmp_path: Path) -> None:
    ledger = opened(path)
    write(ledger, lambda tx: pushed(tx, "1.0"))
    path.rename(tmp_path / "elsewhere")

    with pytest.raises(LedgerError, match="is gone; put it back"):
        ledger.read_sync(tags)

    assert not path.exists()
    (tmp_path / "elsewhere").rename(path)
    assert ledger.read_sync(tags) == ["1.0"]
    path.rename(tmp_path / "elsewhere")
    assert ledger.read_sync(tags) == ["1.0"]  # what is open may be read
    ledger.close()


def test_a_stamp_is_on_disk_only_after_its_note(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut an honest start was refused: the note of before was on disk beside it."""
    opened(path).close()
    synced = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        fsync(descriptor)
        note = read_note(lock_of(path).read_text("ascii"))
        assert note is not None
        synced.append((note.stamps, int.from_bytes(path.read_bytes()[60:64], "big")))

    before = path.read_bytes()[60:64]
    monkeypatch.setattr(os, "fsync", watched)
    opened(path).close()

    old = int.from_bytes(before, "big")
    (stamps, in_file), (last, in_the_end) = synced
    assert (stamps[0], in_file) == (old, old)
    assert last == (in_the_end,) == stamps[1:]


def test_a_lock_that_is_deleted_is_taken_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second receiver took a new one, and both wrote."""
    monkeypatch.setattr(own_file, "LOOK_EVERY_SECONDS", 0.0)
    ledger = opened(path)
    note = read_note(lock_of(path).read_text("ascii"))
    lock_of(path).unlink()

    for tag in ("1.0", "1.1"):
        write(ledger, lambda tx, tag=tag: pushed(tx, tag))  # type: ignore[misc]

    again = read_note(lock_of(path).read_text("ascii"))
    assert note is not None
    assert again is not None
    assert (again.ledger_inode, again.stamps) == (note.ledger_inode, note.stamps)
    assert again.log is not None  # of what was written since
    with pytest.raises(LedgerInUse):
        opened(path)
    lock_of(path).unlink()
    other = opened(path)
    monkeypatch.setattr(own_file, "LOOK_EVERY_SECONDS", 60.0)
    for _ in range(2):  # refused once, it was let through until the next look
        with pytest.raises(LedgerInUse, match="another receiver took it: stop one of the two"):
            write(ledger, lambda tx: pushed(tx, "2.0"))
    ledger.close()
    write(other, lambda tx: pushed(tx, "3.0"))
    assert other.read_sync(tags) == ["1.0", "1.1", "3.0"]
    other.close()


def test_a_start_beside_a_reader_is_guarded_by_the_stamp_of_before(
    path: Path, tmp_path: Path
) -> None:
    """A reader keeps the log from being emptied: then no stamp at all was asked for."""
    first = opened(path)
    write(first, lambda tx: pushed(tx, "1.0"))
    backup_ledger(path, tmp_path / "backup.db")
    first.close()
    long = open_engine(first._url, read_only=True)
    with long.connect() as reading, reading.begin():
        reading.exec_driver_sql("SELECT * FROM deliveries").fetchone()
        # What is written meanwhile must stay in the log.
        with open_engine(first._url).connect() as other, other.begin():
            other.exec_driver_sql("INSERT INTO meta (key, value) VALUES ('a', 'b')")
        second = opened(path)
        write(second, lambda tx: pushed(tx, "2.0"))
        path.write_bytes((tmp_path / "backup.db").read_bytes())

        with pytest.raises(LedgerError, match="was put in the place of another ledger"):
            check_log_belongs(path)
        second.close()


def test_a_copy_into_the_place_of_a_former_ledger_leaves_no_note_of_that_one(
    path: Path, tmp_path: Path
) -> None:
    """Cut off, it was answered with a wrong remedy, which would have deleted what it held."""
    opened(path).close()
    path.unlink()
    assert lock_of(path).exists()
    seen: list[bool] = []

    def looked(_all: int, _rows: int) -> None:
        seen.append(wal_path(path).exists())
        check_log_belongs(path)

    copy_ledger(filled(tmp_path / "from.db"), sqlite(path), looked)

    assert any(seen)


def test_a_backup_is_one_file_and_may_be_read_where_none_may_write(
    path: Path, tmp_path: Path
) -> None:
    ledger = opened(path)
    write(ledger, lambda tx: pushed(tx, "1.0"))
    before = set(tmp_path.iterdir())

    backup_ledger(path, tmp_path / "backup.db")

    assert set(tmp_path.iterdir()) - before == {tmp_path / "backup.db"}
    header = (tmp_path / "backup.db").read_bytes()[:100]
    assert header[18:20] == b"\x01\x01"  # no log: https://sqlite.org/fileformat.html
    assert header[60:64] != path.read_bytes()[60:64]
    ledger.close()

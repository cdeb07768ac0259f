"""The ledger's files deleted, cut off, replaced or overwritten while we have them open.

What is answered as accepted must be in the files that a next start finds, whatever happened.
"""

import asyncio
import json
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import httpx
import pytest
from sqlalchemy.engine import URL

from receiver.errors import LedgerError
from receiver.ledger import sqlite_file as own_file
from receiver.ledger.copy import backup_ledger
from receiver.ledger.files import identity_of, wal_path
from receiver.ledger.ledger import Ledger
from receiver.ledger.transaction import Tx
from tests.conftest import StartReceiver
from tests.support.disk import put
from tests.support.ledger_work import write
from tests.support.receiver_process import ReceiverProcess, until, webhook_body

LogDamage = Callable[[Path], object]


def delete(path: Path) -> None:
    wal_path(path).unlink()


def delete_both(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}-*"):
        file.unlink()


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(wal_path(path).read_bytes()[:9000])
    other.replace(wal_path(path))


def empty(path: Path) -> None:
    os.truncate(wal_path(path), 0)


def cut(path: Path) -> None:
    os.truncate(wal_path(path), wal_path(path).stat().st_size // 2)


def overwrite(path: Path, place: int, data: bytes) -> None:
    """Write into the log as it is, and set its time back, as `rsync --inplace --times` does."""
    status = wal_path(path).stat()
    with wal_path(path).open("r+b") as log:
        log.seek(place)
        log.write(data)
    os.utime(wal_path(path), ns=(status.st_atime_ns, status.st_mtime_ns))


def zero(path: Path) -> None:
    overwrite(path, 0, bytes(wal_path(path).stat().st_size))


def spoil_middle(path: Path) -> None:
    overwrite(path, wal_path(path).stat().st_size // 2, b"X" * 5000)


def spoil_end(path: Path) -> None:
    overwrite(path, wal_path(path).stat().st_size - 5000, b"X" * 5000)


def spoil_one_byte(path: Path) -> None:
    overwrite(path, 4000, b"\x00" if wal_path(path).read_bytes()[4000] else b"\x01")


def fill_with_garbage(path: Path) -> None:
    header = wal_path(path).read_bytes()[:32]
    overwrite(path, 0, header + b"garbage!" * (wal_path(path).stat().st_size // 2))


def write_older(path: Path) -> None:
    """The log with another generation's salt, all of its frames in themselves valid."""
    other = path.with_name("other.db")
    with closing(sqlite3.connect(other, isolation_level=None)) as database:
        database.executescript("PRAGMA journal_mode = WAL; CREATE TABLE a (b)")
        log = wal_path(other).read_bytes()
    overwrite(path, 0, log)
    other.unlink()


CROWD = 16
IN_PLACE = [zero, spoil_middle, spoil_end, spoil_one_byte, fill_with_garbage, write_older]
HARMS = pytest.mark.parametrize("harm", [delete, delete_both, replace, empty, cut, *IN_PLACE])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "receiver.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    ledger = Ledger(URL.create("sqlite", database=str(path)))
    ledger.open_to_write(wait_seconds=0)
    yield ledger
    with suppress(RuntimeError):  # the test closed it
        ledger.close()


def kept(path: Path) -> set[str]:
    """The keys that a start would find, were we killed this moment."""
    copy = path.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for file in (path, wal_path(path)):
        if file.exists():
            shutil.copyfile(file, copy / file.name)
    with closing(sqlite3.connect(copy / path.name)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return {key for (key,) in database.execute("SELECT key FROM meta WHERE key LIKE 'key%'")}


def keys(ledger: Ledger, numbers: range) -> set[str]:
    """Write keys one after another; return those that were answered as written."""
    return {write(ledger, lambda tx, n=number: put(tx, f"key {n}")) for number in numbers}  # type: ignore[misc]


def crowd(ledger: Ledger, numbers: range) -> set[str]:
    """The same, all at once: in one transaction."""

    async def at_once() -> list[str]:
        return await asyncio.gather(
            *(ledger.write_batched(lambda tx, some: [put(tx, one) for one in some], f"key {n}")
              for n in numbers)
        )  # fmt: skip

    return set(asyncio.run(at_once()))


@HARMS
@pytest.mark.parametrize("more", [keys, crowd])
def test_what_is_written_after_the_log_was_harmed_is_there_at_the_next_start(
    ledger: Ledger, path: Path, harm: LogDamage, more: Callable[[Ledger, range], set[str]]
) -> None:
    """40 pushes were answered 202 into a deleted log, and 5 of them were gone after a kill."""
    answered = keys(ledger, range(5))
    ledger.read_sync(lambda tx: tx.run("SELECT 1 FROM meta").all())
    harm(path)

    answered |= more(ledger, range(5, 5 + CROWD))

    assert len(answered) == 5 + CROWD
    assert answered <= kept(path)
    answered |= more(ledger, range(100, 100 + CROWD))
    assert answered <= kept(path)
    rows = ledger.read_sync(lambda tx: tx.run("SELECT key FROM meta").scalars().all())
    assert answered <= set(rows)


@HARMS
def test_what_is_being_written_while_the_log_is_harmed_is_there_too(
    ledger: Ledger, path: Path, harm: LogDamage
) -> None:
    answered = keys(ledger, range(5))

    def harmed(tx: Tx) -> str:
        key = put(tx, "key in the midst")
        harm(path)  # SQLite writes to the log when it commits
        return key

    answered.add(write(ledger, harmed))

    assert answered <= kept(path)
    answered |= keys(ledger, range(10, 12))
    assert answered <= kept(path)


@HARMS
def test_what_was_written_before_is_saved_while_nothing_is_written(
    ledger: Ledger, path: Path, harm: LogDamage
) -> None:
    answered = keys(ledger, range(5))
    harm(path)

    def found() -> set[str]:
        with suppress(sqlite3.Error, AssertionError):  # of what was not saved yet
            return kept(path)
        return set()

    until(lambda: answered <= found())


def test_a_log_that_cannot_be_emptied_is_kept_open_until_it_can(
    ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long read holds it up: to close the connection then would lose what only that has."""
    answered = keys(ledger, range(5))
    with closing(sqlite3.connect(path, isolation_level=None)) as reading:
        reading.execute("BEGIN")
        reading.execute("SELECT * FROM meta").fetchall()
        answered |= keys(ledger, range(5, 10))
        delete(path)
        for _ in range(2):
            with pytest.raises(LedgerError, match="was deleted or replaced while in use"):
                keys(ledger, range(10, 11))
        reading.execute("ROLLBACK")

    answered |= keys(ledger, range(20, 22))
    assert answered <= kept(path)


def test_a_log_of_which_too_much_is_gone_is_said_to_be_lost(
    ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    keys(ledger, range(5))
    monkeypatch.setattr(own_file, "write_copy", fails)
    empty(path)

    for look in (lambda: keys(ledger, range(5, 6)), lambda: ledger.read_sync(lambda tx: tx.now)):
        with pytest.raises(LedgerError, match=r"could not be saved \(disk I/O error\). Restart"):
            look()
    assert [file for file in path.parent.iterdir() if "being-made" in file.name] == []


def test_what_sqlite_itself_does_for_another_program_is_no_harm(ledger: Ledger, path: Path) -> None:
    """A shell, or a tool that copies the ledger somewhere: they commit and empty the log."""
    file = identity_of(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        for number, words in enumerate(
            ("PRAGMA wal_checkpoint(PASSIVE)", "PRAGMA wal_checkpoint(TRUNCATE)",
             "INSERT INTO meta VALUES ('other', 'x')", "PRAGMA wal_checkpoint(RESTART)")
        ):  # fmt: skip
            assert keys(ledger, range(number, number + 1)) <= kept(path)
            other.execute(words).fetchall()
    path.touch()

    assert keys(ledger, range(10, 12)) <= kept(path)
    assert identity_of(path) == file


def overwritten_by_a_backup(path: Path) -> None:
    backup_ledger(path, path.with_name("backup.db"))


def copied_by_cp(path: Path) -> None:
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copyfile(path, path.with_name("backup.db"))


@pytest.mark.parametrize("make_backup", [overwritten_by_a_backup, copied_by_cp])
def test_a_file_that_is_overwritten_in_place_is_neither_written_nor_damaged(
    ledger: Ledger, path: Path, make_backup: LogDamage
) -> None:
    """`cp backup.db receiver.db` under a running receiver: it went on with 202."""
    keys(ledger, range(50))
    make_backup(path)
    with closing(sqlite3.connect(path)) as database:
        for number in range(200):  # the file grows, so that its former state does not fit
            write(ledger, lambda tx, n=number: put(tx, f"key {n:0500}"))  # type: ignore[misc]
        database.execute("PRAGMA wal_checkpoint(PASSIVE)")
    write(ledger, lambda tx: put(tx, "key that is only in the log"))
    shutil.copyfile(path.with_name("backup.db"), path)
    backup = path.read_bytes()

    for look in (
        lambda: keys(ledger, range(1)),
        lambda: crowd(ledger, range(CROWD)),
        lambda: ledger.read_sync(lambda tx: tx.now),
    ):
        with pytest.raises(LedgerError, match=r"was emptied or overwritten while in use. Stop"):
            look()
    ledger.close()

    assert path.read_bytes() == backup
    again = Ledger(URL.create("sqlite", database=str(path)))
    with pytest.raises(LedgerError, match=r"move receiver.db-wal and receiver.db-shm away"):
        again.open_to_write(wait_seconds=0)
    for file in path.parent.glob("receiver.db-*"):
        file.unlink()
    again.open_to_write(wait_seconds=0)
    again.close()
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_another_file_in_the_place_of_an_overwritten_one_is_read(
    ledger: Ledger, path: Path
) -> None:
    keys(ledger, range(5))
    backup_ledger(path, path.with_name("backup.db"))
    os.truncate(path, 0)
    with pytest.raises(LedgerError, match="was emptied or overwritten"):
        keys(ledger, range(5, 6))
    path.with_name("backup.db").replace(path)
    with pytest.raises(LedgerError, match="was replaced"):
        keys(ledger, range(5, 6))

    assert keys(ledger, range(6, 8)) <= kept(path)


def test_a_file_that_is_exchanged_while_we_write_is_not_judged_as_ours(
    ledger: Ledger, path: Path
) -> None:
    """A smaller file in its place was treated as ours, overwritten, until a restart."""
    elsewhere = path.with_name("elsewhere")

    def exchanged(tx: Tx) -> str:
        key = put(tx, "key lost")
        path.rename(elsewhere)
        path.write_bytes(b"")
        return key

    written = keys(ledger, range(5))
    with pytest.raises(LedgerError, match="moved away while in use"):
        write(ledger, exchanged)
    elsewhere.replace(path)

    assert written | keys(ledger, range(5, 8)) <= kept(path)


def test_an_emptied_ledger_is_not_used_as_a_new_one(ledger: Ledger, path: Path) -> None:
    keys(ledger, range(5))
    os.truncate(path, 0)
    ledger.close()
    again = Ledger(URL.create("sqlite", database=str(path)))

    for look in (again.open_to_write, again.open_readonly):
        with pytest.raises(LedgerError, match="is empty, though a ledger was in it"):
            look()
    for file in path.parent.glob("receiver.db*"):
        file.unlink()
    again.open_to_write(wait_seconds=0)
    again.close()


@pytest.mark.parametrize("harm", [delete, cut, spoil_middle])
def test_a_real_receiver_that_is_killed_afterwards_has_lost_nothing(
    start: StartReceiver, harm: LogDamage
) -> None:
    receiver = start()
    accepted = [receiver.push(f"before.{number}") for number in range(4)]
    for identity in accepted:
        receiver.ended(identity)
    harm(receiver.folder / "receiver.db")

    for number in range(4):
        answer = receiver.post(webhook_body(f"after.{number}"))
        assert answer.status_code in {202, 503}
        if answer.status_code == 202:
            accepted.append(answer.json()["delivery"])
    receiver.kill()
    receiver.start()

    assert len(accepted) > 4
    assert set(accepted) <= deliveries_in(receiver)
    assert receiver.stop(signal.SIGTERM) == 0
    said = [json.loads(line) for line in receiver.log.read_text("utf-8").splitlines()]
    (saved,) = [line for line in said if line["event"] == "ledger_log_saved"]
    assert saved["level"] == "warning"
    assert "receiver.db-wal was" in saved["sentence"]


def deliveries_in(receiver: ReceiverProcess) -> set[str]:
    listed = httpx.get(
        f"{receiver.url}/api/deliveries",
        headers={"Authorization": f"Bearer {receiver.api_token()}"},
        trust_env=False,
    )
    return {row["id"] for row in listed.json()["deliveries"]}


def test_a_backup_copied_over_a_live_ledger_is_answered_503_and_unready(
    start: StartReceiver,
) -> None:
    receiver = start()
    receiver.ended(receiver.push("1.0"))
    ledger = receiver.folder / "receiver.db"
    assert receiver.run("ledger", "backup", "backup.db").returncode == 0
    receiver.ended(receiver.push("1.1"))
    shutil.copyfile(receiver.folder / "backup.db", ledger)

    for _ in range(3):
        assert receiver.post(webhook_body("1.2")).status_code == 503
    ready = httpx.get(f"{receiver.url}/readyz", trust_env=False)
    assert ready.status_code == 503
    assert receiver.stop() == 0
    refused = receiver.run("serve")
    assert refused.returncode == 4
    assert "move receiver.db-wal and receiver.db-shm away" in refused.stderr
    assert "Traceback" not in refused.stderr + receiver.log.read_text("utf-8")


def test_a_log_that_sqlite_would_ignore_is_named_at_the_start(
    start: StartReceiver, tmp_path: Path
) -> None:
    """The next start ended with a traceback."""
    receiver = start()
    receiver.ended(receiver.push("1.0"))
    receiver.kill()
    ledger = receiver.folder / "receiver.db"
    with wal_path(ledger).open("r+b") as log:
        log.truncate(0)
        log.truncate(50_000)

    receiver.start()

    assert receiver.ended(receiver.push("2.0"))["state"] == "done"
    receiver.stop()
    said = [json.loads(line) for line in receiver.log.read_text("utf-8").splitlines()]
    (named,) = [line for line in said if line["event"] == "ledger_log_unreadable"]
    assert "receiver catch-up --since" in named["sentence"]


@pytest.mark.parametrize("table", ["alembic_version", "gates"])
def test_a_damaged_ledger_ends_the_start_in_a_sentence(start: StartReceiver, table: str) -> None:
    receiver = start()
    receiver.ended(receiver.push("1.0"))
    receiver.stop()
    ledger = receiver.folder / "receiver.db"
    with closing(sqlite3.connect(ledger)) as database:
        (page,) = database.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = ?", [table]
        ).fetchone()
    with ledger.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)

    refused = receiver.run("serve")

    assert refused.returncode == 4, refused.stderr
    assert "the file is damaged; stop the receiver and put a backup" in refused.stderr
    assert "Traceback" not in refused.stderr

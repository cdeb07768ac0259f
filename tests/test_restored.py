"""A backup put in the place of the ledger: the old one's log must not pass into it."""

import sqlite3
from pathlib import Path

import pytest

from tests.conftest import StartReceiver
from tests.running import ReceiverProcess, until, webhook_body


@pytest.fixture
def backed_up(start: StartReceiver) -> ReceiverProcess:
    """A receiver with a backup beside its ledger, and with work done since that is in its log."""
    receiver = start()
    receiver.ended(receiver.push("in-the-backup"))
    assert receiver.run("ledger", "backup", "backup.db").returncode == 0
    for number in range(20):
        receiver.ended(receiver.push(f"since.{number}"))
    assert log_of(receiver).stat().st_size
    return receiver


def ledger_of(receiver: ReceiverProcess) -> Path:
    return receiver.folder / "receiver.db"


def log_of(receiver: ReceiverProcess) -> Path:
    return receiver.folder / "receiver.db-wal"


def tags(receiver: ReceiverProcess) -> list[str]:
    with sqlite3.connect(ledger_of(receiver)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = database.execute("SELECT tag FROM deliveries ORDER BY id").fetchall()
    return [row[0] for row in rows]


def test_restored_under_a_running_receiver_it_goes_on_with_the_backup(
    backed_up: ReceiverProcess,
) -> None:
    """The log was played into the backup: it was damaged, and what was answered 202 was lost."""
    (backed_up.folder / "backup.db").replace(ledger_of(backed_up))

    until(lambda: backed_up.post(webhook_body("after")).status_code == 202)
    backed_up.stop()

    assert tags(backed_up) == ["in-the-backup", "after"]


def test_restored_where_a_receiver_was_killed_it_says_what_to_do(
    backed_up: ReceiverProcess,
) -> None:
    backed_up.kill()
    (backed_up.folder / "backup.db").replace(ledger_of(backed_up))

    refused = backed_up.run("serve")

    assert refused.returncode == 4
    assert "delete receiver.db-wal" in refused.stderr
    log_of(backed_up).unlink()
    (backed_up.folder / "receiver.db-shm").unlink()
    backed_up.start()
    backed_up.push("after")
    backed_up.stop()
    assert tags(backed_up) == ["in-the-backup", "after"]


def test_a_ledger_moved_with_its_log_is_taken_as_it_is(backed_up: ReceiverProcess) -> None:
    backed_up.kill()
    for path in (ledger_of(backed_up), log_of(backed_up)):
        path.write_bytes(path.read_bytes())  # the same file
        copy = path.with_name("copy")
        copy.write_bytes(path.read_bytes())
        copy.replace(path)  # another file
    (backed_up.folder / "receiver.db-shm").unlink()
    (backed_up.folder / "receiver.db.lock").unlink()

    backed_up.start()
    backed_up.stop()

    assert len(tags(backed_up)) == 21

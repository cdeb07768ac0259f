"""A backup put in the place of the ledger: the old one's log must not pass into it."""

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import StartReceiver
from tests.support.receiver_process import ReceiverProcess, until, webhook_body


@pytest.fixture
def backed_up(start: StartReceiver) -> ReceiverProcess:
    """A receiver with a backup beside its ledger, and with work done since that is in its log."""
    receiver = start()
    receiver.ended(receiver.push("in-the-backup"))
    assert receiver.run("ledger", "backup", "backup.db").returncode == 0
    for number in range(6):
        receiver.ended(receiver.push(f"since.{number}"))
    assert wal_path(receiver).stat().st_size
    return receiver


def ledger_of(receiver: ReceiverProcess) -> Path:
    return receiver.folder / "receiver.db"


def wal_path(receiver: ReceiverProcess) -> Path:
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


@pytest.mark.parametrize(
    ("put", "command"),
    [
        (Path.replace, ("serve",)),
        (shutil.copyfile, ("serve",)),
        (Path.replace, ("deliveries",)),
        (shutil.copyfile, ("pause", "group/project")),
        (Path.replace, ("ledger", "backup", "another.db")),
        (shutil.copyfile, ("ledger", "copy", "sqlite:///receiver.db", "sqlite:///copy.db")),
    ],
)
def test_restored_where_a_receiver_was_killed_every_command_says_what_to_do(
    backed_up: ReceiverProcess, put: Callable[[Path, Path], object], command: tuple[str, ...]
) -> None:
    """The log was played into the backup by `cp`, or by any command but `serve`."""
    backed_up.kill()
    put(backed_up.folder / "backup.db", ledger_of(backed_up))

    refused = backed_up.run(*command)

    assert refused.returncode == 4, refused.stderr
    assert "move receiver.db-wal and receiver.db-shm away" in refused.stderr
    wal_path(backed_up).unlink()
    (backed_up.folder / "receiver.db-shm").unlink()
    backed_up.start()
    backed_up.push("after")
    backed_up.stop()
    assert tags(backed_up) == ["in-the-backup", "after"]


def test_a_second_restore_is_refused_again(backed_up: ReceiverProcess) -> None:
    """The ledger that the receiver went on with has another stamp than its backup."""
    shutil.copyfile(backed_up.folder / "backup.db", backed_up.folder / "again.db")
    (backed_up.folder / "backup.db").replace(ledger_of(backed_up))
    until(lambda: backed_up.post(webhook_body("after")).status_code == 202)
    backed_up.kill()
    shutil.copyfile(backed_up.folder / "again.db", ledger_of(backed_up))

    assert backed_up.run("serve").returncode == 4


def test_a_copy_of_the_file_from_before_the_start_is_refused(
    start: StartReceiver,
) -> None:
    """A copy that somebody made by `cp` while no receiver ran is a backup, too."""
    receiver = start()
    receiver.ended(receiver.push("in-the-backup"))
    receiver.stop()
    shutil.copyfile(ledger_of(receiver), receiver.folder / "backup.db")
    receiver.start()
    receiver.ended(receiver.push("since"))
    receiver.kill()
    shutil.copyfile(receiver.folder / "backup.db", ledger_of(receiver))

    assert receiver.run("deliveries").returncode == 4


def test_a_killed_receiver_goes_on_with_its_log(backed_up: ReceiverProcess) -> None:
    backed_up.kill()
    assert wal_path(backed_up).stat().st_size

    assert "since.5" in backed_up.run("deliveries").stdout
    backed_up.start()
    backed_up.stop()

    assert len(tags(backed_up)) == 7


def test_a_folder_moved_with_all_its_files_is_taken_as_it_is(
    backed_up: ReceiverProcess,
) -> None:
    """A restored volume: each file is another than the lock was written for."""
    backed_up.kill()
    for path in backed_up.folder.glob("receiver.db*"):
        copy = path.with_name("copy")
        shutil.copyfile(path, copy)
        copy.replace(path)

    backed_up.start()
    backed_up.stop()

    assert len(tags(backed_up)) == 7


def test_a_ledger_moved_without_its_lock_is_taken_as_it_is(backed_up: ReceiverProcess) -> None:
    backed_up.kill()
    for path in (ledger_of(backed_up), wal_path(backed_up)):
        copy = path.with_name("copy")
        shutil.copyfile(path, copy)
        copy.replace(path)
    (backed_up.folder / "receiver.db-shm").unlink()
    (backed_up.folder / "receiver.db.lock").unlink()

    backed_up.start()
    backed_up.stop()

    assert len(tags(backed_up)) == 7

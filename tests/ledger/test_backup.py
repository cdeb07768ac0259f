"""A backup of a live SQLite ledger is whole, or not there."""

import os
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from receiver.errors import LedgerError
from receiver.ledger import copy as backups
from receiver.ledger.copy import PART, backup_ledger
from receiver.ledger.ledger import Ledger
from receiver.sandbox.edgegap import EdgegapSandbox
from tests.conftest import StartReceiver
from tests.support.commands import Commands, commands_in
from tests.support.postgres import plain
from tests.support.receiver_process import ReceiverProcess, created_once, until
from tests.support.storm import Senders

WITHOUT_REGISTRATION = """SELECT id FROM deliveries WHERE verdict = 'accepted' AND id NOT IN
 (SELECT delivery_id FROM led_to JOIN registrations ON registrations.id = registration_id)"""


def ids_in(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute(WITHOUT_REGISTRATION).fetchall() == []
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        return {row[0] for row in connection.execute("SELECT id FROM deliveries")}


def test_a_backup_taken_under_writes_is_whole_and_a_receiver_goes_on_from_it(
    start: StartReceiver, sandbox: EdgegapSandbox, tmp_path: Path
) -> None:
    receiver = start()
    copy = tmp_path / "copy.db"
    senders = Senders(lambda: [receiver.url], at_once=4, pause=0.01).start()
    until(lambda: len(senders.sent.accepted) > 30)
    before = set(senders.sent.accepted)

    ended = receiver.run("ledger", "backup", str(copy))
    meanwhile = len(senders.sent.accepted)
    answer = senders.stop()

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"{copy}: {copy.stat().st_size} bytes, checked.\n"
    kept = ids_in(copy)
    assert before <= kept
    assert meanwhile > len(before)
    assert answer.answers.keys() == {"202"}
    assert list(tmp_path.glob("copy.db*")) == [copy]
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    receiver.kill()
    for leftover in receiver.folder.glob("receiver.db*"):
        leftover.unlink()
    shutil.copy(copy, receiver.folder / "receiver.db")
    receiver.start()
    for delivery in sorted(kept)[:5] + sorted(kept)[-5:]:
        assert receiver.ended(delivery)["state"] == "done"
        assert created_once(sandbox, answer.accepted[delivery])


def test_a_backup_replaces_an_earlier_one_only_if_asked_to_and_never_the_ledger(
    tmp_path: Path,
) -> None:
    commands = commands_in(tmp_path)
    delivery = commands.push()["id"]
    there = tmp_path / "there"
    there.touch(0o644)

    refused = commands.run("ledger", "backup", str(there))

    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "already exists: name a new file, or use --overwrite" in refused.stderr
    assert there.read_bytes() == b""
    for _ in ("empty", "an earlier backup"):
        there.chmod(0o644)
        assert commands.run("ledger", "backup", "--overwrite", str(there)).exit_code == 0
        assert ids_in(there) == {delivery}
        assert stat.S_IMODE(there.stat().st_mode) == 0o600
    for own in ("receiver.db", "receiver.db-wal", "receiver.db.lock"):
        assert commands.run("ledger", "backup", "--overwrite", own).exit_code == 4, own
    assert len(commands.rows("deliveries", "--json")) == 1


def test_a_backup_overwrites_no_file_of_another_kind(tmp_path: Path) -> None:
    commands = commands_in(tmp_path)
    commands.push()
    before = (tmp_path / "receiver.toml").read_bytes()
    (tmp_path / "text").write_text("A=1\n", "utf-8")
    with closing(sqlite3.connect(tmp_path / "foreign.db")) as connection:
        connection.execute("CREATE TABLE anything (a)")
    shutil.copy(tmp_path / "receiver.db", tmp_path / "other-ledger.db")
    os.mkfifo(tmp_path / "pipe")

    for name in ("receiver.toml", "text", "foreign.db", "other-ledger.db", "pipe"):
        refused = commands.run("ledger", "backup", "--overwrite", name)
        assert (refused.exit_code, refused.stdout) == (4, ""), name
        assert f"{name} is no backup of a ledger, so it is kept; name" in refused.stderr
        assert refused.stderr.count("\n") == 1
    assert (tmp_path / "receiver.toml").read_bytes() == before
    assert (tmp_path / "text").read_text("utf-8") == "A=1\n"


def test_a_backup_that_cannot_be_written_leaves_nothing(
    receiver: ReceiverProcess, tmp_path: Path
) -> None:
    ledger = receiver.folder / "receiver.db"

    with pytest.raises(LedgerError, match="nowhere is no folder; make it"):
        backup_ledger(ledger, tmp_path / "nowhere" / "copy.db")
    (tmp_path / "no-ledger").write_bytes(b"nothing of the kind" * 500)
    with pytest.raises(LedgerError, match=r"the backup of .* failed: .* look whether"):
        backup_ledger(tmp_path / "no-ledger", tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_a_ledger_on_postgresql_is_left_to_pg_dump(
    receiver: ReceiverProcess, postgres_url: URL, tmp_path: Path
) -> None:
    made = Ledger(postgres_url)
    made.open_to_write()
    made.close()

    url = plain(postgres_url)
    ended = receiver.run("ledger", "backup", str(tmp_path / "copy"), DATABASE_URL=url)

    assert ended.returncode == 2
    assert "pg_dump" in ended.stderr


def test_a_backup_that_was_cut_off_is_no_backup_and_the_next_one_is(
    receiver: ReceiverProcess, tmp_path: Path
) -> None:
    delivery = receiver.push("1.0")
    cut_off, under_way = (tmp_path / f"copy.db{PART}{some * 8}" for some in "ab")
    anothers = tmp_path / "copy.db.2025.tar.part1"
    for part in (cut_off, under_way, anothers):
        part.write_bytes(b"the half of one")
    for part in (cut_off, anothers):
        os.utime(part, (0, 0))

    ended = receiver.run("ledger", "backup", str(tmp_path / "copy.db"))

    assert ended.returncode == 0, ended.stderr
    assert ids_in(tmp_path / "copy.db") == {delivery}
    assert not cut_off.exists()
    assert under_way.exists()
    assert anothers.exists()


def test_a_ledger_in_a_folder_with_an_odd_name_is_backed_up(tmp_path: Path) -> None:
    folder = tmp_path / "50%20 #1"
    folder.mkdir()
    ledger = Ledger(URL.create("sqlite", database=str(folder / "receiver.db")))
    ledger.open_to_write()
    ledger.close()

    assert backup_ledger(folder / "receiver.db", tmp_path / "copy.db") > 0
    assert ids_in(tmp_path / "copy.db") == set()


def test_of_two_backups_into_one_name_one_is_made_and_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both wrote to one file: what was reported as checked was at times no database."""
    ledger = Ledger(URL.create("sqlite", database=str(tmp_path / "receiver.db")))
    ledger.open_to_write()
    ledger.close()
    copy = tmp_path / "copy.db"
    give_name = backups._give_name

    def with_another_begun(part: Path, copy: Path) -> None:
        monkeypatch.setattr(
            backups, "_give_name", lambda part, copy: (_ for _ in ()).throw(OSError)
        )
        with pytest.raises(LedgerError):
            backup_ledger(tmp_path / "receiver.db", copy)
        give_name(part, copy)

    monkeypatch.setattr(backups, "_give_name", with_another_begun)

    size = backup_ledger(tmp_path / "receiver.db", copy)

    assert size == copy.stat().st_size
    assert ids_in(copy) == set()


@pytest.mark.parametrize("ending", ["-journal", "-wal", "-shm", ".lock"])
def test_a_backup_takes_no_name_that_is_the_ledgers_own(tmp_path: Path, ending: str) -> None:
    """Named as a journal it was played back into the ledger, or deleted, at the next opening."""
    ledger = Ledger(URL.create("sqlite", database=str(tmp_path / "receiver.db")))
    ledger.open_to_write()
    ledger.close()

    (tmp_path / "link.db").symlink_to("receiver.db")

    for path in (tmp_path / "receiver.db", tmp_path / "link.db"):
        with pytest.raises(LedgerError, match="name another"):
            backup_ledger(path, tmp_path / f"receiver.db{ending}")
    assert backup_ledger(tmp_path / "receiver.db", tmp_path / "receiver.db-2026-11-26") > 0


def test_a_name_that_no_file_can_have_is_refused(tmp_path: Path, commands: Commands) -> None:
    ledger = Ledger(URL.create("sqlite", database=str(commands.folder / "receiver.db")))
    ledger.open_to_write()
    ledger.close()

    for arguments, url in (
        (["ledger", "backup", "x" * 300], None),
        (["deliveries"], f"sqlite:///{'x' * 300}"),
    ):
        done = commands.run(*arguments, DATABASE_URL=url)
        assert done.exit_code == 4, done.output
        assert "name too long" in done.output

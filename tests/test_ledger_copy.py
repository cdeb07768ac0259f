"""Copies: a backup of a live SQLite ledger is whole, and a move to PostgreSQL takes everything."""

import asyncio
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.engine import URL

from receiver.edgegap.answers import Answer
from receiver.errors import LedgerError
from receiver.ledger.copying import BITE, COPIED, back_up, copy_ledger
from receiver.ledger.cursors import begin_cursors
from receiver.ledger.gates import close_token_gate
from receiver.ledger.ledger import Ledger
from receiver.ledger.notices import tell
from receiver.ledger.pauses import ALL, pause
from receiver.ledger.targets import note_retirement
from receiver.ledger.transactions import Tx
from receiver.notices import Happening, Notice
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.secret import Secret
from tests.at_work import done, one_claim, pushed, settled
from tests.conftest import StartReceiver
from tests.postgres import plain, rows
from tests.running import ReceiverProcess, created_once, until
from tests.storm import Senders


def ids_in(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        return {row[0] for row in connection.execute("SELECT id FROM deliveries")}


def test_a_backup_taken_under_writes_is_whole_and_a_receiver_goes_on_from_it(
    start: StartReceiver, sandbox: EdgegapSandbox, tmp_path: Path
) -> None:
    receiver = start()
    copy = tmp_path / "copy.db"
    senders = Senders(lambda: [receiver.url], at_once=4, pause=0.01).start()
    until(lambda: len(senders.told.accepted) > 30)
    before = set(senders.told.accepted)

    ended = receiver.run("ledger", "backup", str(copy))
    told = senders.stop()

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"{copy}: {copy.stat().st_size} bytes, checked.\n"
    kept = ids_in(copy)
    assert before <= kept
    receiver.kill()
    for leftover in receiver.folder.glob("receiver.db*"):
        leftover.unlink()
    shutil.copy(copy, receiver.folder / "receiver.db")
    receiver.start()
    for delivery in sorted(kept)[:5] + sorted(kept)[-5:]:
        assert receiver.ended(delivery)["state"] == "done"
        assert created_once(sandbox, told.accepted[delivery])


def test_a_backup_writes_over_nothing(receiver: ReceiverProcess, tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_text("mine", "utf-8")

    ended = receiver.run("ledger", "backup", str(there))

    assert (ended.returncode, ended.stdout) == (4, "")
    assert "there already" in ended.stderr
    assert there.read_text("utf-8") == "mine"


def test_a_backup_that_cannot_be_written_leaves_nothing(
    receiver: ReceiverProcess, tmp_path: Path
) -> None:
    ledger = receiver.folder / "receiver.db"

    with pytest.raises(LedgerError, match="the backup failed"):
        back_up(ledger, tmp_path / "nowhere" / "copy.db")
    (tmp_path / "no-ledger").write_bytes(b"nothing of the kind" * 500)
    with pytest.raises(LedgerError, match="the backup failed"):
        back_up(tmp_path / "no-ledger", tmp_path / "copy.db")
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


def _everything(tx: Tx) -> None:
    """Write something into each table; more than a bite of deliveries."""
    for number in range(BITE + 100):
        pushed(tx, f"1.{number}")
    team = Notice(name="team", url=Secret("json://nowhere"))
    tell(tx, [team], Happening.CREATED, "made: ünïcode")
    begin_cursors(tx, ["studio/game-server"])
    close_token_gate(tx, "refused")
    pause(tx, ALL)
    note_retirement(tx, "my-game", "0.1", retired=True, why="old")


def filled(path: Path) -> Ledger:
    ledger = Ledger(URL.create("sqlite", database=str(path)))
    ledger.open_to_write(wait_seconds=0)
    asyncio.run(ledger.write(lambda tx: pushed(tx, "0.9")))
    asyncio.run(ledger.write(lambda tx: tx.run("UPDATE registrations SET overwritten = true")))
    calls = (Answer("POST", "/v1/x", 200, message="made"), Answer("GET", "/v1/x", None))
    assert settled(ledger, one_claim(ledger), done(digest="sha256:" + "a" * 64, calls=calls))
    asyncio.run(ledger.write(_everything))
    return ledger


def content(ledger: Ledger) -> dict[str, list[tuple[object, ...]]]:
    def read(tx: Tx) -> dict[str, list[tuple[object, ...]]]:
        return {
            table.name: [
                tuple(row)
                for row in tx.connection.execute(select(table).order_by(*table.primary_key))
            ]
            for table in COPIED
        }

    return ledger.read_now(read)


def test_a_ledger_moves_to_postgresql_whole_and_a_receiver_goes_on_there(
    start: StartReceiver, sandbox: EdgegapSandbox, tmp_path: Path, postgres_url: URL
) -> None:
    receiver = start()
    sandbox.token_state = "refused"  # so that something is left to do
    waiting = receiver.push("2.0")
    until(lambda: receiver.story(waiting)["registrations"][0]["state"] == "waiting")
    assert receiver.stop() == 0
    sandbox.token_state = "good"
    source = f"sqlite:///{receiver.folder / 'receiver.db'}"

    ended = receiver.run("ledger", "copy", source, plain(postgres_url))

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith("rows copied, counts agree.\n")
    assert "rows" in ended.stderr  # the progress bar's label: it is no terminal
    receiver.environment["DATABASE_URL"] = plain(postgres_url)
    receiver.start()
    assert receiver.ended(waiting)["outcome"] == "created"
    assert receiver.ended(receiver.push("2.1"))["outcome"] == "created"
    assert len(rows(postgres_url, "SELECT id FROM deliveries")) == 2


@pytest.mark.parametrize("back", [False, True])
def test_every_row_of_every_table_is_copied_as_it_is(
    tmp_path: Path, postgres_url: URL, back: bool
) -> None:
    source, target = filled(tmp_path / "from.db"), Ledger(postgres_url)
    target.open_to_write()
    moved: list[int] = []

    copied = asyncio.run(copy_ledger(source, target, moved.append))
    if back:
        again = Ledger(URL.create("sqlite", database=str(tmp_path / "again.db")))
        again.open_to_write(wait_seconds=0)
        assert asyncio.run(copy_ledger(target, again, moved.append)) == copied
        assert content(again) == content(source)
        again.close()

    there = content(target)
    assert all(there.values())
    assert there == content(source)
    assert copied == sum(len(table) for table in there.values())
    assert sum(moved) == copied * (1 + back)
    assert max(moved) <= BITE
    source.close()
    target.close()


def test_nothing_is_copied_over_what_is_there(
    receiver: ReceiverProcess, tmp_path: Path, postgres_url: URL
) -> None:
    source = filled(tmp_path / "from.db")
    source.close()
    target = Ledger(postgres_url)
    target.open_to_write()
    asyncio.run(target.write(lambda tx: pause(tx, ALL)))
    target.close()

    url = f"sqlite:///{tmp_path / 'from.db'}"
    ended = receiver.run("ledger", "copy", url, plain(postgres_url))

    assert (ended.returncode, ended.stdout) == (4, "")
    assert "not empty: its pauses hold rows" in ended.stderr
    assert rows(postgres_url, "SELECT id FROM deliveries") == []


def test_a_copy_that_lost_a_row_is_told(tmp_path: Path, postgres_url: URL) -> None:
    source, target = filled(tmp_path / "from.db"), Ledger(postgres_url)
    target.open_to_write()
    asyncio.run(
        target.write(
            lambda tx: (
                tx.run("CREATE RULE thief AS ON INSERT TO led_to DO INSTEAD NOTHING").rowcount
            )
        )
    )

    with pytest.raises(LedgerError, match="led_to: 601 rows copied, 0 are there"):
        asyncio.run(copy_ledger(source, target, lambda _: None))
    source.close()
    target.close()


def test_a_ledger_that_a_server_writes_is_not_copied(
    receiver: ReceiverProcess, tmp_path: Path
) -> None:
    source = f"sqlite:///{receiver.folder / 'receiver.db'}"
    ended = receiver.run("ledger", "copy", source, f"sqlite:///{tmp_path / 'to.db'}")

    assert (ended.returncode, ended.stdout) == (4, "")
    assert "another receiver holds" in ended.stderr


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "nonsense"])
def test_what_is_no_ledgers_url_is_wrong_usage(receiver: ReceiverProcess, url: str) -> None:
    ended = receiver.run("ledger", "copy", url, url)

    assert ended.returncode == 2
    assert "sqlite:///path" in ended.stderr


def test_a_source_that_is_not_there_is_told(receiver: ReceiverProcess, tmp_path: Path) -> None:
    nowhere = f"sqlite:///{tmp_path / 'nowhere.db'}"
    ended = receiver.run("ledger", "copy", nowhere, f"sqlite:///{tmp_path / 'to.db'}")

    assert ended.returncode == 4
    assert "there is no ledger at" in ended.stderr
    assert not (tmp_path / "to.db").exists()

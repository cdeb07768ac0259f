"""A move of the ledger to another database takes everything, or nothing."""

import asyncio
import os
import pty
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import insert, select
from sqlalchemy.engine import URL

from receiver.edgegap.responses import Answer
from receiver.errors import LedgerError
from receiver.ledger.copy import BATCH_ROWS, COPIED, copy_ledger
from receiver.ledger.cursors import begin_cursors
from receiver.ledger.deletions import note_deletion
from receiver.ledger.gates import ALL, close_token_gate, pause
from receiver.ledger.ledger import Ledger
from receiver.ledger.links import adopt_keys, count_refused_links, revoke, use_links
from receiver.ledger.outbox import enqueue
from receiver.ledger.schema import approvals, bodies, sent_settings, trials
from receiver.ledger.transaction import Tx
from receiver.notifications.destinations import Notice, NotificationEvent
from receiver.rules.rule import Mode
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.secret import Secret
from receiver.signing import LinkFault
from tests.conftest import StartReceiver
from tests.support.ledger_work import done, one_claim, pushed, settled
from tests.support.postgres import plain, rows
from tests.support.receiver_process import ReceiverProcess, until


def _everything(tx: Tx) -> None:
    """Write something into each table; more than a bite of deliveries."""
    for number in range(BATCH_ROWS + 100):
        pushed(tx, f"1.{number}")
    team = Notice(name="team", url=Secret("json://nowhere"))
    enqueue(tx, [team], NotificationEvent.CREATED, "made: ünïcode")
    begin_cursors(tx, ["studio/game-server"])
    close_token_gate(tx, "refused")
    pause(tx, ALL)
    note_deletion(tx, "my-game", "0.1", deleted=True, why="old")
    count_refused_links(tx, {(LinkFault.SIGNATURE, "studio/game-server"): 2})
    adopt_keys(tx, [{"salt": "fingerprint"}])
    use_links(tx, [("studio/game-server", "fingerprint")])
    revoke(tx, "token", expires_at=tx.now + 1)
    place = {"app": "my-game", "repository": "studio/game-server", "tag": "1.0"}
    trial = {**place, "id": "x1", "registration_id": "r1", "version": "1.0", "at": "1,2"}
    approval = {**place, "channel": "prod", "at": tx.now, "approver": "anna"}
    sent = {"app": "my-game", "version": "1.0", "registration_id": "r1", "at": 1, "settings": "{}"}
    body = {"id": "d1", "headers": "host", "body": "{}"}
    tx.connection.execute(insert(bodies).values(body))
    tx.connection.execute(insert(trials).values(trial))
    tx.connection.execute(insert(approvals).values(approval))
    tx.connection.execute(insert(sent_settings).values(sent))


def nothing(total: int, rows: int) -> None:
    """Show no progress."""


def sqlite(path: Path) -> URL:
    return URL.create("sqlite", database=str(path))


def fill(url: URL) -> URL:
    ledger = Ledger(url)
    ledger.open_to_write(wait_seconds=0)
    asyncio.run(ledger.write(lambda tx: pushed(tx, "0.9")))
    asyncio.run(ledger.write(lambda tx: tx.run("UPDATE registrations SET overwritten = true")))
    calls = (Answer("POST", "/v1/x", 200, message="made"), Answer("GET", "/v1/x", None))
    assert settled(ledger, one_claim(ledger), done(digest="sha256:" + "a" * 64, calls=calls))
    moving = partial(pushed, tag="0.9", version="staging", mode=Mode.CHANNEL)
    asyncio.run(ledger.write(moving))
    assert settled(ledger, one_claim(ledger), done())
    asyncio.run(ledger.write(_everything))
    ledger.close()
    return url


def filled(path: Path) -> URL:
    return fill(sqlite(path))


def content(url: URL) -> dict[str, list[tuple[object, ...]]]:
    def read(tx: Tx) -> dict[str, list[tuple[object, ...]]]:
        return {
            table.name: [
                tuple(row)
                for row in tx.connection.execute(select(table).order_by(*table.primary_key))
            ]
            for table in COPIED
        }

    ledger = Ledger(url)
    ledger.open_readonly()
    try:
        return ledger.read_sync(read)
    finally:
        ledger.close()


def test_a_ledger_moves_to_postgresql_whole_and_a_receiver_goes_on_there(
    start: StartReceiver, sandbox: EdgegapSandbox, tmp_path: Path, postgres_url: URL
) -> None:
    receiver = start()
    sandbox.token_state = "refused"  # so that something is left to do
    waiting = receiver.push("2.0")
    until(lambda: receiver.details(waiting)["registrations"][0]["state"] == "waiting")
    assert receiver.stop() == 0
    sandbox.token_state = "good"
    source = f"sqlite:///{receiver.folder / 'receiver.db'}"

    ended = receiver.run("ledger", "copy", source, plain(postgres_url))

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith("rows copied, counts agree.\n")
    assert ended.stderr == ""  # no bar where no terminal shows it
    receiver.environment["DATABASE_URL"] = plain(postgres_url)
    receiver.start()
    assert receiver.ended(waiting)["outcome"] == "created"
    assert receiver.ended(receiver.push("2.1"))["outcome"] == "created"
    assert len(rows(postgres_url, "SELECT id FROM deliveries")) == 2


@pytest.mark.parametrize("back", [False, True])
def test_every_row_of_every_table_is_copied_as_it_is(
    tmp_path: Path, postgres_url: URL, back: bool
) -> None:
    source, target = filled(tmp_path / "from.db"), postgres_url
    moved: list[tuple[int, int]] = []

    copied = copy_ledger(source, target, lambda *counts: moved.append(counts))
    if back:
        again = sqlite(tmp_path / "again.db")
        assert copy_ledger(target, again, lambda *counts: moved.append(counts)) == copied
        assert content(again) == content(source)

    there = content(target)
    assert all(there.values())
    assert there == content(source)
    assert copied == sum(len(table) for table in there.values())
    assert sum(rows for _, rows in moved) == copied * (1 + back)
    assert {of for of, _ in moved} == {copied}
    assert max(rows for _, rows in moved) <= BATCH_ROWS


def test_nothing_is_copied_over_what_is_there(
    receiver: ReceiverProcess, tmp_path: Path, postgres_url: URL
) -> None:
    filled(tmp_path / "from.db")
    target = Ledger(postgres_url)
    target.open_to_write()
    asyncio.run(target.write(lambda tx: pause(tx, ALL)))
    target.close()

    url = f"sqlite:///{tmp_path / 'from.db'}"
    ended = receiver.run("ledger", "copy", url, plain(postgres_url))

    assert (ended.returncode, ended.stdout) == (4, "")
    assert "not empty: its pauses hold rows" in ended.stderr
    assert rows(postgres_url, "SELECT id FROM deliveries") == []


def test_a_ledger_is_not_copied_into_itself(tmp_path: Path, postgres_url: URL) -> None:
    """It said to stop the other receiver that holds it."""
    path = tmp_path / "receiver.db"
    fill(sqlite(path))
    (tmp_path / "link.db").symlink_to(path)
    for source, target in (
        (sqlite(path), sqlite(path)),
        (sqlite(path), sqlite(tmp_path / "link.db")),
        (postgres_url, postgres_url),
    ):
        with pytest.raises(LedgerError, match="one ledger"):
            copy_ledger(source, target, nothing)


def test_a_terminal_is_shown_how_far_it_is(tmp_path: Path) -> None:
    source, target = fill(sqlite(tmp_path / "from.db")), sqlite(tmp_path / "to.db")
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "receiver", "ledger", "copy", str(source), str(target)]

    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=its, text=True, check=True)

    os.close(its)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert "counts agree" in done.stdout
    assert "rows  [" in shown
    assert "100%" in shown


def test_a_copy_in_a_file_is_its_owners_alone(tmp_path: Path) -> None:
    copy_ledger(fill(sqlite(tmp_path / "from.db")), sqlite(tmp_path / "to.db"), nothing)

    assert stat.S_IMODE((tmp_path / "to.db").stat().st_mode) == 0o600


def test_a_copy_that_lost_a_row_is_refused(tmp_path: Path, postgres_url: URL) -> None:
    target = Ledger(postgres_url)
    target.open_to_write()
    target.close()
    with psycopg.connect(plain(postgres_url)) as thief:
        thief.execute("CREATE RULE thief AS ON INSERT TO led_to DO INSTEAD NOTHING")

    with pytest.raises(LedgerError, match="led_to: 602 rows copied, 0 are there"):
        copy_ledger(filled(tmp_path / "from.db"), postgres_url, nothing)


def test_a_ledger_that_a_server_writes_is_not_copied(
    receiver: ReceiverProcess, tmp_path: Path
) -> None:
    source = f"sqlite:///{receiver.folder / 'receiver.db'}"
    ended = receiver.run("ledger", "copy", source, f"sqlite:///{tmp_path / 'to.db'}")

    assert (ended.returncode, ended.stdout) == (4, "")
    assert "another receiver holds the source" in ended.stderr
    assert "stop it first" in ended.stderr
    assert not (tmp_path / "to.db").exists()


@pytest.mark.parametrize("url", ["mysql://x/y", "sqlite://", "nonsense"])
def test_what_is_no_ledgers_url_is_wrong_usage(receiver: ReceiverProcess, url: str) -> None:
    ended = receiver.run("ledger", "copy", url, url)

    assert ended.returncode == 2
    assert "sqlite:///path" in ended.stderr


def test_a_copy_of_a_missing_source_is_refused(receiver: ReceiverProcess, tmp_path: Path) -> None:
    nowhere = f"sqlite:///{tmp_path / 'nowhere.db'}"
    ended = receiver.run("ledger", "copy", nowhere, f"sqlite:///{tmp_path / 'to.db'}")

    assert ended.returncode == 4
    assert "there is no ledger at" in ended.stderr
    assert not (tmp_path / "to.db").exists()


def test_a_url_that_is_none_is_named(receiver: ReceiverProcess, tmp_path: Path) -> None:
    ended = receiver.run("ledger", "copy", f"sqlite:///{tmp_path / 'from.db'}", "to.db")

    assert ended.returncode == 2
    assert "TARGET: it is not a database URL: write sqlite:///path or" in ended.stderr

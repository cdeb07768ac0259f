"""A copy of a ledger in use is refused, and an unfinished one is opened by nobody."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import URL

from receiver.errors import LedgerError, LedgerInUse, LedgerSchemaError
from receiver.ledger import engine as engines
from receiver.ledger.copy import COPIED, copy_ledger
from receiver.ledger.ledger import Ledger
from receiver.ledger.migrate import SERVES
from receiver.ledger.schema import SCHEMA
from receiver.ledger.transaction import Tx
from receiver.sandbox.edgegap import EdgegapSandbox
from tests.conftest import StartReceiver
from tests.ledger.test_copy import content, filled, nothing, sqlite
from tests.support.ledger_work import one_claim, pushed
from tests.support.postgres import plain, rows
from tests.support.receiver_process import ReceiverProcess, until

UNFINISHED = "a `receiver ledger copy` into this ledger has not ended"
CUT_ALL = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE pid <> pg_backend_pid() AND datname = current_database()"""
WAITING = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = %s"
OTHERS = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> %s"
A_GATE = b"""CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
 'BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NEW; END';
CREATE TRIGGER wait BEFORE INSERT ON led_to FOR EACH ROW EXECUTE FUNCTION wait()"""


def opened(url: URL, work: Callable[[Tx], object] | None = None) -> URL:
    """Make a ledger there, and do something to it."""
    ledger = Ledger(url)
    try:
        ledger.open_to_write(wait_seconds=0)
        if work is not None:
            asyncio.run(ledger.write(work))
    finally:
        ledger.close()
    return url


def test_a_ledger_that_replicas_work_on_is_copied_only_after_they_are_stopped(
    start: StartReceiver, sandbox: EdgegapSandbox, postgres_url: URL, tmp_path: Path
) -> None:
    receiver = start(environment={"DATABASE_URL": plain(postgres_url)})
    sandbox.token_state = "refused"  # behind a closed gate it is there, too
    waiting = receiver.push("1.0")
    until(lambda: receiver.details(waiting)["registrations"][0]["state"] == "waiting")
    with psycopg.connect(plain(postgres_url)) as connection:
        connection.execute("UPDATE replicas SET seen_at = 0")
    until(lambda: rows(postgres_url, "SELECT 1 FROM replicas WHERE seen_at > 0"))
    target = tmp_path / "to.db"
    copy = ("ledger", "copy", plain(postgres_url), f"sqlite:///{target}")

    refused = receiver.run(*copy)
    there = target.exists()
    assert receiver.stop() == 0
    ended = receiver.run(*copy)

    assert (refused.returncode, refused.stdout) == (4, "")
    assert "receivers work on the source: stop them all first" in refused.stderr
    assert not there
    assert ended.returncode == 0, ended.stderr


def test_a_ledger_with_work_in_a_dead_replicas_hands_is_not_copied(
    postgres_url: URL, tmp_path: Path
) -> None:
    opened(postgres_url, lambda tx: pushed(tx, "1.0"))
    ledger = Ledger(postgres_url)
    ledger.open_to_write()
    one_claim(ledger)
    ledger.close()

    with pytest.raises(LedgerInUse, match="work on the source"):
        copy_ledger(postgres_url, sqlite(tmp_path / "to.db"), nothing)
    assert not (tmp_path / "to.db").exists()


def test_nothing_is_copied_under_a_replica_that_works_on_the_target(
    start: StartReceiver, postgres_url: URL, tmp_path: Path
) -> None:
    receiver = start(environment={"DATABASE_URL": plain(postgres_url)})
    source = f"sqlite:///{filled(tmp_path / 'from.db').database}"

    refused = receiver.run("ledger", "copy", source, plain(postgres_url))

    assert (refused.returncode, refused.stdout) == (4, "")
    assert "receivers work on the target" in refused.stderr
    assert receiver.ended(receiver.push("1.0"))["outcome"] == "created"


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_ledger_of_another_schema_is_not_copied(
    side: str, postgres_url: URL, tmp_path: Path
) -> None:
    """Even where its programs may work side by side: what a newer one added would be lost."""

    def newer(tx: Tx) -> None:
        tx.run("UPDATE alembic_version SET version_num = '9999'")
        tx.run("UPDATE meta SET value = :ours WHERE key = :serves", ours=SCHEMA, serves=SERVES)

    other, own = sqlite(tmp_path / "other.db"), opened(postgres_url)
    opened(other, newer)
    source, target = (other, own) if side == "source" else (own, other)

    with pytest.raises(LedgerSchemaError, match=f"the {side}'s schema is 9999"):
        copy_ledger(source, target, nothing)


def test_a_copy_whose_source_is_written_meanwhile_is_refused(either: URL, tmp_path: Path) -> None:
    source = opened(either, lambda tx: pushed(tx, "1.0"))
    target = sqlite(tmp_path / "to.db")

    def moved(total: int, count: int) -> None:
        engine = engines.open_engine(source, pooled=False)  # somebody who asks for no lock
        with engine.begin() as connection:
            pushed(Tx(connection), "1.1")

    with pytest.raises(LedgerError, match="the source was written during the copy"):
        copy_ledger(source, target, moved)
    with pytest.raises(LedgerError, match=UNFINISHED):
        opened(target)


def test_a_stopped_copy_is_unusable_and_can_be_run_again(either: URL, tmp_path: Path) -> None:
    source = filled(tmp_path / "from.db")
    seen: list[int] = []

    def stop_it(total: int, count: int) -> None:
        seen.append(count)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(LedgerError, match=r"was stopped.*run `receiver ledger copy` again"):
        copy_ledger(source, either, stop_it)
    with pytest.raises(LedgerError, match=UNFINISHED):
        opened(either)
    reading = Ledger(either)
    with pytest.raises(LedgerError, match=UNFINISHED):
        reading.open_readonly()
    reading.close()

    copy_ledger(source, either, nothing)
    assert content(either) == content(source)
    opened(either)


@pytest.mark.parametrize("away", ["source", "target"])
def test_a_copy_whose_database_goes_away_is_reported_as_failed(
    away: str, postgres_url: URL, tmp_path: Path
) -> None:
    here = filled(tmp_path / "from.db")
    if away == "source":
        copy_ledger(here, postgres_url, nothing)
        source, target = postgres_url, sqlite(tmp_path / "to.db")
    else:
        source, target = here, postgres_url

    def cut(total: int, count: int) -> None:
        rows(postgres_url, CUT_ALL)

    with pytest.raises(LedgerError, match=r"the copy failed: .*is marked"):
        copy_ledger(source, target, cut)

    copy_ledger(source, target, nothing)
    assert content(target) == content(here)


def test_a_side_that_has_to_wait_for_the_other_is_not_cut_off(
    postgres_url: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = filled(tmp_path / "from.db")
    opened(postgres_url)  # a busy machine may take its time to make the schema
    monkeypatch.setattr(engines, "IDLE_IN_TRANSACTION_MS", 1000)

    def slow_once() -> Callable[[int, int], None]:
        waits = iter([1.5])

        def moved(total: int, count: int) -> None:
            rows(postgres_url, f"SELECT pg_sleep({next(waits, 0)})")

        return moved

    copy_ledger(here, postgres_url, slow_once())
    copy_ledger(postgres_url, sqlite(tmp_path / "to.db"), slow_once())
    assert content(postgres_url) == content(here)


def test_a_copy_that_is_killed_lets_no_receiver_work_on_what_it_left(
    start: StartReceiver, receiver: ReceiverProcess, postgres_url: URL, tmp_path: Path
) -> None:
    pushes = sqlite(tmp_path / "from.db")
    source = f"sqlite:///{opened(pushes, lambda tx: pushed(tx, '1.0')).database}"
    opened(postgres_url)
    there = plain(postgres_url)
    command = [sys.executable, "-m", "receiver", "ledger", "copy", source, there]
    with psycopg.connect(there, autocommit=True) as holding:
        holding.execute(A_GATE)
        holding.execute("SELECT pg_advisory_lock(7)")
        copying = subprocess.Popen(
            command, cwd=tmp_path, env=receiver.environment, stderr=subprocess.DEVNULL
        )
        until(lambda: rows(postgres_url, WAITING, "advisory"))
        during = receiver.run("serve", DATABASE_URL=there)
        replayed = receiver.run("replay", "--parked", DATABASE_URL=there)
        copying.send_signal(signal.SIGKILL)
        copying.wait(30)
        holding.execute("SELECT pg_advisory_unlock(7)")
        mine = holding.info.backend_pid
        until(lambda: not holding.execute(OTHERS, (mine,)).fetchall())
        holding.execute("DROP TRIGGER wait ON led_to")
    after = receiver.run("serve", DATABASE_URL=there)
    left = [rows(postgres_url, f"SELECT count(*) FROM {table.name}")[0][0] for table in COPIED]
    again = receiver.run("ledger", "copy", source, there)

    for refused in (during, replayed, after):
        assert refused.returncode == 4
        assert UNFINISHED in refused.stderr
    assert not any(left)
    assert again.returncode == 0, again.stderr
    moved = start(environment={"DATABASE_URL": there})
    assert moved.ended(moved.push("7.0"))["outcome"] == "created"

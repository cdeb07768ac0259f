"""The ledger: what is answered is on disk, groups share a commit, and the schema is ours."""

import asyncio
import os
import resource
import sqlite3
import stat
import threading
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path

import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.pool import NullPool

from receiver.errors import LedgerError, LedgerInUse, LedgerSchemaError
from receiver.ledger.cursors import _KNOWN_DIGEST
from receiver.ledger.engine import check_durability, open_engine
from receiver.ledger.files import MAGIC
from receiver.ledger.ledger import Ledger
from receiver.ledger.purge import FREED_PAGES, give_back_space
from receiver.ledger.queries import Filter, _chosen
from receiver.ledger.schema import SCHEMA, metadata
from receiver.ledger.targets import _DIGEST
from receiver.ledger.transaction import Tx
from receiver.reasons import Verdict
from tests.support.disk import on_disk, put
from tests.support.ledger_work import pushed


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "receiver.db"


@pytest.fixture
def url(path: Path) -> URL:
    return URL.create("sqlite", database=str(path))


@pytest.fixture
def ledger(url: URL) -> Iterator[Ledger]:
    opened = Ledger(url)
    opened.open_to_write(wait_seconds=0)
    yield opened
    opened.close()


def test_one_bad_write_fails_alone_and_leaves_nothing_of_itself(ledger: Ledger, url: URL) -> None:
    queued = threading.Event()

    def hold(tx: Tx) -> None:
        assert queued.wait(10)

    def bad(tx: Tx) -> None:
        put(tx, "of the bad one")
        raise ZeroDivisionError

    def twice(tx: Tx) -> None:
        put(tx, "of the doubled one")
        put(tx, "of the doubled one")

    async def mixed() -> list[object]:
        writes = [hold, lambda tx: put(tx, "before"), bad, twice, lambda tx: put(tx, "after")]
        tasks = [asyncio.create_task(ledger.write(write)) for write in writes]
        await asyncio.sleep(0)
        queued.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    _, before, fault, doubled, after = asyncio.run(mixed())

    assert (before, after) == ("before", "after")
    assert isinstance(fault, ZeroDivisionError)
    assert isinstance(doubled, LedgerError)
    kept = on_disk(url)
    assert {"before", "after"} <= kept
    assert not {"of the bad one", "of the doubled one"} & kept


def test_the_few_that_are_looked_for_are_found_by_an_index_of_those_few(ledger: Ledger) -> None:
    """An accept writes into none of them, and costs a twelfth less."""
    tag = {"repository": "group/project", "tag": "1.0", "digest": "sha256:1"}
    target = {"app": "my-game", "version": "1.0", "id": "r1", **tag}
    refused = _chosen(Filter(verdict=Verdict.REFUSED)).compile(
        compile_kwargs={"literal_binds": True}
    )

    def plan(tx: Tx) -> str:
        asked = [(_KNOWN_DIGEST, tag), (_DIGEST, target), (str(refused), {})]
        found = [tx.run(f"EXPLAIN QUERY PLAN {sql}", **values).all() for sql, values in asked]
        return "; ".join(str(row[-1]) for rows in found for row in rows)

    found = asyncio.run(ledger.write(plan))

    for index in ("registrations_digests", "registrations_done", "deliveries_not_accepted"):
        assert f"INDEX {index} (" in found
    assert "SCAN registrations" not in found
    assert "SCAN deliveries" not in found
    assert "TEMP B-TREE" not in found


def test_a_full_disk_is_reported_each_time_until_there_is_room_again(
    ledger: Ledger, url: URL
) -> None:
    for number in range(300):
        asyncio.run(ledger.write(lambda tx, n=number: put(tx, f"key {n}" * 100)))  # type: ignore[misc]
    assert ledger.read_sync(lambda tx: tx.run("SELECT count(*) FROM meta").scalar())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # No file may be written: the system refuses, as it does on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        for _ in range(3):  # the second begins with a new connection
            with pytest.raises(LedgerError):
                asyncio.run(ledger.write(lambda tx: put(tx, "lost")))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert asyncio.run(ledger.write(lambda tx: put(tx, "kept"))) in on_disk(url)
    assert "lost" not in on_disk(url)


def test_the_writers_connection_really_runs_in_wal_with_full_sync(ledger: Ledger) -> None:
    def pragmas(tx: Tx) -> tuple[object, object]:
        return tx.run("PRAGMA journal_mode").scalar(), tx.run("PRAGMA synchronous").scalar()

    assert asyncio.run(ledger.write(pragmas)) == ("wal", 2)


def test_a_file_system_that_refuses_wal_is_refused(path: Path) -> None:
    # SQLite's dotfile locking has no shared memory, as network file systems have none.
    engine = open_engine(make_url(f"sqlite:///file:{path}?vfs=unix-dotfile&uri=true"))

    with engine.connect() as connection, pytest.raises(LedgerError, match="journal_mode=delete"):
        check_durability(connection)


@pytest.mark.parametrize("level", ["OFF", "NORMAL"])
def test_less_than_full_sync_is_refused(url: URL, level: str) -> None:
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        connection.exec_driver_sql(f"PRAGMA synchronous = {level}")

        with pytest.raises(LedgerError, match="synchronous"):
            check_durability(connection)


def shape_of(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Return columns with their types and defaults, and indexes with their conditions.

    In no order: a migration adds its columns last.
    """
    connection = sqlite3.connect(path)
    columns = {
        table: [
            tuple(column[1:])
            for column in sorted(
                connection.execute(f"PRAGMA table_info({table})"), key=itemgetter(1)
            )
        ]
        for table in metadata.tables
    }
    indexes = connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY name"
    ).fetchall()
    connection.close()
    return {**columns, "indexes": indexes}


def test_the_migrations_lead_exactly_to_the_schema(
    ledger: Ledger, url: URL, path: Path, tmp_path: Path
) -> None:
    afresh = tmp_path / "afresh.db"
    metadata.create_all(create_engine(f"sqlite:///{afresh}", poolclass=NullPool))

    assert shape_of(path) == shape_of(afresh)


def test_a_schema_of_a_newer_program_is_refused_and_left_as_it_is(url: URL, path: Path) -> None:
    first = Ledger(url)
    first.open_to_write()
    first.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        connection.execute("UPDATE meta SET value = '9999' WHERE key = 'serves_schema'")
    connection.close()
    again = Ledger(url)

    with pytest.raises(LedgerSchemaError, match=r"newer version of the receiver \(schema 9999"):
        again.open_to_write(wait_seconds=0)
    with pytest.raises(LedgerSchemaError, match="9999"):
        again.open_readonly()

    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [SCHEMA])
    connection.close()
    again.open_to_write(wait_seconds=0)  # the refusal released the lock
    again.close()


def test_what_is_no_ledger_is_refused(url: URL, path: Path) -> None:
    path.write_bytes(MAGIC + b"and then no database at all, but long enough for one" * 100)
    ledger = Ledger(url)

    with pytest.raises(LedgerError, match="cannot be opened"):
        ledger.open_to_write(wait_seconds=0)
    ledger.close()


@pytest.mark.parametrize("what", ["a folder", "another kind of file", "no plain file"])
def test_beside_what_is_no_ledger_nothing_is_put(tmp_path: Path, what: str) -> None:
    """A slip in DATABASE_URL made a lock beside whatever it named, as /etc/passwd.lock."""
    path = tmp_path / "named"
    if what == "a folder":
        path.mkdir()
    elif what == "no plain file":
        os.mkfifo(path)
    else:
        path.write_text("root:x:0:0:root:/root:/bin/bash\n", "utf-8")
    ledger = Ledger(URL.create("sqlite", database=str(path)))

    for look in (ledger.open_to_write, ledger.open_readonly):
        with pytest.raises(LedgerError, match=what):
            look()

    ledger.close()
    assert list(tmp_path.iterdir()) == [path]


def test_a_ledger_is_its_owners_alone(ledger: Ledger, path: Path) -> None:
    asyncio.run(ledger.write(lambda tx: pushed(tx, "1.0")))

    files = list(path.parent.glob(f"{path.name}*"))

    assert len(files) >= 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_a_ledger_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    ledger = Ledger(URL.create("sqlite", database=str(tmp_path / "nowhere" / "receiver.db")))

    with pytest.raises(LedgerError, match="DATABASE_URL"):
        ledger.open_to_write(wait_seconds=0)
    ledger.close()


def test_one_file_has_one_owner(ledger: Ledger, url: URL) -> None:
    second = Ledger(url)

    with pytest.raises(LedgerInUse, match="another receiver"):
        second.open_to_write(wait_seconds=0.1)
    second.close()


def test_who_waits_gets_the_file_when_its_owner_leaves(url: URL) -> None:
    first, second = Ledger(url), Ledger(url)
    first.open_to_write()
    waiting = threading.Thread(target=second.open_to_write)
    waiting.start()
    assert waiting.is_alive()

    first.close()
    waiting.join(10)

    assert asyncio.run(second.write(lambda tx: put(tx, "by the second"))) == "by the second"
    second.close()


def test_one_ledger_by_two_ways_is_one_ledger(ledger: Ledger, path: Path) -> None:
    link = path.with_name("by-another-way.db")
    link.symlink_to(path)
    other = Ledger(make_url(f"sqlite:///{link}"))

    with pytest.raises(LedgerInUse):
        other.open_to_write(wait_seconds=0)
    other.close()


def test_purging_gives_pages_back_to_the_disk(ledger: Ledger) -> None:
    """It gave back one each time, and the file stayed as large as it had ever been."""

    def free(tx: Tx) -> int:
        return int(tx.run("PRAGMA freelist_count").scalar_one())

    for number in range(300):
        asyncio.run(ledger.write(lambda tx, n=number: put(tx, f"key {n} " * 400)))  # type: ignore[misc]
    asyncio.run(ledger.write(lambda tx: tx.run("DELETE FROM meta WHERE key LIKE 'key %'").rowcount))
    before = asyncio.run(ledger.write(free))

    asyncio.run(ledger.write(give_back_space))

    assert before - asyncio.run(ledger.write(free)) == min(before, FREED_PAGES) > 100

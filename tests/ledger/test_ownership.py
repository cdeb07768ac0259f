"""Whose database it is: another program's is refused and left as it is, byte for byte."""

import sqlite3
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from receiver.errors import LedgerError
from receiver.ledger.files import APPLICATION_ID
from receiver.ledger.ledger import Ledger
from receiver.ledger.migrate import check_ours
from receiver.ledger.schema import SCHEMA
from tests.support.commands import Commands
from tests.support.postgres import plain, rows

SHOP = "CREATE TABLE users (name TEXT); CREATE TABLE posts (text TEXT);"
WITH_ALEMBIC = (
    "CREATE TABLE alembic_version (version_num TEXT); CREATE TABLE users (name TEXT);"
    "INSERT INTO alembic_version VALUES ('ae1027a6acf5');"
)
NAMESAKES = (
    "CREATE TABLE deliveries (driver TEXT); CREATE TABLE registrations (name TEXT);"
    "CREATE TABLE meta (key TEXT); CREATE TABLE alembic_version (version_num TEXT);"
    "INSERT INTO alembic_version VALUES ('ae1027a6acf5');"
)
NUMBERED_NAMESAKES = NAMESAKES.replace("ae1027a6acf5", "0003")
FOREIGN = {
    "numbered-namesakes": NUMBERED_NAMESAKES,
    "tables": SHOP,
    "with-alembic": WITH_ALEMBIC,
    "namesakes": NAMESAKES,
}


def sqlite_file(path: Path, script: str) -> URL:
    made = sqlite3.connect(path)
    made.executescript(script)
    made.close()
    return URL.create("sqlite", database=str(path))


def assert_refused(url: URL, match: str) -> None:
    for look in ("open_to_write", "open_readonly"):
        ledger = Ledger(url)
        with pytest.raises(LedgerError, match=match):
            getattr(ledger, look)()
        ledger.close()


@pytest.mark.parametrize("script", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_another_programs_file_is_refused_and_left_as_it_is(
    tmp_path: Path, script: str, mode: str
) -> None:
    """`serve` put its tables beside those of whatever file DATABASE_URL named."""
    path = tmp_path / "shop.db"
    url = sqlite_file(path, f"PRAGMA journal_mode = {mode};{script}")
    before = path.read_bytes()

    assert_refused(url, r"belongs to another program \(tables? .*: name a file of its own")

    assert path.read_bytes() == before
    assert not path.with_name("shop.db.lock").exists()


def test_a_file_that_says_whose_it_is_is_refused_though_it_is_empty(tmp_path: Path) -> None:
    url = sqlite_file(tmp_path / "map.gpkg", "PRAGMA application_id = 0x47504B47;VACUUM;")

    assert_refused(url, "another program .application id 0x47504b47")


def test_an_empty_file_with_another_programs_version_is_left_as_it_is(tmp_path: Path) -> None:
    url = sqlite_file(tmp_path / "notes.db", "PRAGMA user_version = 7;VACUUM;")
    before = (tmp_path / "notes.db").read_bytes()

    assert_refused(url, "another program .user version 7")

    assert (tmp_path / "notes.db").read_bytes() == before


def test_an_empty_file_and_an_empty_database_are_ours_to_fill(tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    sqlite_file(tmp_path / "no-tables.db", "PRAGMA user_version = 0;VACUUM;")

    for name in ("empty.db", "no-tables.db", "none.db"):
        for _ in range(2):
            ledger = Ledger(URL.create("sqlite", database=str(tmp_path / name)))
            ledger.open_to_write(wait_seconds=0)
            ledger.close()
        made = sqlite3.connect(tmp_path / name)
        assert made.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        made.close()


def test_a_ledger_beside_whose_tables_a_tool_put_its_own_is_still_ours(either: URL) -> None:
    """Litestream and others keep a table of their own in what they copy."""
    ledger = Ledger(either)
    ledger.open_to_write(wait_seconds=0)
    ledger.close()
    engine = create_engine(either, poolclass=NullPool)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE _litestream_seq (seq INTEGER)")
        check_ours(connection)

    again = Ledger(either)
    again.open_to_write(wait_seconds=0)
    again.close()


@pytest.mark.parametrize(
    "script",
    [WITH_ALEMBIC, NAMESAKES, NUMBERED_NAMESAKES],
    ids=["with-alembic", "namesakes", "numbered-namesakes"],
)
def test_another_programs_tables_on_postgresql_are_refused(postgres_url: URL, script: str) -> None:
    with psycopg.connect(plain(postgres_url)) as other:
        other.execute(script.encode())

    assert_refused(postgres_url, "PostgreSQL database or schema belongs to another program")

    tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
    assert rows(postgres_url, tables) == [(script.count("CREATE TABLE"),)]


def test_tables_of_other_names_may_be_beside_ours_on_postgresql(postgres_url: URL) -> None:
    with psycopg.connect(plain(postgres_url)) as other:
        other.execute(SHOP.encode())

    ledger = Ledger(postgres_url)
    ledger.open_to_write(wait_seconds=0)
    ledger.close()

    assert rows(postgres_url, "SELECT version_num FROM alembic_version") == [(SCHEMA,)]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x8f\x11" * 4096, "another kind of file, or an encrypted database"),
        (b"SQLite format 3\0" + b"\xff" * 84, "the file is damaged"),
        (b"SQLite format 3\0", "the file is damaged"),
    ],
    ids=["encrypted", "header-only", "magic-only"],
)
def test_a_file_that_cannot_be_read_is_refused_in_a_sentence(
    commands: Commands, content: bytes, says: str
) -> None:
    path = commands.folder / "receiver.db"
    path.write_bytes(content)

    for arguments in (("deliveries",), ("serve",), ("pause", "--all")):
        done = commands.run(*arguments)
        assert done.exit_code == 4, done.output
        assert says in done.stderr
    assert "fail  ledger" in commands.run("doctor").stdout
    assert path.read_bytes() == content


def test_a_file_cut_off_in_the_middle_is_refused_in_a_sentence(commands: Commands) -> None:
    commands.push()
    path = commands.folder / "receiver.db"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    for arguments in (("deliveries",), ("serve",), ("pause", "--all")):
        done = commands.run(*arguments)
        assert done.exit_code == 4, done.output
        assert "the file is damaged" in done.stderr


def test_a_newer_schema_is_named_by_each_command(commands: Commands) -> None:
    commands.push()
    with sqlite3.connect(commands.folder / "receiver.db") as ledger:
        ledger.execute("UPDATE alembic_version SET version_num = '0099'")
    ledger.close()

    # It says of itself that programs of this schema may go on: that is warned of.
    newer = "the ledger was written by a newer version of the receiver (schema 0099"
    assert f"warn  ledger: {newer}" in commands.run("doctor").stdout
    assert commands.run("deliveries").exit_code == 0
    with sqlite3.connect(commands.folder / "receiver.db") as ledger:
        ledger.execute("UPDATE meta SET value = '0099' WHERE key = 'serves_schema'")
    ledger.close()
    for arguments in (("deliveries",), ("serve",), ("pause", "--all")):
        done = commands.run(*arguments)
        assert done.exit_code == 4
        assert newer in done.stderr
        assert "upgrade the program" in done.stderr
    assert f"fail  ledger: {newer}" in commands.run("doctor").stdout

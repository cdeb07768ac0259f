"""The ledger's schema, on both engines: made, known, and refused where it must be."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from receiver.errors import LedgerError, LedgerSchemaError
from receiver.ledger import migrate
from receiver.ledger.ledger import Ledger
from receiver.ledger.migrate import MIGRATIONS, SERVES
from receiver.ledger.schema import SCHEMA, metadata
from receiver.ledger.transaction import Tx
from tests.ledger import first_schema
from tests.support.ledger_work import (
    pushed,
    write,
)
from tests.support.postgres import plain, rows
from tests.support.receiver_process import until


def test_the_migrations_lead_exactly_to_the_schema(ledger: Ledger, either: URL) -> None:
    engine = create_engine(either, poolclass=NullPool)
    defaults = either.drivername != "sqlite"  # Alembic cannot compare them there
    assert _differences(engine, compare_type=True, compare_server_default=defaults) == []


@pytest.mark.parametrize("missing", ["", "DROP INDEX registrations_done"])
def test_a_new_ledger_is_as_the_migrations_make_one(either: URL, missing: str) -> None:
    """It is created from the schema, without Alembic."""
    engine = create_engine(either, poolclass=NullPool)
    with engine.begin() as connection:
        migrate._create(connection)
    created = _definitions(engine)
    with engine.begin() as connection:
        metadata.drop_all(connection)
        connection.exec_driver_sql("DROP TABLE alembic_version")
        with Operations.context(MigrationContext.configure(connection)):
            first_schema.make()
        migrate._upgrade(connection)
        if missing:
            connection.exec_driver_sql(missing)

    migrated = _definitions(engine)

    assert len(created) > 100
    assert (created == migrated) is not bool(missing), set(created) ^ set(migrated)


NUMBERS = "SELECT key, value FROM meta UNION SELECT 'version', version_num FROM alembic_version"
DESCRIBED = {
    "sqlite": (
        """SELECT m.name, c.name, c.type, c."notnull", c.dflt_value, c.pk FROM sqlite_master m
            JOIN pragma_table_info(m.name) c WHERE m.type = 'table'""",
        "SELECT name, sql FROM sqlite_master WHERE type <> 'table'",
        NUMBERS,
    ),
    "postgresql": (
        """SELECT table_name, column_name, data_type, is_nullable, column_default,
            character_maximum_length FROM information_schema.columns
            WHERE table_schema = 'public'""",
        "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
        """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
            FROM pg_constraint WHERE connamespace = 'public'::regnamespace""",
        NUMBERS,
    ),
}


def _definitions(engine: Engine) -> list[tuple[object, ...]]:
    """All tables, columns, indexes and constraints, as the database describes them."""
    described = DESCRIBED[engine.dialect.name]
    with engine.connect() as connection:
        found = [tuple(row) for one in described for row in connection.exec_driver_sql(one)]
    return sorted(found, key=repr)


def _differences(engine: Engine, **options: object) -> list[object]:
    """What the database has otherwise than the schema."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, metadata))


def test_a_new_ledger_says_which_programs_may_work_on_it(ledger: Ledger) -> None:
    serves = ledger.read_sync(
        lambda tx: tx.run("SELECT value FROM meta WHERE key = :key", key=SERVES).scalar()
    )

    assert serves == SCHEMA


NEXT = """
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.execute("ALTER TABLE targets ADD COLUMN why TEXT")
    op.execute("UPDATE meta SET value = '0001' WHERE key = 'serves_schema'")
"""


def test_a_migration_that_waits_for_one_who_waits_for_it_is_tried_again(
    postgres_url: URL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start in the midst of a rolling upgrade ended with "deadlock detected"."""
    ledger = Ledger(postgres_url)
    ledger.open_to_write(wait_seconds=0)
    folder = shutil.copytree(MIGRATIONS, tmp_path / "migrations")
    (folder / "versions" / "0002_next.py").write_text(NEXT)
    monkeypatch.setattr(migrate, "MIGRATIONS", folder)
    monkeypatch.setattr(migrate, "SCHEMA", "0002")
    monkeypatch.setattr(migrate, "LOCK_MS", 20_000)  # the server looks for a deadlock before
    with psycopg.connect(plain(postgres_url)) as other, ThreadPoolExecutor(1) as opening:
        other.execute("LOCK TABLE meta IN ACCESS EXCLUSIVE MODE")
        brought = opening.submit(migrate.migrate_to_newest, ledger._write_engine)
        until(lambda: rows(postgres_url, "SELECT 1 FROM pg_locks WHERE NOT granted"))
        other.execute("DELETE FROM targets")
        other.commit()
        brought.result()

    assert rows(postgres_url, "SELECT version_num FROM alembic_version") == [("0002",)]
    ledger.close()


def test_a_newer_schema_that_says_it_serves_this_program_is_worked_on(either: URL) -> None:
    """So an upgrade may roll: who restarts in the midst of it starts, and it may be taken back."""
    newer = Ledger(either)
    newer.open_to_write(wait_seconds=0)
    write(newer, _as_a_newer_program_leaves_it)
    newer.close()

    again = Ledger(either)
    again.open_to_write(wait_seconds=0)
    assert write(again, lambda tx: pushed(tx, "1.0"))
    again.close()
    reading = Ledger(either)
    reading.open_readonly()
    assert reading.schema == again.schema == "9998"
    reading.close()


def _as_a_newer_program_leaves_it(tx: Tx) -> None:
    tx.run("ALTER TABLE pauses ADD COLUMN why TEXT")
    tx.run("UPDATE alembic_version SET version_num = '9998'")
    tx.run("UPDATE meta SET value = :ours WHERE key = :serves", ours=SCHEMA, serves=SERVES)


def test_a_schema_of_a_newer_program_is_refused(either: URL) -> None:
    newer = Ledger(either)
    newer.open_to_write(wait_seconds=0)
    write(newer, lambda tx: tx.run("UPDATE alembic_version SET version_num = '9999'").rowcount)
    write(
        newer, lambda tx: tx.run("UPDATE meta SET value = '9999' WHERE key = :k", k=SERVES).rowcount
    )
    newer.close()
    again = Ledger(either)

    for look in (again.open_to_write, again.open_readonly):
        with pytest.raises(LedgerSchemaError, match=r"newer version.*9999.*: upgrade the program"):
            look()
    again.close()


def test_a_ledger_that_was_never_made_is_not_read(either: URL) -> None:
    stranger = Ledger(either)

    with pytest.raises(LedgerError, match="receiver serve"):
        stranger.open_readonly()
    stranger.close()

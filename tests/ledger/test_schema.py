"""The ledger's schema, on both engines: made, known, and refused where it must be."""

import hashlib
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Engine, create_engine
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from receiver.errors import LedgerError, LedgerSchemaError
from receiver.ledger import migrate
from receiver.ledger.ledger import Ledger
from receiver.ledger.migrate import MIGRATIONS, SERVES
from receiver.ledger.schema import SCHEMA, metadata
from receiver.ledger.transaction import Tx
from tests.support.ledger_work import (
    OF_OLDER_PROGRAMS,
    pushed,
    write,
)
from tests.support.postgres import plain, rows
from tests.support.receiver_process import until

FROZEN = {
    "0001_first.py": "3ad33b3696e7938c",
    "0002_targets_by_registration.py": "b0aaa587c9609b58",
    "0003_smaller_indexes.py": "3c70499479132d97",
    "0004_more_memory.py": "ce0af2ef820ff8c3",
    "0005_effects.py": "100c2217efacf766",
}
AS_OF_0001 = """INSERT INTO deliveries
 (id, received_at, source, repository, tag, body_sha256, verdict) VALUES
 ('1', 1, 'webhook', 'group/project', '1.0', 'abc', 'ignored')"""


def test_the_migrations_lead_exactly_to_the_schema(ledger: Ledger, either: URL) -> None:
    engine = create_engine(either, poolclass=NullPool)
    defaults = either.drivername != "sqlite"  # Alembic cannot compare them there
    assert _differences(engine, compare_type=True, compare_server_default=defaults) == []


def _differences(engine: Engine, **options: object) -> list[object]:
    """What the database has otherwise than the schema, but for what older programs need."""

    def counts(_object: object, name: str | None, kind: str, *_: object) -> bool:
        return kind != "column" or name not in OF_OLDER_PROGRAMS

    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={**options, "include_object": counts})
        return list(compare_metadata(context, metadata))


@pytest.mark.parametrize("changed", [False, True], ids=["as-frozen", "as-once-changed"])
def test_a_ledger_of_the_first_schema_is_brought_up_and_says_whom_it_serves(
    either: URL, changed: bool
) -> None:
    _first_schema(either, changed=changed)

    ledger = Ledger(either)
    ledger.open_to_write(wait_seconds=0)
    write(ledger, lambda tx: tx.run(AS_OF_0001).rowcount)
    serves = ledger.read_sync(
        lambda tx: tx.run("SELECT value FROM meta WHERE key = :key", key=SERVES).scalar()
    )
    ledger.close()

    assert serves == "0004"  # older programs would delete without a look at `deletions`
    engine = create_engine(either, poolclass=NullPool)
    assert _differences(engine) == []


def test_a_migration_that_waits_for_one_who_waits_for_it_is_tried_again(
    postgres_url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start in the midst of a rolling upgrade ended with "deadlock detected"."""
    monkeypatch.setattr(migrate, "LOCK_MS", 20_000)  # the server looks for a deadlock before
    _first_schema(postgres_url, changed=False)
    ledger = Ledger(postgres_url)
    with psycopg.connect(plain(postgres_url)) as other, ThreadPoolExecutor(1) as opening:
        other.execute("LOCK TABLE meta IN ACCESS EXCLUSIVE MODE")
        brought = opening.submit(migrate.migrate_to_newest, ledger._write_engine)
        until(lambda: rows(postgres_url, "SELECT 1 FROM pg_locks WHERE NOT granted"))
        other.execute("DELETE FROM targets")
        other.commit()
        brought.result()

    assert rows(postgres_url, "SELECT version_num FROM alembic_version") == [(SCHEMA,)]
    ledger.close()


def _first_schema(url: URL, *, changed: bool) -> None:
    """Make a ledger as 0001 does; or did for a while."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        if changed:
            connection.exec_driver_sql("ALTER TABLE deliveries DROP COLUMN body_sha256")
            connection.exec_driver_sql(
                "CREATE INDEX targets_by_registration ON targets (registration_id)"
            )


def test_a_migration_that_has_run_somewhere_is_not_edited() -> None:
    """A ledger that it made would be another than one it makes now; write a new one instead."""
    for name, digest in FROZEN.items():
        text = (MIGRATIONS / "versions" / name).read_bytes()
        assert hashlib.sha256(text).hexdigest().startswith(digest), name
    assert sorted(FROZEN) == sorted(path.name for path in MIGRATIONS.glob("versions/[0-9]*.py"))


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

"""The ledger's schema, on both engines: made, known, and refused where it must be."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from receiver.errors import LedgerError, LedgerSchemaError
from receiver.ledger.ledger import Ledger
from receiver.ledger.migrate import SERVES
from receiver.ledger.schema import metadata
from receiver.ledger.transactions import Tx
from tests.at_work import (
    pushed,
    write,
)


def test_the_migrations_lead_exactly_to_the_schema(ledger: Ledger, either: URL) -> None:
    engine = create_engine(either, poolclass=NullPool)
    defaults = either.drivername != "sqlite"  # Alembic cannot compare them there
    options = {"compare_type": True, "compare_server_default": defaults}
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


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
    reading.open_to_read()
    reading.close()


def _as_a_newer_program_leaves_it(tx: Tx) -> None:
    tx.run("ALTER TABLE pauses ADD COLUMN why TEXT")
    tx.run("UPDATE alembic_version SET version_num = '0002'")
    tx.run("INSERT INTO meta (key, value) VALUES (:key, '0001')", key=SERVES)


def test_a_schema_of_a_newer_program_is_refused(either: URL) -> None:
    newer = Ledger(either)
    newer.open_to_write(wait_seconds=0)
    write(newer, lambda tx: tx.run("UPDATE alembic_version SET version_num = '9999'").rowcount)
    newer.close()
    again = Ledger(either)

    with pytest.raises(LedgerSchemaError, match="9999 is newer"):
        again.open_to_write(wait_seconds=0)
    with pytest.raises(LedgerSchemaError, match="9999"):
        again.open_to_read()
    again.close()


def test_a_ledger_that_was_never_made_is_not_read(either: URL) -> None:
    stranger = Ledger(either)

    with pytest.raises(LedgerError, match="receiver serve"):
        stranger.open_to_read()
    stranger.close()

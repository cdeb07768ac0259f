"""Bringing the schema up to date: `serve` does it under a lock, other commands only check."""

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect

from receiver.errors import LedgerSchemaError
from receiver.ledger.schema import SCHEMA

MIGRATIONS = Path(__file__).with_name("migrations")
SERVES = "serves_schema"
ADVISORY_LOCK = 0x52454345  # "RECE": one migration at a time among replicas


def schema_of(connection: Connection) -> str | None:
    """Return the schema's number, None where there is no ledger yet."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()


def serves_us(connection: Connection, found: str | None) -> bool:
    """Tell whether this program may work on the schema: its own, or a newer one that says so.

    Migrations are additive within a minor version, and each writes into `meta` under SERVES the
    oldest schema whose programs may go on: so an upgrade may roll, and be taken back.
    """
    if found == SCHEMA:
        return True
    if found is None or found < SCHEMA:
        return False
    serves = connection.exec_driver_sql(f"SELECT value FROM meta WHERE key = '{SERVES}'").scalar()  # noqa: S608
    return serves is not None and str(serves) <= SCHEMA


def check_schema(engine: Engine) -> None:
    """Raise LedgerSchemaError unless this program may work on the schema."""
    with engine.connect() as connection:
        found = schema_of(connection)
        good = serves_us(connection, found)
    if not good:
        raise LedgerSchemaError(
            f"the ledger's schema is {found or 'missing'}, this program's is {SCHEMA}: "
            "start `receiver serve` of this version once, or use the version that made the ledger"
        )


def migrate(engine: Engine) -> None:
    """Bring the schema up to date. One migration runs at a time, in one transaction.

    Raises LedgerSchemaError when a newer program made it.
    """
    with engine.connect() as connection:
        if serves_us(connection, schema_of(connection)):
            return  # Alembic is not even imported: a start should be quick
    from alembic import command  # noqa: PLC0415 - see above
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})")
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError:
            raise LedgerSchemaError(
                f"the ledger's schema {schema_of(connection)} is newer than this program's "
                f"({SCHEMA}): run the newer version"
            ) from None

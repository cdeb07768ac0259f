"""Alembic runs this; the connection and its transaction are ours (see ledger/migrate.py)."""

from alembic import context

from receiver.ledger.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=False,  # our own transaction is around all of it
)
context.run_migrations()

"""Targets are looked up by the registration that they were last led by.

For a while the first migration made the index itself, and no `body_sha256`: such a ledger gets the
column again, which programs of schema 0001 write and nobody reads.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make what is missing; programs of schema 0001 may go on."""
    op.create_index("targets_by_registration", "targets", ["registration_id"], if_not_exists=True)
    columns = sa.inspect(op.get_bind()).get_columns("deliveries")
    if "body_sha256" not in {column["name"] for column in columns}:
        op.add_column("deliveries", sa.Column("body_sha256", sa.Text()))
    op.execute("INSERT INTO meta (key, value) VALUES ('serves_schema', '0001')")

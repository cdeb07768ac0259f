"""Catch-up: when it last succeeded with a repository, and pushes that no webhook reported."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0003"


def upgrade() -> None:
    """Add the columns; programs of older schemas may go on."""
    op.add_column("cursors", sa.Column("succeeded_at", sa.BigInteger()))
    op.add_column("cursors", sa.Column("unheard", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("cursors", sa.Column("unheard_at", sa.BigInteger()))
    op.execute("UPDATE cursors SET succeeded_at = ran_at WHERE problem = ''")

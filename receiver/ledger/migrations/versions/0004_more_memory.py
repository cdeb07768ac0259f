"""What the ledger remembers of channels, catch-up, deletions, links and sessions."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add tables and columns; programs of older schemas may go on."""
    _add_catch_up()
    _add_revocations()
    _add_links_and_keys()


def _add_catch_up() -> None:
    op.add_column("cursors", sa.Column("succeeded_at", sa.BigInteger()))
    op.add_column("cursors", sa.Column("unheard", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("cursors", sa.Column("unheard_at", sa.BigInteger()))
    op.execute("UPDATE cursors SET succeeded_at = ran_at WHERE problem = ''")


def _add_revocations() -> None:
    op.create_table(
        "revocations",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("revoked_at", sa.BigInteger, nullable=False),
    )


def _add_links_and_keys() -> None:
    op.create_table(
        "refused_links",
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("reason", "repository"),
    )
    op.create_table(
        "secret_keys",
        sa.Column("fingerprint", sa.Text(), primary_key=True),
        sa.Column("salt", sa.Text(), nullable=False),
        sa.Column("adopted_at", sa.BigInteger(), nullable=False),
        sa.Column("replaced_at", sa.BigInteger()),
    )

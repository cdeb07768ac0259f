"""Channels: what each follows, how it was moved, and what was reported to it."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the tables; what mode "update" moved is a channel now."""
    op.create_table(
        "channels",
        sa.Column("app", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("highest", sa.Text()),
        sa.Column("held_at", sa.BigInteger()),
        _text("held_tag"),
        _text("held_action"),
        sa.Column("lifted_above", sa.Text()),
        sa.Column("ordered", sa.Text()),
        _text("action"),
        _text("source"),
        _text("sent"),
        sa.Column("check_at", sa.BigInteger()),
        _text("check_for"),
        sa.Column("compared_at", sa.BigInteger()),
        _text("drift"),
        sa.Column("drift_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("app", "name"),
    )
    op.create_table(
        "channel_moves",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("app", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("from_repository", sa.Text()),
        sa.Column("from_tag", sa.Text()),
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text()),
        sa.Column("push_time", sa.BigInteger(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("registration_id", sa.Text(), nullable=False),
    )
    op.create_index("channel_moves_by_channel", "channel_moves", ["app", "channel", "id"])
    op.create_table(
        "channel_reports",
        sa.Column("app", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text()),
        sa.Column("push_time", sa.BigInteger(), nullable=False),
        sa.Column("registration_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("app", "channel", "repository", "tag"),
    )
    for table in ("registrations", "targets"):
        op.execute(f"UPDATE {table} SET mode = 'channel' WHERE mode = 'update'")  # noqa: S608


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text(), nullable=False, server_default="")

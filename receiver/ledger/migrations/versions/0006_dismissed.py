"""Parked registrations can be dismissed, and deletions of versions are recorded before they happen.

Programs of older schemas delete without looking at `deletions`, so they may not go on.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0003"


def upgrade() -> None:
    """Add the columns, and turn what was noted of deleted versions into `deletions`."""
    op.add_column("registrations", sa.Column("dismissed_at", sa.BigInteger()))
    op.add_column("registrations", sa.Column("dismissed_by", sa.Text()))
    op.add_column("registrations", _by_hand())
    op.add_column("targets", _by_hand())
    op.execute("ALTER TABLE targets RENAME COLUMN retired_at TO deleted_at")
    _partial_index(
        "registrations_alone",
        "registrations",
        ["due_at", "id"],
        "crashes >= 5 AND state NOT IN ('done', 'parked', 'working')",
    )
    _deletions()
    op.execute(f"UPDATE meta SET value = '{revision}' WHERE key = 'serves_schema'")  # noqa: S608


def _deletions() -> None:
    op.create_table(
        "deletions",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("app", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("began_at", sa.BigInteger(), nullable=False),
        sa.Column("until_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger()),
        sa.Column("deleted", sa.Boolean()),
    )
    op.create_index("deletions_by_target", "deletions", ["app", "version", "id"])
    _partial_index(
        "deletions_under_way", "deletions", ["app", "version"], "ended_at IS NULL", unique=True
    )
    op.execute(
        "INSERT INTO deletions (id, app, version, why, began_at, until_at, ended_at, deleted)"
        " SELECT id, app, version, why, at, at, at, retired FROM retirements"
    )
    op.drop_table("retirements")


def _by_hand() -> sa.Column[bool]:
    return sa.Column("by_hand", sa.Boolean(), nullable=False, server_default=sa.text("false"))


def _partial_index(
    name: str, table: str, columns: list[str], rows: str, *, unique: bool = False
) -> None:
    where = sa.text(rows)
    op.create_index(name, table, columns, unique=unique, sqlite_where=where, postgresql_where=where)

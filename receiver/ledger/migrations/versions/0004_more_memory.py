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
    _add_deletions_and_dismissals()
    _add_channels()


def _add_catch_up() -> None:
    op.add_column("cursors", sa.Column("succeeded_at", sa.BigInteger()))
    op.add_column("cursors", sa.Column("unheard", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("cursors", _text("unheard_after"))
    op.execute("UPDATE cursors SET succeeded_at = ran_at WHERE problem = ''")
    ahead = "pushed_at > received_at + 600000"
    _partial_index("deliveries_ahead", "deliveries", ["repository", "tag"], ahead)


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
        _text("after_id"),
        sa.PrimaryKeyConstraint("reason", "repository"),
    )
    op.create_table(
        "secret_keys",
        sa.Column("fingerprint", sa.Text(), primary_key=True),
        sa.Column("salt", sa.Text(), nullable=False),
        sa.Column("adopted_at", sa.BigInteger(), nullable=False),
        sa.Column("replaced_at", sa.BigInteger()),
    )
    op.create_table(
        "link_uses",
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("repository", "fingerprint"),
    )


def _add_deletions_and_dismissals() -> None:
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


def _add_channels() -> None:
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

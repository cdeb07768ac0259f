"""The first schema."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    _deliveries()
    _registrations()
    _led_to()
    _attempts()
    _targets()
    _gates()
    _cursors()
    _pauses()
    _retirements()
    _notices()
    _replicas()
    _meta()


def _deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("tag", sa.Text()),
        sa.Column("media_type", sa.Text()),
        sa.Column("pusher", sa.Text()),
        sa.Column("pushed_at", sa.BigInteger()),
        sa.Column("digest", sa.Text()),
        sa.Column("body_sha256", sa.Text()),
        sa.Column("body_bytes", sa.Integer()),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("sentence", sa.Text(), nullable=False, server_default=""),
    )
    op.create_index("deliveries_by_repository", "deliveries", ["repository", "id"])
    op.create_index("deliveries_by_tag", "deliveries", ["repository", "tag"])
    op.create_index("deliveries_by_verdict", "deliveries", ["verdict", "id"])


def _registrations() -> None:
    op.create_table(
        "registrations",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("app", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("push_time", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.Text()),
        sa.Column("overwritten", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("replayed", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text()),
        sa.Column("reason", sa.Text()),
        sa.Column("sentence", sa.Text(), nullable=False, server_default=""),
        sa.Column("notes", sa.Text(), nullable=False, server_default="[]"),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("crashes", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("look_again", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("waiting_reason", sa.Text()),
        sa.Column("waiting_since", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("waiting_first", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("waits", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("lease_owner", sa.Text()),
        sa.Column("lease_until", sa.BigInteger()),
        sa.Column("fence", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger()),
    )
    op.create_index("registrations_by_state", "registrations", ["state", "id"])
    op.create_index("registrations_by_tag", "registrations", ["repository", "tag"])
    op.create_index("registrations_by_target", "registrations", ["app", "version", "id"])
    op.create_index(
        "registrations_due",
        "registrations",
        ["due_at", "id"],
        sqlite_where=sa.text("state NOT IN ('done', 'parked', 'working')"),
        postgresql_where=sa.text("state NOT IN ('done', 'parked', 'working')"),
    )
    op.create_index(
        "registrations_one_working",
        "registrations",
        ["app", "version"],
        unique=True,
        sqlite_where=sa.text("state = 'working'"),
        postgresql_where=sa.text("state = 'working'"),
    )
    op.create_index(
        "registrations_open",
        "registrations",
        ["app", "version", "repository", "tag"],
        unique=True,
        sqlite_where=sa.text("state <> 'done'"),
        postgresql_where=sa.text("state <> 'done'"),
    )


def _led_to() -> None:
    op.create_table(
        "led_to",
        sa.Column(
            "delivery_id",
            sa.Text(),
            sa.ForeignKey("deliveries.id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column(
            "registration_id",
            sa.Text(),
            sa.ForeignKey("registrations.id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("delivery_id", "registration_id"),
    )
    op.create_index("led_to_by_registration", "led_to", ["registration_id", "delivery_id"])


def _attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column(
            "registration_id",
            sa.Text(),
            sa.ForeignKey("registrations.id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("milliseconds", sa.Integer()),
        sa.Column("message", sa.Text(), nullable=False, server_default=""),
        sa.PrimaryKeyConstraint("registration_id", "attempt", "step"),
    )
    op.create_index("attempts_by_time", "attempts", ["at"])


def _targets() -> None:
    op.create_table(
        "targets",
        sa.Column("app", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text()),
        sa.Column("push_time", sa.BigInteger(), nullable=False),
        sa.Column("held_before", sa.Text()),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("created_here", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("made_at", sa.BigInteger()),
        sa.Column("retired_at", sa.BigInteger()),
        sa.Column("registration_id", sa.Text()),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("app", "version"),
    )


def _gates() -> None:
    op.create_table(
        "gates",
        sa.Column("name", sa.Text(), primary_key=True),
        sa.Column("closed", sa.Boolean(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("probes", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("sentence", sa.Text(), nullable=False, server_default=""),
    )


def _cursors() -> None:
    op.create_table(
        "cursors",
        sa.Column("repository", sa.Text(), primary_key=True),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("ran_at", sa.BigInteger()),
        sa.Column("problem", sa.Text(), nullable=False, server_default=""),
    )


def _pauses() -> None:
    op.create_table(
        "pauses",
        sa.Column("repository", sa.Text(), primary_key=True),
        sa.Column("since", sa.BigInteger(), nullable=False),
    )


def _retirements() -> None:
    op.create_table(
        "retirements",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("app", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("retired", sa.Boolean(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
    )
    op.create_index("retirements_by_target", "retirements", ["app", "version", "id"])


def _notices() -> None:
    op.create_table(
        "notices",
        sa.Column("id", sa.Text(), primary_key=True),
        sa.Column("notice", sa.Text(), nullable=False),
        sa.Column("happening", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
    )
    op.create_index("notices_due", "notices", ["due_at", "id"])


def _replicas() -> None:
    op.create_table(
        "replicas",
        sa.Column("owner", sa.Text(), primary_key=True),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
    )


def _meta() -> None:
    op.create_table(
        "meta",
        sa.Column("key", sa.Text(), primary_key=True),
        sa.Column("value", sa.Text(), nullable=False),
    )

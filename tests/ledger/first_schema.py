"""The first schema, written out: with the migrations after it, it leads to `ledger/schema.py`."""

import sqlalchemy as sa
from alembic import op


def make() -> None:  # noqa: PLR0915 - one for each table and index
    """Create the tables, and say which programs may work on them."""
    op.create_table(
        "approvals",
        sa.Column("app", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), server_default="", nullable=False),
        sa.Column("push_time", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("approver", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("app", "channel", "repository", "tag", "digest", "push_time"),
    )
    op.create_table(
        "bodies",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("headers", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "channel_moves",
        sa.Column("id", sa.Text(), nullable=False),
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
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("channel_moves_by_channel", "channel_moves", ["app", "channel", "id"])
    op.create_index("channel_moves_by_image", "channel_moves", ["app", "repository", "tag"])
    op.create_index("channel_moves_by_digest", "channel_moves", ["app", "repository", "digest"])
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
    op.create_table(
        "channels",
        sa.Column("app", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("highest", sa.Text()),
        sa.Column("held_at", sa.BigInteger()),
        sa.Column("held_tag", sa.Text(), server_default="", nullable=False),
        sa.Column("held_action", sa.Text(), server_default="", nullable=False),
        sa.Column("lifted_above", sa.Text()),
        sa.Column("ordered", sa.Text()),
        sa.Column("action", sa.Text(), server_default="", nullable=False),
        sa.Column("source", sa.Text(), server_default="", nullable=False),
        sa.Column("sent", sa.Text(), server_default="", nullable=False),
        sa.Column("check_at", sa.BigInteger()),
        sa.Column("check_for", sa.Text(), server_default="", nullable=False),
        sa.Column("compared_at", sa.BigInteger()),
        sa.Column("drift", sa.Text(), server_default="", nullable=False),
        sa.Column("drift_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("app", "name"),
    )
    op.create_table(
        "cursors",
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("ran_at", sa.BigInteger()),
        sa.Column("problem", sa.Text(), server_default="", nullable=False),
        sa.Column("succeeded_at", sa.BigInteger()),
        sa.Column("unheard", sa.Integer(), server_default="0", nullable=False),
        sa.Column("unheard_after", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("repository"),
    )
    op.create_table(
        "deletions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("app", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("began_at", sa.BigInteger(), nullable=False),
        sa.Column("until_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger()),
        sa.Column("deleted", sa.Boolean()),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "deletions_of_target",
        "deletions",
        ["app", "version", "id"],
        sqlite_where=sa.text("deleted"),
        postgresql_where=sa.text("deleted"),
    )
    op.create_index("deletions_by_app", "deletions", ["app", "id"])
    op.create_index(
        "deletions_under_way",
        "deletions",
        ["app", "version"],
        unique=True,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_table(
        "deliveries",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("tag", sa.Text()),
        sa.Column("media_type", sa.Text()),
        sa.Column("pusher", sa.Text()),
        sa.Column("pushed_at", sa.BigInteger()),
        sa.Column("digest", sa.Text()),
        sa.Column("body_bytes", sa.Integer()),
        sa.Column("body_start", sa.Text()),
        sa.Column("address", sa.Text()),
        sa.Column("user_agent", sa.Text()),
        sa.Column("status", sa.Integer()),
        sa.Column("requested_by", sa.Text()),
        sa.Column("verdict", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("sentence", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "deliveries_ahead",
        "deliveries",
        ["repository", "tag"],
        sqlite_where=sa.text("pushed_at > received_at + 600000"),
        postgresql_where=sa.text("pushed_at > received_at + 600000"),
    )
    op.create_index("deliveries_by_repository", "deliveries", ["repository", "id"])
    op.create_index("deliveries_by_tag", "deliveries", ["repository", "tag", "id"])
    op.create_index(
        "deliveries_not_accepted",
        "deliveries",
        ["verdict", "id"],
        sqlite_where=sa.text("verdict <> 'accepted'"),
        postgresql_where=sa.text("verdict <> 'accepted'"),
    )
    op.create_table(
        "gates",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("closed", sa.Boolean(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("probes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("sentence", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "link_uses",
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("repository", "fingerprint"),
    )
    op.create_table(
        "meta",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "outbox",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("about", sa.Text()),
        sa.Column("tries", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("outbox_due", "outbox", ["due_at", "id"])
    op.create_table(
        "pauses",
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=False),
        sa.Column("source", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("repository"),
    )
    op.create_table(
        "refused_links",
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.Column("after_id", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("reason", "repository"),
    )
    op.create_table(
        "registrations",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("app", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("push_time", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.Text()),
        sa.Column("overwritten", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("replayed", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("by_hand", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("to_try", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text()),
        sa.Column("reason", sa.Text()),
        sa.Column("sentence", sa.Text(), server_default="", nullable=False),
        sa.Column("notes", sa.Text(), server_default="[]", nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("crashes", sa.Integer(), server_default="0", nullable=False),
        sa.Column("look_again", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("waiting_reason", sa.Text()),
        sa.Column("waiting_since", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("waiting_first", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("waits", sa.Integer(), server_default="0", nullable=False),
        sa.Column("lease_owner", sa.Text()),
        sa.Column("lease_until", sa.BigInteger()),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("finished_at", sa.BigInteger()),
        sa.Column("dismissed_at", sa.BigInteger()),
        sa.Column("dismissed_by", sa.Text()),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "registrations_alone",
        "registrations",
        ["crashes"],
        sqlite_where=sa.text("crashes >= 5 AND state NOT IN ('done', 'parked', 'working')"),
        postgresql_where=sa.text("crashes >= 5 AND state NOT IN ('done', 'parked', 'working')"),
    )
    op.create_index(
        "registrations_begun",
        "registrations",
        ["app", "attempts"],
        sqlite_where=sa.text("attempts > 0 AND state <> 'done'"),
        postgresql_where=sa.text("attempts > 0 AND state <> 'done'"),
    )
    op.create_index("registrations_by_state", "registrations", ["state", "id"])
    op.create_index(
        "registrations_digests",
        "registrations",
        ["repository", "tag", "id"],
        sqlite_where=sa.text("digest IS NOT NULL"),
        postgresql_where=sa.text("digest IS NOT NULL"),
    )
    op.create_index(
        "registrations_done",
        "registrations",
        ["app", "version", "id"],
        sqlite_where=sa.text("state = 'done'"),
        postgresql_where=sa.text("state = 'done'"),
    )
    op.create_index(
        "registrations_due",
        "registrations",
        ["due_at", "id"],
        sqlite_where=sa.text("state NOT IN ('done', 'parked', 'working') AND mode <> 'trial'"),
        postgresql_where=sa.text("state NOT IN ('done', 'parked', 'working') AND mode <> 'trial'"),
    )
    op.create_index(
        "registrations_due_trials",
        "registrations",
        ["due_at", "id"],
        sqlite_where=sa.text("state NOT IN ('done', 'parked', 'working') AND mode = 'trial'"),
        postgresql_where=sa.text("state NOT IN ('done', 'parked', 'working') AND mode = 'trial'"),
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
        ["app", "version", "repository", "tag", "mode"],
        unique=True,
        sqlite_where=sa.text("state <> 'done'"),
        postgresql_where=sa.text("state <> 'done'"),
    )
    succeeded = "state = 'done' AND outcome IN ('created', 'updated', 'unchanged', 'passed')"
    op.create_index(
        "registrations_succeeded",
        "registrations",
        ["app", "version", "mode", "push_time"],
        sqlite_where=sa.text(succeeded),
        postgresql_where=sa.text(succeeded),
    )
    op.create_index(
        "registrations_created",
        "registrations",
        ["rule", "push_time"],
        sqlite_where=sa.text(f"mode = 'create' AND {succeeded}"),
        postgresql_where=sa.text(f"mode = 'create' AND {succeeded}"),
    )
    parked = "state NOT IN ('queued', 'waiting', 'working', 'done')"
    op.create_index(
        "registrations_parked",
        "registrations",
        ["rule", "reason"],
        sqlite_where=sa.text(parked),
        postgresql_where=sa.text(parked),
    )
    op.create_index(
        "registrations_overwritten",
        "registrations",
        ["id"],
        sqlite_where=sa.text("overwritten"),
        postgresql_where=sa.text("overwritten"),
    )
    op.create_table(
        "replicas",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner"),
    )
    op.create_table(
        "revocations",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("revoked_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "secret_keys",
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("salt", sa.Text(), nullable=False),
        sa.Column("adopted_at", sa.BigInteger(), nullable=False),
        sa.Column("replaced_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("fingerprint"),
    )
    op.create_table(
        "sent_settings",
        sa.Column("app", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("registration_id", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("app", "version"),
    )
    op.create_table(
        "targets",
        sa.Column("app", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text()),
        sa.Column("push_time", sa.BigInteger(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("created_here", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("made_at", sa.BigInteger()),
        sa.Column("by_hand", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("deleted_at", sa.BigInteger()),
        sa.Column("registration_id", sa.Text()),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("app", "version"),
    )
    op.create_index("targets_by_registration", "targets", ["registration_id"])
    counted = "mode = 'create' AND created_here AND NOT by_hand AND deleted_at IS NULL"
    for name, columns, where in (
        ("targets_moving", ["app", "version"], "mode <> 'create'"),
        ("targets_live", ["app", "version"], "deleted_at IS NULL"),
        (
            "targets_made",
            ["made_at"],
            "made_at IS NOT NULL AND mode = 'create' AND deleted_at IS NULL",
        ),
        ("targets_counted", ["app", "push_time"], counted),
        ("targets_by_push_time", ["app", "push_time"], "push_time > 0"),
    ):
        op.create_index(
            name,
            "targets",
            columns,
            sqlite_where=sa.text(where),
            postgresql_where=sa.text(where),
        )
    op.create_table(
        "trials",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("registration_id", sa.Text(), nullable=False),
        sa.Column("app", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("repository", sa.Text(), nullable=False),
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text()),
        sa.Column("at", sa.Text(), nullable=False),
        sa.Column("keep", sa.BigInteger()),
        sa.Column("request_id", sa.Text()),
        sa.Column("requested_at", sa.BigInteger()),
        sa.Column("ready_at", sa.BigInteger()),
        sa.Column("left_at", sa.BigInteger()),
        sa.Column("unread_at", sa.BigInteger()),
        sa.Column("decided_at", sa.BigInteger()),
        sa.Column("passed", sa.Boolean()),
        sa.Column("why", sa.Text(), server_default="", nullable=False),
        sa.Column("exit_code", sa.BigInteger()),
        sa.Column("log", sa.Text(), server_default="[]", nullable=False),
        sa.Column("notes", sa.Text(), server_default="[]", nullable=False),
        sa.Column("stop_at", sa.BigInteger()),
        sa.Column("stopped_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("trials_by_digest", "trials", ["app", "repository", "digest", "id"])
    op.create_index("trials_by_image", "trials", ["app", "repository", "tag", "id"])
    op.create_index("trials_by_registration", "trials", ["registration_id", "id"])
    op.create_index(
        "trials_running",
        "trials",
        ["requested_at"],
        sqlite_where=sa.text("stopped_at IS NULL"),
        postgresql_where=sa.text("stopped_at IS NULL"),
    )
    op.create_table(
        "requests",
        sa.Column("registration_id", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("milliseconds", sa.Integer()),
        sa.Column("message", sa.Text(), server_default="", nullable=False),
        sa.Column("effect", sa.Text(), server_default="unknown", nullable=False),
        sa.ForeignKeyConstraint(["registration_id"], ["registrations.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("registration_id", "attempt", "step"),
    )
    op.create_index("requests_by_time", "requests", ["at"])
    op.create_table(
        "led_to",
        sa.Column("delivery_id", sa.Text(), nullable=False),
        sa.Column("registration_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["delivery_id"], ["deliveries.id"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["registration_id"], ["registrations.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("delivery_id", "registration_id"),
    )
    op.create_index("led_to_by_registration", "led_to", ["registration_id", "delivery_id"])
    op.execute("INSERT INTO meta (key, value) VALUES ('serves_schema', '0001')")

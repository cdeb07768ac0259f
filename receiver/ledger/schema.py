"""The ledger's tables, for SQLite and PostgreSQL alike. Times are UTC epoch milliseconds.

Migrations in `migrations/` lead here; a test proves that they do.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    event,
    text,
)

SCHEMA = "0001"  # the newest migration
SERVES_SCHEMA = "0001"  # the oldest one whose programs may work on it

metadata = MetaData()


def _partial(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    """Return an index over the rows that meet a condition."""
    return Index(name, *columns, unique=unique, info={"where": where})


@event.listens_for(metadata, "before_create")
def _add_conditions(target: MetaData, connection: Connection, **_: object) -> None:
    """Give the partial indexes their conditions: in advance, both dialects would be loaded."""
    for table in target.tables.values():
        for index in table.indexes:
            if "where" in index.info:
                options = index.dialect_options[connection.dialect.name]
                options["where"] = text(index.info["where"])


# Deliveries: one row for each report of a push, with the parsed fields of a body, and its beginning
# if it led to nothing.
deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Text, primary_key=True),
    Column("received_at", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("repository", Text, nullable=False),
    Column("tag", Text),
    Column("media_type", Text),
    Column("pusher", Text),
    Column("pushed_at", BigInteger),
    Column("digest", Text),
    Column("body_bytes", Integer),
    Column("body_start", Text),
    Column("address", Text),
    Column("user_agent", Text),
    Column("status", Integer),
    Column("requested_by", Text),
    Column("verdict", Text, nullable=False),
    Column("reason", Text),
    Column("sentence", Text, nullable=False, server_default=""),
    Index("deliveries_by_repository", "repository", "id"),
    Index("deliveries_by_tag", "repository", "tag", "id"),
    _partial("deliveries_ahead", "repository", "tag", where="pushed_at > received_at + 600000"),
    _partial("deliveries_not_accepted", "verdict", "id", where="verdict <> 'accepted'"),
)

# Bodies: what was sent with a delivery, while `[ledger] bodies` wants it.
bodies = Table(
    "bodies",
    metadata,
    Column("id", Text, primary_key=True),  # the delivery's
    Column("headers", Text, nullable=False),
    Column("body", Text, nullable=False),
)

# How a registration ends that closes what was parked before it.
SUCCEEDED = "state = 'done' AND outcome IN ('created', 'updated', 'unchanged', 'passed')"

# What is parked, in words for which SQLite does not take the index by state.
PARKED = "state NOT IN ('queued', 'waiting', 'working', 'done')"

# The work that makes one image reference one Edgegap version. No settings: they are in the rule.
registrations = Table(
    "registrations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("rule", Text, nullable=False),
    Column("app", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("mode", Text, nullable=False),
    Column("repository", Text, nullable=False),
    Column("tag", Text, nullable=False),
    Column("push_time", BigInteger, nullable=False),
    Column("digest", Text),
    Column("overwritten", Boolean, nullable=False, server_default=text("false")),
    Column("replayed", Boolean, nullable=False, server_default=text("false")),
    Column("by_hand", Boolean, nullable=False, server_default=text("false")),
    Column("to_try", Boolean, nullable=False, server_default=text("false")),
    Column("state", Text, nullable=False),
    Column("outcome", Text),
    Column("reason", Text),
    Column("sentence", Text, nullable=False, server_default=""),
    Column("notes", Text, nullable=False, server_default="[]"),
    Column("due_at", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("crashes", Integer, nullable=False, server_default="0"),
    Column("look_again", Boolean, nullable=False, server_default=text("false")),
    Column("waiting_reason", Text),
    Column("waiting_since", BigInteger, nullable=False, server_default="0"),
    Column("waiting_first", BigInteger, nullable=False, server_default="0"),
    Column("waits", Integer, nullable=False, server_default="0"),
    Column("lease_owner", Text),
    Column("lease_until", BigInteger),
    Column("fence", BigInteger, nullable=False, server_default="0"),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("finished_at", BigInteger),
    Column("dismissed_at", BigInteger),
    Column("dismissed_by", Text),
    _partial(
        "registrations_open",
        "app",
        "version",
        "repository",
        "tag",
        "mode",
        unique=True,
        where="state <> 'done'",
    ),
    _partial("registrations_one_working", "app", "version", unique=True, where="state = 'working'"),
    _partial(
        "registrations_due",
        "due_at",
        "id",
        where="state NOT IN ('done', 'parked', 'working') AND mode <> 'trial'",
    ),
    _partial(
        "registrations_due_trials",
        "due_at",
        "id",
        where="state NOT IN ('done', 'parked', 'working') AND mode = 'trial'",
    ),
    _partial(
        "registrations_alone",
        "crashes",
        where="crashes >= 5 AND state NOT IN ('done', 'parked', 'working')",
    ),
    _partial("registrations_begun", "app", "attempts", where="attempts > 0 AND state <> 'done'"),
    Index("registrations_by_state", "state", "id"),
    _partial("registrations_digests", "repository", "tag", "id", where="digest IS NOT NULL"),
    _partial("registrations_overwritten", "id", where="overwritten"),
    _partial("registrations_done", "app", "version", "id", where="state = 'done'"),
    _partial("registrations_succeeded", "app", "version", "mode", "push_time", where=SUCCEEDED),
    _partial(
        "registrations_created", "rule", "push_time", where=f"mode = 'create' AND {SUCCEEDED}"
    ),
    _partial("registrations_parked", "rule", "reason", where=PARKED),
)

# Which delivery led to which registration.
led_to = Table(
    "led_to",
    metadata,
    Column("delivery_id", ForeignKey("deliveries.id", ondelete="CASCADE"), nullable=False),
    Column("registration_id", ForeignKey("registrations.id", ondelete="CASCADE"), nullable=False),
    PrimaryKeyConstraint("delivery_id", "registration_id"),
    Index("led_to_by_registration", "registration_id", "delivery_id"),
)

# Each request of each attempt. A row without a status was sent and never answered. `effect` says
# whether a write took effect: `done`, `none`, or `unknown` if its answer does not show that.
requests = Table(
    "requests",
    metadata,
    Column("registration_id", ForeignKey("registrations.id", ondelete="CASCADE"), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("method", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("status", Integer),
    Column("milliseconds", Integer),
    Column("message", Text, nullable=False, server_default=""),
    Column("effect", Text, nullable=False, server_default="unknown"),
    PrimaryKeyConstraint("registration_id", "attempt", "step"),
    Index("requests_by_time", "at"),
)

# The versions that retention counts.
COUNTED = "mode = 'create' AND created_here AND NOT by_hand AND deleted_at IS NULL"

# All of them. It is a condition so that SQLite takes this index where a query has it, only.
DATED = "push_time > 0"

# What each target holds.
targets = Table(
    "targets",
    metadata,
    Column("app", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("repository", Text, nullable=False),
    Column("tag", Text, nullable=False),
    Column("digest", Text),
    Column("push_time", BigInteger, nullable=False),
    Column("mode", Text, nullable=False),
    Column("created_here", Boolean, nullable=False, server_default=text("false")),
    Column("made_at", BigInteger),
    Column("by_hand", Boolean, nullable=False, server_default=text("false")),
    Column("deleted_at", BigInteger),
    Column("registration_id", Text),
    Column("updated_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("app", "version"),
    Index("targets_by_registration", "registration_id"),
    _partial("targets_moving", "app", "version", where="mode <> 'create'"),
    _partial(
        "targets_made",
        "made_at",
        where="made_at IS NOT NULL AND mode = 'create' AND deleted_at IS NULL",
    ),
    _partial("targets_live", "app", "version", where="deleted_at IS NULL"),
    _partial("targets_counted", "app", "push_time", where=COUNTED),
    _partial("targets_by_push_time", "app", "push_time", where=DATED),
)

# What a channel follows, beside what it holds in `targets`. A hold lasts while `held_at` is set.
channels = Table(
    "channels",
    metadata,
    Column("app", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("highest", Text),
    Column("held_at", BigInteger),
    Column("held_tag", Text, nullable=False, server_default=""),
    Column("held_action", Text, nullable=False, server_default=""),
    Column("lifted_above", Text),
    Column("ordered", Text),
    Column("action", Text, nullable=False, server_default=""),
    Column("source", Text, nullable=False, server_default=""),
    Column("sent", Text, nullable=False, server_default=""),
    Column("check_at", BigInteger),
    Column("check_for", Text, nullable=False, server_default=""),
    Column("compared_at", BigInteger),
    Column("drift", Text, nullable=False, server_default=""),
    Column("drift_at", BigInteger),
    PrimaryKeyConstraint("app", "name"),
)

# Each move of a channel: kept as long as the target, unlike the deliveries that led to it.
channel_moves = Table(
    "channel_moves",
    metadata,
    Column("id", Text, primary_key=True),
    Column("app", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("from_repository", Text),
    Column("from_tag", Text),
    Column("repository", Text, nullable=False),
    Column("tag", Text, nullable=False),
    Column("digest", Text),
    Column("push_time", BigInteger, nullable=False),
    Column("action", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("registration_id", Text, nullable=False),
    Index("channel_moves_by_channel", "app", "channel", "id"),
    Index("channel_moves_by_image", "app", "repository", "tag"),
    Index("channel_moves_by_digest", "app", "repository", "digest"),
)

# What was reported to a channel of each tag, moved or not: a repeated report moves nothing.
channel_reports = Table(
    "channel_reports",
    metadata,
    Column("app", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("repository", Text, nullable=False),
    Column("tag", Text, nullable=False),
    Column("digest", Text),
    Column("push_time", BigInteger, nullable=False),
    Column("registration_id", Text, nullable=False),
    PrimaryKeyConstraint("app", "channel", "repository", "tag"),
)

# Each trial of a version: its deployment, requested but not yet known without a `request_id`, and
# the verdict (`passed`), which counts for the image's digest. It runs until `stopped_at`.
trials = Table(
    "trials",
    metadata,
    Column("id", Text, primary_key=True),
    Column("registration_id", Text, nullable=False),
    Column("app", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("repository", Text, nullable=False),
    Column("tag", Text, nullable=False),
    Column("digest", Text),
    Column("at", Text, nullable=False),
    Column("keep", BigInteger),
    Column("request_id", Text),
    Column("requested_at", BigInteger),
    Column("ready_at", BigInteger),
    Column("left_at", BigInteger),
    Column("unread_at", BigInteger),
    Column("decided_at", BigInteger),
    Column("passed", Boolean),
    Column("why", Text, nullable=False, server_default=""),
    Column("exit_code", BigInteger),
    Column("log", Text, nullable=False, server_default="[]"),
    Column("notes", Text, nullable=False, server_default="[]"),
    Column("stop_at", BigInteger),
    Column("stopped_at", BigInteger),
    Index("trials_by_registration", "registration_id", "id"),
    Index("trials_by_image", "app", "repository", "tag", "id"),
    Index("trials_by_digest", "app", "repository", "digest", "id"),
    _partial("trials_running", "requested_at", where="stopped_at IS NULL"),
)

# Who approved the move of a channel to an image, when, and from which address. The image is that
# of a digest; if no digest is known, that of a push.
approvals = Table(
    "approvals",
    metadata,
    Column("app", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("repository", Text, nullable=False),
    Column("tag", Text, nullable=False),
    Column("digest", Text, nullable=False, server_default=""),
    Column("push_time", BigInteger, nullable=False, server_default="0"),
    Column("at", BigInteger, nullable=False),
    Column("approver", Text, nullable=False),
    Column("address", Text, nullable=False, server_default=""),
    PrimaryKeyConstraint("app", "channel", "repository", "tag", "digest", "push_time"),
)

# The settings that a version was last sent, as JSON: hidden values are keyed hashes.
sent_settings = Table(
    "sent_settings",
    metadata,
    Column("app", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("registration_id", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("settings", Text, nullable=False),
    PrimaryKeyConstraint("app", "version"),
)

# What holds all work back: "busy" until a time, "token" until a probe succeeds.
gates = Table(
    "gates",
    metadata,
    Column("name", Text, primary_key=True),
    Column("closed", Boolean, nullable=False),
    Column("until", BigInteger, nullable=False),
    Column("probes", Integer, nullable=False, server_default="0"),
    Column("since", BigInteger, nullable=False),
    Column("sentence", Text, nullable=False, server_default=""),
)

# How far catch-up has come with each repository; and how many pushes in a row it found that no
# webhook reported (`unheard`) after the delivery `unheard_after`.
cursors = Table(
    "cursors",
    metadata,
    Column("repository", Text, primary_key=True),
    Column("since", BigInteger, nullable=False),
    Column("ran_at", BigInteger),
    Column("problem", Text, nullable=False, server_default=""),
    Column("succeeded_at", BigInteger),
    Column("unheard", Integer, nullable=False, server_default="0"),
    Column("unheard_after", Text, nullable=False, server_default=""),
)

# Repositories whose registrations are held back by a person; `*` is all of them.
pauses = Table(
    "pauses",
    metadata,
    Column("repository", Text, primary_key=True),
    Column("since", BigInteger, nullable=False),
    Column("source", Text, nullable=False, server_default=""),
)

# Each try to delete an old version, written before Edgegap is asked. While `ended_at` is missing
# no replica works on that target; from `until_at` on any replica may check whether it was deleted.
deletions = Table(
    "deletions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("app", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("began_at", BigInteger, nullable=False),
    Column("until_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("deleted", Boolean),
    _partial("deletions_of_target", "app", "version", "id", where="deleted"),
    Index("deletions_by_app", "app", "id"),
    _partial("deletions_under_way", "app", "version", unique=True, where="ended_at IS NULL"),
)

# Notifications that are still to be sent. `about` is the ID of the registration or delivery that it
# is about: the links to it, and to approve it, are made when the notification is sent.
outbox = Table(
    "outbox",
    metadata,
    Column("id", Text, primary_key=True),
    Column("destination", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("about", Text),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("created_at", BigInteger, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Index("outbox_due", "due_at", "id"),
)

# Requests with a link that opens nothing, by reason and, if it is known, by repository (else "").
# `after_id` is the repository's newest delivery when the last of them came.
refused_links = Table(
    "refused_links",
    metadata,
    Column("reason", Text, nullable=False),
    Column("repository", Text, nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("first_at", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    Column("after_id", Text, nullable=False, server_default=""),
    PrimaryKeyConstraint("reason", "repository"),
)

# The keys that links were signed with, as scrypt hashes: a backup must not help to guess one.
secret_keys = Table(
    "secret_keys",
    metadata,
    Column("fingerprint", Text, primary_key=True),
    Column("salt", Text, nullable=False),
    Column("adopted_at", BigInteger, nullable=False),
    Column("replaced_at", BigInteger),
)

# When a repository's link by each of these keys was used last.
link_uses = Table(
    "link_uses",
    metadata,
    Column("repository", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("used_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("repository", "fingerprint"),
)

# Which receivers work on this ledger, if there are several (PostgreSQL).
replicas = Table(
    "replicas",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("seen_at", BigInteger, nullable=False),
)

# API tokens and sessions that were ended before their time, until they would have expired.
revocations = Table(
    "revocations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("expires_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger, nullable=False),
)

meta = Table(
    "meta",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

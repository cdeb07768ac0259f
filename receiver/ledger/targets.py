"""What targets hold and held before: for rollback, for retention, for the page."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from receiver.images import ImageReference
from receiver.ledger.channels import before
from receiver.ledger.schema import led_to
from receiver.ledger.transactions import Tx
from receiver.rules import Mode

_COLUMNS = """app, version, mode, repository, tag, digest, push_time, created_here,
  made_at, deleted_at, by_hand, registration_id"""
_MOVING = "SELECT version FROM targets WHERE app = :app AND mode <> 'create'"
_UNPROVEN = """SELECT r.version FROM registrations r WHERE r.app = :app AND r.state <> 'done'
 AND EXISTS (SELECT 1 FROM attempts a WHERE a.registration_id = r.id AND a.method = 'POST'
  AND a.effect <> 'none')"""


@dataclass(frozen=True, slots=True)
class NotCopied:
    """Versions of an app that settings are not copied from.

    `channels` move from push to push. `unproven`: a request of ours may have made them, but they
    have not been compared with it yet, or differ from it.
    """

    channels: frozenset[str] = frozenset()
    unproven: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Target:
    """One target as the ledger knows it. Times in epoch milliseconds.

    `before` is what a rollback of a channel puts back. `by_hand`: a person asked for it, and
    retention leaves it alone.
    """

    app: str
    version: str
    mode: str
    repository: str
    tag: str
    digest: str | None
    push_time: int
    before: ImageReference | None
    created_here: bool
    made_at: int | None
    deleted_at: int | None
    registration: str | None
    by_hand: bool = False


def targets_of(tx: Tx, app: str) -> list[Target]:
    """Return all that the ledger knows of an app's targets."""
    rows = tx.run(f"SELECT {_COLUMNS} FROM targets WHERE app = :app ORDER BY version", app=app)  # noqa: S608 - no outside text
    return [_target(tx, dict(row)) for row in rows.mappings().all()]


def target(tx: Tx, app: str, version: str) -> Target | None:
    """Return one target, None when the ledger knows nothing of it."""
    return next((one for one in targets_of(tx, app) if one.version == version), None)


def not_copied(tx: Tx, app: str) -> NotCopied:
    """Return which of an app's versions no other version may be copied from."""
    moving = tx.run(_MOVING, app=app)
    unproven = tx.run(_UNPROVEN, app=app)
    return NotCopied(
        frozenset(str(row.version) for row in moving),
        frozenset(str(row.version) for row in unproven),
    )


def rule_of(tx: Tx, registration: str) -> str | None:
    """Return the name of the rule that a registration was made by."""
    found = tx.run("SELECT rule FROM registrations WHERE id = :id", id=registration).scalar()
    return None if found is None else str(found)


def last_deliveries(tx: Tx, registrations: Iterable[str | None]) -> dict[str, str]:
    """Return the newest delivery of each of these registrations, where the ledger still has it."""
    wanted = [one for one in registrations if one is not None]
    query = (
        select(led_to.c.registration_id, func.max(led_to.c.delivery_id).label("delivery"))
        .where(led_to.c.registration_id.in_(wanted))
        .group_by(led_to.c.registration_id)
    )
    rows = tx.connection.execute(query)
    return {str(row.registration_id): str(row.delivery) for row in rows}


def _target(tx: Tx, row: dict[str, Any]) -> Target:
    image = ImageReference(repository=row["repository"], tag=row["tag"])
    channel = row["mode"] == Mode.CHANNEL
    return Target(
        app=row["app"],
        version=row["version"],
        mode=row["mode"],
        repository=row["repository"],
        tag=row["tag"],
        digest=row["digest"],
        push_time=row["push_time"],
        before=before(tx, row["app"], row["version"], image) if channel else None,
        created_here=bool(row["created_here"]),
        made_at=row["made_at"],
        deleted_at=row["deleted_at"],
        registration=row["registration_id"],
        by_hand=bool(row["by_hand"]),
    )

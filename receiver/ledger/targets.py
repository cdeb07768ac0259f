"""What targets hold and held before: for rollback, for retention, for the page."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from receiver.ledger.ids import new_id
from receiver.ledger.schema import led_to
from receiver.ledger.transactions import Tx

RETIREMENT = "t"

_COLUMNS = """app, version, mode, repository, tag, digest, push_time, held_before, created_here,
  made_at, retired_at, registration_id"""
_RETIREMENT = """INSERT INTO retirements (id, app, version, at, retired, why)
 VALUES (:id, :app, :version, :now, :retired, :why)"""

_MOVING = "SELECT version FROM targets WHERE app = :app AND mode <> 'create'"
_UNPROVEN = """SELECT r.version FROM registrations r WHERE r.app = :app AND r.state <> 'done'
 AND EXISTS (SELECT 1 FROM attempts a WHERE a.registration_id = r.id AND a.method = 'POST'
  AND (a.status IS NULL OR a.status NOT BETWEEN 300 AND 499 OR a.status = 408))"""
_RETIREMENTS = """SELECT version, at, retired, why FROM retirements WHERE app = :app
 ORDER BY id DESC LIMIT :most"""
MOST_RETIREMENTS = 20


@dataclass(frozen=True, slots=True)
class NotCopied:
    """Versions of an app that settings are not copied from.

    `channels` move from push to push. `unproven`: a request of ours may have made them, but they
    have not been compared with it yet, or differ from it.
    """

    channels: frozenset[str] = frozenset()
    unproven: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Before:
    """What a moving target held before it was moved last."""

    repository: str
    tag: str
    digest: str | None


@dataclass(frozen=True, slots=True)
class Target:
    """One target as the ledger knows it. Times in epoch milliseconds."""

    app: str
    version: str
    mode: str
    repository: str
    tag: str
    digest: str | None
    push_time: int
    before: Before | None
    created_here: bool
    made_at: int | None
    retired_at: int | None
    registration: str | None


def targets_of(tx: Tx, app: str) -> list[Target]:
    """Return all that the ledger knows of an app's targets."""
    rows = tx.run(f"SELECT {_COLUMNS} FROM targets WHERE app = :app ORDER BY version", app=app)  # noqa: S608 - no outside text
    return [_target(dict(row)) for row in rows.mappings()]


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


def note_retirement(tx: Tx, app: str, version: str, *, retired: bool, why: str) -> None:
    """Record that a version was deleted, or why it was left."""
    identity = new_id(RETIREMENT, tx.now)
    tx.run(_RETIREMENT, id=identity, app=app, version=version, retired=retired, why=why, now=tx.now)
    if retired:
        tx.run(
            "UPDATE targets SET retired_at = :now WHERE app = :app AND version = :version",
            app=app,
            version=version,
            now=tx.now,
        )


def last_retirements(tx: Tx, app: str) -> list[dict[str, Any]]:
    """Return the last versions of an app that were tried to be deleted, the newest first."""
    rows = tx.run(_RETIREMENTS, app=app, most=MOST_RETIREMENTS).mappings()
    return [{**row, "retired": bool(row["retired"])} for row in rows]


def _target(row: dict[str, Any]) -> Target:
    before = json.loads(row["held_before"]) if row["held_before"] else None
    return Target(
        app=row["app"],
        version=row["version"],
        mode=row["mode"],
        repository=row["repository"],
        tag=row["tag"],
        digest=row["digest"],
        push_time=row["push_time"],
        before=before and Before(before["repository"], before["tag"], before["digest"]),
        created_here=bool(row["created_here"]),
        made_at=row["made_at"],
        retired_at=row["retired_at"],
        registration=row["registration_id"],
    )

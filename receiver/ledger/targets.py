"""What targets hold and held before: for rollback, for retention, for the page."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from receiver.images import ImageReference
from receiver.ledger.channels import before
from receiver.ledger.ids import new_id
from receiver.ledger.schema import led_to
from receiver.ledger.transactions import Tx
from receiver.rules import Mode

RETIREMENT = "t"

_COLUMNS = """app, version, mode, repository, tag, digest, push_time, created_here,
  made_at, retired_at, registration_id"""
_RETIREMENT = """INSERT INTO retirements (id, app, version, at, retired, why)
 VALUES (:id, :app, :version, :now, :retired, :why)"""

_RETIREMENTS = """SELECT version, at, retired, why FROM retirements WHERE app = :app
 ORDER BY id DESC LIMIT :most"""
MOST_RETIREMENTS = 20


@dataclass(frozen=True, slots=True)
class Target:
    """One target as the ledger knows it. Times in epoch milliseconds.

    `before` is what a rollback of a channel puts back.
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
    retired_at: int | None
    registration: str | None


def targets_of(tx: Tx, app: str) -> list[Target]:
    """Return all that the ledger knows of an app's targets."""
    rows = tx.run(f"SELECT {_COLUMNS} FROM targets WHERE app = :app ORDER BY version", app=app)  # noqa: S608 - no outside text
    return [_target(tx, dict(row)) for row in rows.mappings().all()]


def target(tx: Tx, app: str, version: str) -> Target | None:
    """Return one target, None when the ledger knows nothing of it."""
    return next((one for one in targets_of(tx, app) if one.version == version), None)


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
        retired_at=row["retired_at"],
        registration=row["registration_id"],
    )

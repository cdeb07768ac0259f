"""What targets hold and held before: for rollback, for retention, for the page."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import Row, func, select

from receiver.images import ImageReference
from receiver.ledger.schema import COUNTED, deliveries, led_to, targets
from receiver.ledger.schema import registrations as work
from receiver.ledger.transaction import Tx
from receiver.rules.retention import Target
from receiver.rules.rule import Mode, Rule

_HOLDS = """INSERT INTO targets (app, version, mode, repository, tag, digest, push_time,
  created_here, made_at, by_hand, registration_id, updated_at)
 VALUES (:app, :version, :mode, :repository, :tag, :digest, :push_time, :created,
  CASE WHEN :created THEN :now END, :by_hand, :id, :now)
 ON CONFLICT (app, version) DO UPDATE SET repository = excluded.repository, tag = excluded.tag,
  digest = excluded.digest, push_time = excluded.push_time, updated_at = excluded.updated_at,
  registration_id = excluded.registration_id, mode = excluded.mode, by_hand = excluded.by_hand,
  created_here = CASE WHEN excluded.created_here THEN true ELSE targets.created_here END,
  made_at = CASE WHEN excluded.created_here THEN excluded.made_at ELSE targets.made_at END,
  deleted_at = CASE WHEN excluded.created_here THEN NULL ELSE targets.deleted_at END"""
STRETCH = 500  # at most this many of the newest deliveries of a tag or a repository are searched
# A report with a time that was not reported of the tag before; Docker Hub gives whole seconds.
_LATER = """SELECT 1 FROM deliveries d WHERE d.id IN ({which}) AND d.source <> 'command'
  AND d.pushed_at / 1000 > (SELECT coalesce(max(coalesce(e.pushed_at, e.received_at)) / 1000, -1)
   FROM (SELECT pushed_at, received_at FROM deliveries
    WHERE repository = d.repository AND tag = d.tag AND id < d.id ORDER BY id DESC LIMIT {most}) e)
 LIMIT 1"""
_ONE, _OF_REGISTRATION = (
    _LATER.format(which=which, most=STRETCH)
    for which in (":id", "SELECT delivery_id FROM led_to WHERE registration_id = :id")
)
# In a query of `registrations r`: only reports led to it, none of them replayed by a person.
BY_REPORTS = """NOT EXISTS (SELECT 1 FROM led_to l JOIN deliveries d ON d.id = l.delivery_id
   WHERE l.registration_id = r.id
    AND (d.source = 'command' OR d.received_at < r.created_at OR d.pushed_at IS NULL))"""
_BY_REPORTS = f"""SELECT 1 FROM registrations r
 WHERE r.id = :id AND NOT r.replayed AND {BY_REPORTS}"""  # noqa: S608 - constant SQL
_REPORTED = """SELECT 1 FROM led_to l JOIN deliveries d ON d.id = l.delivery_id
 WHERE l.registration_id = :id AND d.source <> 'command' LIMIT 1"""
# By the index `registrations_done`: the tag may have been pushed for many versions.
_DIGEST = """SELECT digest FROM registrations WHERE app = :app AND version = :version
  AND repository || '' = :repository AND tag = :tag
  AND id <> :id AND state = 'done' AND outcome IN ('created', 'updated', 'unchanged')
  AND digest IS NOT NULL ORDER BY id DESC LIMIT 1"""


_VERSION_WITH = """SELECT version FROM targets WHERE app = :app AND mode = 'create'
 AND deleted_at IS NULL AND repository = :repository AND tag = :tag
 ORDER BY updated_at DESC, version LIMIT 1"""


def digest_of_tag(
    tx: Tx, app: str, version: str, image: ImageReference, *, registration: str
) -> str | None:
    """Return the digest that this image's tag had when the target was last led to it.

    `registration` is the one that asks: it does not count itself.
    """
    present = read_target(tx, app, version)
    if present is not None and present.image == image:
        return present.digest
    tag = {"repository": image.repository, "tag": image.tag}
    found = tx.run(_DIGEST, id=registration, app=app, version=version, **tag).scalar()
    return None if found is None else str(found)


def is_new_push(tx: Tx, delivery: str) -> bool:
    """Return whether the delivery reports a later push of its tag than all earlier deliveries."""
    return tx.run(_ONE, id=delivery).first() is not None


def reports_new_push(tx: Tx, registration: str) -> bool:
    """Return whether a delivery of the registration reports a new push (see `is_new_push`)."""
    return tx.run(_OF_REGISTRATION, id=registration).first() is not None


def is_reported(tx: Tx, registration: str) -> bool:
    """Return whether a push that was reported led to it, and not only what a person requested."""
    return tx.run(_REPORTED, id=registration).first() is not None


def only_repeats(tx: Tx, registration: str) -> bool:
    """Return whether only repeated reports of an earlier push led to it, and no person."""
    reported = tx.run(_BY_REPORTS, id=registration).first() is not None
    return reported and not reports_new_push(tx, registration)


def store_target(
    tx: Tx,
    app: str,
    version: str,
    image: ImageReference,
    *,
    digest: str | None,
    push_time: int,
    registration: str,
    mode: Mode,
    created: bool,
    by_hand: bool = False,
) -> None:
    """Write down what a target has now.

    `by_hand`: a person asked for it, and its push is not the newest. So it stays until the tag is
    pushed again.
    """
    before = read_target(tx, app, version)
    if before is not None and before.image == image:
        digest = digest or before.digest  # this attempt learned none
        by_hand = by_hand or (before.by_hand and not reports_new_push(tx, registration))
        if by_hand or not before.by_hand:  # reported again, with an earlier time
            push_time = max(push_time, before.push_time)
    tx.run(
        _HOLDS,
        id=registration,
        app=app,
        version=version,
        mode=mode.value,
        repository=image.repository,
        tag=image.tag,
        digest=digest,
        push_time=push_time,
        created=created,
        by_hand=by_hand,
        now=tx.now,
    )


NAMES_AT_ONCE = 500

_COLUMNS = """version, mode, repository, tag, created_here, made_at, push_time, deleted_at, by_hand,
  registration_id, digest"""
_TARGET = f"""SELECT {_COLUMNS} FROM targets
 WHERE app = :app AND version = :version"""  # noqa: S608 - constant SQL
_LIVE = f"""SELECT {_COLUMNS} FROM targets
 WHERE app = :app AND deleted_at IS NULL ORDER BY version"""  # noqa: S608 - constant SQL
_ENDS = f"""SELECT {_COLUMNS} FROM targets
 WHERE app = :app AND {COUNTED} ORDER BY push_time {{order}} LIMIT :most"""  # noqa: S608 - constant SQL
_OLDEST, _NEWEST = _ENDS.format(order="ASC"), _ENDS.format(order="DESC")
_LAST_NAMES = """SELECT version FROM targets WHERE app = :app AND mode = 'create'
 ORDER BY version DESC LIMIT :most"""
_MOVING = "SELECT version FROM targets WHERE app = :app AND mode <> 'create'"
_UNPROVEN = """SELECT r.version FROM registrations r WHERE r.app = :app AND r.state <> 'done'
 AND r.attempts > 0 AND r.mode <> 'trial'
 AND EXISTS (SELECT 1 FROM requests a WHERE a.registration_id = r.id AND a.method = 'POST'
  AND a.effect <> 'none')"""


class NotCopied(msgspec.Struct, frozen=True):
    """Versions of an app that settings are not copied from.

    `channels` move from push to push. `unproven`: a request of ours may have made them, but they
    have not been compared with it yet, or differ from it.
    """

    channels: frozenset[str] = frozenset()
    unproven: frozenset[str] = frozenset()


def live_targets(tx: Tx, app: str) -> list[Target]:
    """Return what the ledger knows of an app's targets that were not deleted."""
    return [_target(row) for row in tx.run(_LIVE, app=app)]


def oldest_and_newest(tx: Tx, app: str, most: int) -> tuple[list[Target], list[Target]]:
    """Return the oldest and the newest `most` versions that retention counts, by push time.

    Each is returned once: fewer than twice `most` are all. They are read by index, however many
    there are between them.
    """
    oldest = tx.run(_OLDEST, app=app, most=most).all()
    known = {row.version for row in oldest}
    newest = tx.run(_NEWEST, app=app, most=most).all() if len(oldest) == most else []
    return (
        [_target(row) for row in oldest],
        [_target(row) for row in newest if row.version not in known],
    )


def are_all_later(tx: Tx, app: str, than: int) -> bool:
    """Return whether the app has versions of pushes, all pushed later than a time (epoch ms)."""
    oldest = tx.run(_OLDEST, app=app, most=1).first()
    return oldest is not None and int(oldest.push_time) > than


def moving_targets(tx: Tx, app: str, channels: Iterable[str]) -> list[Target]:
    """Return the app's targets that are no versions of their own, and those with these names."""
    moving = (str(row.version) for row in tx.run(_MOVING, app=app))
    return targets_named(tx, app, [*moving, *channels])


def targets_named(tx: Tx, app: str, versions: Iterable[str]) -> list[Target]:
    """Return what the ledger knows of these targets of an app."""
    names = sorted(set(versions))
    rows: list[Row[Any]] = []
    t = targets.c
    for some in _in_parts(names):
        query = select(targets).where(t.app == app, t.version.in_(some)).order_by(t.version)
        rows += tx.connection.execute(query).all()
    return [_target(row) for row in rows]


def version_with(tx: Tx, app: str, image: ImageReference) -> str | None:
    """Return the version that was created for an image, None if there is none any more."""
    tag = {"repository": image.repository, "tag": image.tag}
    found = tx.run(_VERSION_WITH, app=app, **tag).scalar()
    return None if found is None else str(found)


def read_target(tx: Tx, app: str, version: str) -> Target | None:
    """Return one target, None when the ledger knows nothing of it."""
    row = tx.run(_TARGET, app=app, version=version).first()
    return None if row is None else _target(row)


def last_names(tx: Tx, app: str, most: int) -> list[str]:
    """Return the last version names of an app, by alphabet."""
    return [str(row.version) for row in tx.run(_LAST_NAMES, app=app, most=most)][::-1]


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


def rule_to_repeat(tx: Tx, able: Sequence[Rule], registration: str) -> Rule | None:
    """Return which of these rules does again what a registration did: its own, else the first."""
    name = rule_of(tx, registration)
    return next((rule for rule in able if rule.name == name), able[0] if able else None)


class Origin(msgspec.Struct, frozen=True):
    """The newest push of a target: its delivery and pusher, None if purged or unknown.

    `took`: milliseconds from push to version, None if the push did not create it.
    """

    delivery: str | None = None
    pusher: str | None = None
    took: int | None = None


def origins(tx: Tx, registrations: Iterable[str]) -> dict[str, Origin]:
    """Return the newest push of each of these registrations, by the keys of both tables."""
    wanted = sorted({one for one in registrations if one})
    d, r, led = deliveries.c, work.c, led_to.c
    newest: dict[str, str] = {}
    pushers: dict[str, str | None] = {}
    took: dict[str, int] = {}
    for some in _in_parts(wanted):
        last = select(led.registration_id, func.max(led.delivery_id))
        query = last.where(led.registration_id.in_(some)).group_by(led.registration_id)
        newest |= {str(one): str(delivery) for one, delivery in tx.connection.execute(query)}
        made = select(r.id, r.finished_at - r.created_at).where(r.outcome == "created")
        rows = tx.connection.execute(made.where(r.id.in_(some)))
        took |= {str(identity): max(0, spent) for identity, spent in rows if spent is not None}
    for some in _in_parts(sorted(set(newest.values()))):
        query = select(d.id, d.pusher).where(d.id.in_(some))
        pushers |= {str(row.id): row.pusher for row in tx.connection.execute(query)}
    return {
        one: Origin(newest.get(one), pushers.get(newest.get(one, "")), took.get(one))
        for one in wanted
    }


def _in_parts(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for first in range(0, len(keys), NAMES_AT_ONCE):
        yield keys[first : first + NAMES_AT_ONCE]


def _target(row: Row[Any]) -> Target:
    return Target(
        version=row.version,
        mode=row.mode,
        repository=row.repository,
        tag=row.tag,
        created_here=bool(row.created_here),
        made_at=row.made_at,
        push_time=row.push_time,
        deleted_at=row.deleted_at,
        by_hand=bool(row.by_hand),
        registration=row.registration_id or "",
        digest=row.digest,
    )

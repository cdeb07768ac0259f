"""Parked registrations and how they are closed: dismissed by a person, or by a later success."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from receiver.ledger.channels import note_closed
from receiver.ledger.deliveries import COMMAND
from receiver.ledger.schema import PARKED, SUCCEEDED
from receiver.ledger.transaction import Tx
from receiver.ledger.views import Changed, ChangedRegistration, read_view
from receiver.reasons import REASONS
from receiver.rules.closing import Ended, is_closed_by
from receiver.rules.rule import Mode

EVERYTHING = 2**31
IN_IMAGE = ", ".join(f"'{reason}'" for reason, explained in REASONS.items() if explained.in_image)
_COLUMNS = "id, rule, app, version, tag, mode, push_time, reason"
# By the indexes `registrations_open` and `registrations_parked`.
_BESIDE = f"""SELECT {_COLUMNS} FROM registrations
 WHERE app = :app AND version = :version AND state <> 'done' AND state || '' = 'parked'
 UNION SELECT {_COLUMNS} FROM registrations
 WHERE rule = :rule AND {PARKED} AND reason IN ({IN_IMAGE}) ORDER BY id"""  # noqa: S608 - constant SQL
# The newest one is among those of the last second that has one, which an index by push time ends
# with. Docker Hub's times are whole seconds; within one the id decides.
_SUCCESS = f"""SELECT {_COLUMNS} FROM registrations
 WHERE {SUCCEEDED} AND {{which}} AND push_time >= (
  SELECT max(push_time) / 1000 * 1000 FROM registrations WHERE {SUCCEEDED} AND {{which}})
 ORDER BY id DESC LIMIT 1"""  # noqa: S608 - constant SQL
_OF_TARGET = _SUCCESS.format(which="app = :app AND version = :version AND mode = :mode")
_OF_RULE = _SUCCESS.format(which="rule = :rule AND mode = 'create'")
_CLOSE = """UPDATE registrations SET state = 'done', outcome = 'superseded', sentence = :sentence,
  finished_at = :now, updated_at = :now WHERE id = :id AND state = 'parked'"""
_NAMED = """SELECT id FROM registrations WHERE id = :id
 UNION SELECT registration_id FROM led_to WHERE delivery_id = :id"""
_COUNTS = """SELECT reason, count(*) AS alike FROM registrations WHERE state = 'parked'
 GROUP BY reason ORDER BY count(*) DESC, reason"""
_NEWEST = """SELECT app, version FROM registrations WHERE state = 'parked' AND reason = :reason
 ORDER BY id DESC LIMIT :most"""
_PARKED = "SELECT id FROM registrations WHERE state = 'parked' AND id > :after"
_DISMISS = """UPDATE registrations SET state = 'done', outcome = 'dismissed', dismissed_at = :now,
  dismissed_by = :by, updated_at = :now WHERE id = :id AND state = 'parked'
 RETURNING id, app, version, reason"""
_REOPEN = """UPDATE registrations SET state = 'parked', outcome = NULL, dismissed_at = NULL,
  dismissed_by = NULL, updated_at = :now
 WHERE id = :id AND state = 'done' AND outcome = 'dismissed' AND NOT EXISTS (
  SELECT 1 FROM registrations o WHERE o.app = registrations.app
   AND o.version = registrations.version AND o.repository = registrations.repository
   AND o.tag = registrations.tag AND o.mode = registrations.mode AND o.state <> 'done')
 RETURNING id, app, version, reason"""
_DELIVERY = "SELECT 1 FROM deliveries WHERE id = :id"
_OF_PERSON = """SELECT 1 FROM registrations r WHERE r.id = :id
 AND (r.replayed OR r.by_hand OR EXISTS (
  SELECT 1 FROM led_to l JOIN deliveries d ON d.id = l.delivery_id
   WHERE l.registration_id = r.id AND d.source = :command))"""
_ONE = f"SELECT {_COLUMNS} FROM registrations WHERE id = :id"  # noqa: S608 - constant SQL


def parked_of_target_or_rule(tx: Tx, *, rule: str, app: str, version: str) -> list[Ended]:
    """Return what is parked of this target, or under this rule because of its image."""
    rows = tx.run(_BESIDE, rule=rule, app=app, version=version).mappings()
    return [_ended(row) for row in rows]


def parked_in_short(tx: Tx, identity: str) -> tuple[str, str]:
    """Return the rule of a parked registration, and its target with what to do."""
    row = tx.run(
        "SELECT app, version, rule, sentence FROM registrations WHERE id = :id", id=identity
    ).one()
    return str(row.rule), f"{row.app}/{row.version} parked: {row.sentence}"


def close_parked(tx: Tx, identities: Iterable[str], tag: str) -> None:
    """End parked registrations: a later push, of this tag, took their place."""
    for identity in identities:
        tx.run(_CLOSE, id=identity, sentence=f"Closed: followed by {tag}.", now=tx.now)
        note_closed(tx, identity)


def parked_ids(tx: Tx, reason: str | None, *, after: str = "", most: int = EVERYTHING) -> list[str]:
    """Return the next ids of what is parked, or of what is parked for this reason."""
    which = f"{_PARKED}{'' if reason is None else ' AND reason = :reason'}"
    rows = tx.run(f"{which} ORDER BY id LIMIT :most", reason=reason, after=after, most=most)
    return [str(row.id) for row in rows]


class ParkedGroup(msgspec.Struct, frozen=True):
    """What is parked for one reason: how many, and the newest targets."""

    reason: str
    count: int
    targets: tuple[str, ...]


def parked_by_reason(tx: Tx, most: int) -> list[ParkedGroup]:
    """Return what is parked, the most frequent reason first, each with at most `most` targets."""
    return [
        ParkedGroup(
            str(row.reason),
            int(row.alike),
            tuple(
                f"{one.app}/{one.version}" for one in tx.run(_NEWEST, reason=row.reason, most=most)
            ),
        )
        for row in tx.run(_COUNTS).all()
    ]


def dismiss_parked(tx: Tx, identities: Iterable[str], by: str) -> Changed:
    """Close what is parked of these registrations and deliveries; `by` is the person who asked."""
    changed = _change(tx, identities, _DISMISS, by=by)
    for one in changed.registrations:
        note_closed(tx, one.id)
    return changed


def reopen(tx: Tx, identities: Iterable[str]) -> Changed:
    """Park again what was dismissed of these, unless a newer one is open for target and image.

    Registrations that a later push has superseded since are closed at once.
    """
    changed = _change(tx, identities, _REOPEN)
    reopened: list[ChangedRegistration] = []
    superseded: list[ChangedRegistration] = []
    for one in changed.registrations:
        success = later_success(tx, one.id)
        if success is None:
            reopened.append(one)
        else:
            close_parked(tx, [one.id], success.tag)
            superseded.append(one)
    return Changed(tuple(reopened), changed.missing, changed.unchanged, tuple(superseded))


def later_success(tx: Tx, identity: str) -> Ended | None:
    """Return the success that closes this parked registration, None if it stays open."""
    parked = _ended(tx.run(_ONE, id=identity).mappings().one())
    named = {"rule": parked.rule, "app": parked.app, "version": parked.version}
    for sql in (_OF_TARGET, _OF_RULE):
        found = tx.run(sql, **named, mode=parked.mode.value).mappings().first()
        if found is not None and is_closed_by(parked, success := _ended(found)):
            return success
    return None


def is_of_person(tx: Tx, identity: str) -> bool:
    """Return whether a person asked for the registration by a command or a replay."""
    return tx.run(_OF_PERSON, id=identity, command=COMMAND).first() is not None


def _ended(row: Mapping[Any, Any]) -> Ended:
    return Ended(**{**row, "reason": row["reason"] or "", "mode": Mode(row["mode"])})


def _change(tx: Tx, identities: Iterable[str], sql: str, **given: str) -> Changed:
    changed: list[ChangedRegistration] = []
    missing: list[str] = []
    unchanged: list[str] = []
    for identity in dict.fromkeys(identities):
        named = [str(row.id) for row in tx.run(_NAMED, id=identity)]
        found = [tx.run(sql, id=one, now=tx.now, **given).mappings().first() for one in named]
        rows = [row for row in found if row is not None]
        changed += [read_view(ChangedRegistration, row) for row in rows]
        if not named and tx.run(_DELIVERY, id=identity).first() is None:
            missing.append(identity)
        elif not rows:
            unchanged.append(identity)
    return Changed(tuple(changed), tuple(missing), tuple(unchanged), ())

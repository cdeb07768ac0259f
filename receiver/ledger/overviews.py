"""What the overview shows, each part from a small index or a bounded stretch of the newest rows.

So it answers as quickly over a million deliveries as over a hundred.
"""

from collections.abc import Iterable
from typing import Any

from receiver.ledger.channel_checks import CHANNELS, drifted
from receiver.ledger.cursors import read_cursors
from receiver.ledger.gates import closed_gates
from receiver.ledger.pauses import paused
from receiver.ledger.stories import Row, registrations_of
from receiver.ledger.transactions import Tx
from receiver.reasons import State
from receiver.rules import Rule

PICTURED = 50
MOST_PARKED = 20
STRETCH = 500  # so many of a repository's newest deliveries are looked through, no more

_NEWEST_OF_RULE = """SELECT d.id, d.received_at, d.repository, d.tag, r.id AS registration
 FROM (SELECT id, received_at, repository, tag FROM deliveries WHERE repository = :repository
        ORDER BY id DESC LIMIT :stretch) d
  JOIN led_to l ON l.delivery_id = d.id JOIN registrations r ON r.id = l.registration_id
 WHERE r.rule = :rule ORDER BY d.id DESC LIMIT 1"""
_LAST_USE = """SELECT max(received_at) FROM (SELECT received_at, source FROM deliveries
  WHERE repository = :repository ORDER BY id DESC LIMIT :stretch) d WHERE source = 'webhook'"""
_LAST = """SELECT id, app, version, tag, state, outcome, reason, created_at, finished_at
 FROM registrations ORDER BY id DESC LIMIT :most"""
_PARKED = """SELECT r.id, r.app, r.version, r.repository, r.tag, r.rule, r.reason, r.sentence,
  r.updated_at, (SELECT max(l.delivery_id) FROM led_to l WHERE l.registration_id = r.id)
   AS delivery
 FROM registrations r WHERE r.state = :state ORDER BY r.id DESC LIMIT :most"""
_COUNT = "SELECT count(*) FROM registrations WHERE state = :state"


def overview(tx: Tx, rules: Iterable[Rule]) -> Row:
    """Return how everything stands: by rule, by repository, what is parked, what is degraded."""
    known = list(rules)
    repositories = sorted({rule.repository for rule in known})
    cursors = {cursor.repository: cursor for cursor in read_cursors(tx)}
    pauses = paused(tx)
    channels = [(rule.app, name) for rule in known for name in rule.channels]
    return {
        "rules": [_rule(tx, rule) for rule in known],
        "repositories": [
            {
                "repository": repository,
                "last_use_at": _last_use(tx, repository),
                "paused_at": pauses.get(repository),
                "caught_up_at": cursors[repository].ran_at if repository in cursors else None,
                "catch_up_problem": cursors[repository].problem if repository in cursors else "",
            }
            for repository in repositories
        ],
        "parked": _rows(tx, _PARKED, state=State.PARKED.value, most=MOST_PARKED),
        "parked_count": tx.run(_COUNT, state=State.PARKED.value).scalar_one(),
        "last": _rows(tx, _LAST, most=PICTURED),
        "pauses": [{"repository": name, "since_at": since} for name, since in pauses.items()],
        "degraded": [
            {"name": gate.name, "sentence": gate.sentence, "since_at": gate.since}
            for gate in closed_gates(tx)
        ]
        + [
            {"name": CHANNELS, "sentence": sentence, "since_at": since}
            for sentence, since in drifted(tx, channels)
        ],
    }


def _rule(tx: Tx, rule: Rule) -> Row:
    """Return a rule with its newest push, and what became of it under this rule."""
    told: Row = {
        "rule": rule.name,
        "repository": rule.repository,
        "app": rule.app,
        "versions": rule.versions,
        "channels": list(rule.channels),
        "newest": None,
    }
    found = tx.run(
        _NEWEST_OF_RULE, repository=rule.repository, rule=rule.name, stretch=STRETCH
    ).mappings()
    newest = found.first()
    if newest is not None:
        became = [one for one in registrations_of(tx, [newest["id"]]) if one["rule"] == rule.name]
        told["newest"] = {
            "delivery": newest["id"],
            "received_at": newest["received_at"],
            "tag": newest["tag"],
            "registrations": became,
        }
    return told


def _last_use(tx: Tx, repository: str) -> int | None:
    used: int | None = tx.run(_LAST_USE, repository=repository, stretch=STRETCH).scalar()
    return used


def _rows(tx: Tx, sql: str, **params: Any) -> list[Row]:
    return [dict(row) for row in tx.run(sql, **params).mappings()]

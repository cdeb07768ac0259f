"""What the overview shows, each part from a small index or a bounded stretch of the newest rows.

So it answers as quickly over a million deliveries as over a hundred.
"""

from collections.abc import Iterable
from typing import Any

from receiver.hook_tokens import ACTIONABLE, what_to_do
from receiver.ledger.cursors import read_cursors
from receiver.ledger.pauses import paused
from receiver.ledger.refused_links import refused_links
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
_LAST_USE = """SELECT id, received_at FROM (SELECT id, received_at, source FROM deliveries
  WHERE repository = :repository ORDER BY id DESC LIMIT :stretch) d WHERE source = 'webhook'
 ORDER BY id DESC LIMIT 1"""
_LAST = """SELECT id, app, version, tag, state, outcome, reason, created_at, finished_at
 FROM registrations ORDER BY id DESC LIMIT :most"""
_PARKED = """SELECT r.id, r.app, r.version, r.repository, r.tag, r.rule, r.reason, r.sentence,
  r.updated_at, (SELECT max(l.delivery_id) FROM led_to l WHERE l.registration_id = r.id)
   AS delivery
 FROM registrations r WHERE r.state = :state ORDER BY r.id DESC LIMIT :most"""
_COUNT = "SELECT count(*) FROM registrations WHERE state = :state"


def overview(tx: Tx, rules: Iterable[Rule]) -> Row:
    """Return the state of everything by rule and by repository, and what is parked."""
    known = list(rules)
    repositories = sorted({rule.repository for rule in known})
    cursors = {cursor.repository: cursor for cursor in read_cursors(tx)}
    pauses = paused(tx)
    uses = {repository: last_use(tx, repository) for repository in repositories}
    return {
        "rules": [_rule(tx, rule) for rule in known],
        "repositories": [
            {
                "repository": repository,
                "last_use_at": used and used[1],
                "paused_at": pauses.get(repository),
                "caught_up_at": (
                    cursors[repository].succeeded_at if repository in cursors else None
                ),
                "catch_up_problem": cursors[repository].problem if repository in cursors else "",
            }
            for repository, used in uses.items()
        ],
        "parked": _rows(tx, _PARKED, state=State.PARKED.value, most=MOST_PARKED),
        "parked_count": tx.run(_COUNT, state=State.PARKED.value).scalar_one(),
        "last": _rows(tx, _LAST, most=PICTURED),
        "pauses": [{"repository": name, "since_at": since} for name, since in pauses.items()],
        "refused_links": [
            {
                "reason": one.reason.value,
                "repository": one.repository,
                "requests": one.requests,
                "first_at": one.first_at,
                "last_at": one.last_at,
                "message": what_to_do(one.reason, one.repository),
                "actionable": one.reason in ACTIONABLE,
            }
            for one in refused_links(tx)
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


def last_use(tx: Tx, repository: str) -> tuple[str, int] | None:
    """Return the last delivery by a repository's link, among its newest, and when (epoch ms)."""
    used = tx.run(_LAST_USE, repository=repository, stretch=STRETCH).first()
    return None if used is None else (used.id, used.received_at)


def _rows(tx: Tx, sql: str, **params: Any) -> list[Row]:
    return [dict(row) for row in tx.run(sql, **params).mappings()]

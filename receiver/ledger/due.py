"""Which registrations are worked on next.

First a step of each trial whose deployment may run: it costs money until it is stopped. Then
versions and channels, the oldest first. The other trials come last: hundreds may wait for room at
Edgegap, and would all be tried again before a new push gets its version.
"""

from collections.abc import Mapping
from typing import Any

from receiver.ledger.transaction import Tx
from receiver.ledger.trials import RUNNING

LEASE_MS = 30_000
CRASHES_TO_ALONE = 5  # after this many in a row nothing else is worked on with it
COLUMNS = """id, rule, app, version, mode, repository, tag, push_time, attempts, fence, crashes,
  waiting_reason, waiting_since, waiting_first, waits, created_at, digest, overwritten, replayed,
  by_hand, to_try"""

# A pause holds back what was not begun: a deployment that was requested is watched and stopped.
_GOES_ON = f"""(NOT EXISTS (SELECT 1 FROM pauses p WHERE p.repository IN ({{0}}.repository, '*'))
   OR {{0}}.id IN ({RUNNING}))"""  # noqa: S608 - our words
_TURN = f"""CASE WHEN {{0}}.mode <> 'trial' THEN 2 WHEN {{0}}.id IN ({RUNNING}) THEN 1
   ELSE 3 END"""

# Not `IN ('queued', 'waiting')`: for that SQLite takes the index by state, and sorts the whole
# queue; in these words it walks an index of what is due, and stops at the last one it needs.
# During an upgrade a newer replica may write modes that this version does not know: it skips them.
# Moves of a channel are claimed newest push first, so that older ones end as superseded.
# The selection is a separate query, so that PostgreSQL runs it once, whatever plan it uses.
_CLAIM = f"""WITH due AS MATERIALIZED (
  SELECT r.id FROM {{first}} registrations r
   WHERE r.state NOT IN ('done', 'parked', 'working') AND r.due_at <= :now
    AND r.mode IN ('create', 'channel', 'trial') AND {{which}}
    AND {_GOES_ON.format("r")}
    AND NOT EXISTS (SELECT 1 FROM registrations w
      WHERE w.app = r.app AND w.version = r.version AND w.state = 'working')
    AND NOT EXISTS (SELECT 1 FROM deletions d
      WHERE d.app = r.app AND d.version = r.version AND d.ended_at IS NULL)
    AND NOT EXISTS (SELECT 1 FROM registrations o
      WHERE o.app = r.app AND o.version = r.version AND o.state <> 'done'
       AND o.state NOT IN ('done', 'parked', 'working')
       AND o.due_at <= :now
       AND CASE WHEN r.mode = 'channel' THEN (o.push_time, o.id) > (r.push_time, r.id)
        ELSE ({_TURN.format("o")}, o.due_at, o.id) < ({_TURN.format("r")}, r.due_at, r.id) END
       AND {_GOES_ON.format("o")})
   ORDER BY r.due_at, r.id LIMIT :most {{lock}})
 UPDATE registrations SET state = 'working', lease_owner = :owner, lease_until = :until,
  attempts = attempts + 1, fence = fence + 1, look_again = false, updated_at = :now
 WHERE state NOT IN ('done', 'parked', 'working') AND id IN (SELECT id FROM due)
 RETURNING {COLUMNS}"""  # noqa: S608 - our words
_NOT_ALONE = f"r.crashes < {CRASHES_TO_ALONE}"
# In the words of the index `registrations_alone`. `+` keeps SQLite from walking all that is due.
_ALONE = f"r.crashes >= {CRASHES_TO_ALONE}"
_WAITS_ALONE = f"""SELECT 1 FROM registrations r
 WHERE {_ALONE} AND r.state NOT IN ('done', 'parked', 'working')
  AND +r.due_at <= :now AND r.mode IN ('create', 'channel', 'trial')
  AND {_GOES_ON.format("r")} LIMIT 1"""  # noqa: S608 - our words
# In this order, each by an index of its own. The few of the first are looked up one by one.
_RUNS = (f"({RUNNING}) t CROSS JOIN", f"r.id = t.registration_id AND {_NOT_ALONE}")
_NO_TRIAL, _TRIAL = "r.mode <> 'trial'", "r.mode = 'trial'"
_IN_TURN = (_RUNS, ("", f"{_NO_TRIAL} AND {_NOT_ALONE}"), ("", f"{_TRIAL} AND {_NOT_ALONE}"))
_NEXT_DUE = f"""SELECT r.due_at FROM registrations r
 WHERE r.state NOT IN ('done', 'parked', 'working')
  AND r.mode IN ('create', 'channel', 'trial') AND {{which}}
  AND {_GOES_ON.format("r")}
 ORDER BY r.due_at, r.id LIMIT 1"""  # noqa: S608 - our words


def take_due(tx: Tx, *, owner: str, most: int, alone: bool = False) -> list[Mapping[Any, Any]]:
    """Give up to `most` registrations that are due to the owner, one for each target.

    `alone`: of those that must be worked on alone, else of the others.
    """
    lock = "FOR UPDATE OF r SKIP LOCKED" if tx.postgresql else ""
    times = {"now": tx.now, "until": tx.now + LEASE_MS}
    taken: list[Mapping[Any, Any]] = []
    for first, which in [("", _ALONE)] if alone else _IN_TURN:
        if len(taken) < most:
            sql = _CLAIM.format(lock=lock, first=first, which=which)
            taken += tx.run(sql, owner=owner, most=most - len(taken), **times).mappings()
    return taken


def waits_alone(tx: Tx) -> bool:
    """Return whether one that must be worked on alone is due."""
    return tx.run(_WAITS_ALONE, now=tx.now).first() is not None


def next_due(tx: Tx) -> int | None:
    """Return when the next registration is due (epoch ms), None when none is queued."""
    times = [tx.run(_NEXT_DUE.format(which=which)).scalar() for which in (_NO_TRIAL, _TRIAL)]
    return min((int(due) for due in times if due is not None), default=None)

"""Leases: renewed during the work, returned at a stop, voided when the owner is dead.

A worker that lost its lease cannot renew it: the statement checks the owner and the fence.
"""

from collections.abc import Collection, Iterable

from receiver.ledger.due import CRASHES_TO_ALONE, LEASE_MS
from receiver.ledger.registrations import Claimed
from receiver.ledger.transaction import Tx
from receiver.reasons import Reason, explain

MOST_CRASHES = CRASHES_TO_ALONE + 1
FOREVER = 2**62

_RENEW = """UPDATE registrations SET lease_until = :until
 WHERE id = :id AND state = 'working' AND lease_owner = :owner AND fence = :fence"""
# `due_at` is kept: interrupted work comes before work that was queued since. After a second crash
# the work goes to the end of the queue: it may be the cause of the crashes.
_HAND_BACK = """UPDATE registrations SET state = 'queued', lease_owner = NULL,
  lease_until = NULL, updated_at = :now
 WHERE id = :id AND state = 'working' AND lease_owner = :owner"""
_OWN = "SELECT id FROM registrations WHERE state = 'working' AND lease_owner = :owner"
_EXPIRED = """SELECT id FROM registrations
 WHERE state = 'working' AND lease_until < :before ORDER BY id {lock}"""
_VOID = """UPDATE registrations SET crashes = crashes + 1, lease_owner = NULL, lease_until = NULL,
  due_at = CASE WHEN crashes = 0 THEN due_at ELSE :now END, updated_at = :now,
  state = CASE WHEN crashes + 1 >= :most THEN 'parked' ELSE 'queued' END,
  reason = CASE WHEN crashes + 1 >= :most THEN :reason END,
  sentence = CASE WHEN crashes + 1 >= :most THEN :sentence ELSE '' END
 WHERE id = :id AND state = 'working' RETURNING state"""


def renew(tx: Tx, claims: Iterable[Claimed], owner: str) -> list[str]:
    """Renew the leases; return the ids of those that are lost."""
    lost = []
    for claimed in sorted(claims, key=_place):
        renewed = tx.run(
            _RENEW, id=claimed.id, owner=owner, fence=claimed.fence, until=tx.now + LEASE_MS
        )
        if not renewed.rowcount:
            lost.append(claimed.id)
    return lost


def _place(claimed: Claimed) -> tuple[str, ...]:
    """In the order in which pushes join registrations: replicas wait for, not on, each other."""
    return claimed.app, claimed.version, claimed.mode, claimed.image.repository, claimed.image.tag


def release_lease(tx: Tx, owner: str, *, in_progress: Collection[str] = ()) -> int:
    """Release the owner's registrations that it is not working on, without counting a crash.

    At a stop these are all of them; otherwise those claimed by a transaction whose answer was
    lost, as in a restart of the database. Returns how many there were.
    """
    lost = [str(row.id) for row in tx.run(_OWN, owner=owner) if row.id not in in_progress]
    for identity in lost:
        tx.run(_HAND_BACK, id=identity, owner=owner, now=tx.now)
    return len(lost)


def reclaim_expired(
    tx: Tx, *, all_of_them: bool, in_progress: Collection[str] = ()
) -> list[tuple[str, str]]:
    """Free what a dead worker held; return (id, state).

    After five crashes in a row a registration is worked on alone, and another crash parks it: a
    registration that crashed only because of another in the same process succeeds alone.

    `all_of_them` is for the start on SQLite: the lock proves that the former owner is dead.
    `in_progress` registrations of this process are not freed, however late their renewal is.
    """
    reason = Reason.CRASHES_THE_WORKER
    lock = "FOR UPDATE SKIP LOCKED" if tx.postgresql else ""
    expired = tx.run(_EXPIRED.format(lock=lock), before=FOREVER if all_of_them else tx.now)
    voided = []
    for identity in [str(row.id) for row in expired]:
        if identity in in_progress:
            continue
        row = tx.run(
            _VOID,
            id=identity,
            now=tx.now,
            most=MOST_CRASHES,
            reason=reason.value,
            sentence=explain(reason),
        ).one()
        voided.append((identity, str(row.state)))
    return voided

"""Replicas on one ledger: who is there, so that they share what Edgegap allows."""

from receiver.ledger.transactions import Tx

ALIVE_MS = 10_000
FORGOTTEN_MS = 3_600_000

_SEEN = """INSERT INTO replicas (owner, seen_at) VALUES (:owner, :now)
 ON CONFLICT (owner) DO UPDATE SET seen_at = excluded.seen_at"""

_AT_WORK = """SELECT EXISTS (SELECT 1 FROM replicas WHERE seen_at >= :since)
 OR EXISTS (SELECT 1 FROM registrations WHERE state = 'working' AND lease_until >= :now)"""

_IN_HAND = """SELECT count(*) FROM registrations
 WHERE state = 'working' AND lease_owner IN (SELECT owner FROM replicas WHERE seen_at >= :since)"""


def count_replicas(tx: Tx, owner: str) -> int:
    """Say that this one is alive, and return how many are."""
    tx.run(_SEEN, owner=owner, now=tx.now)
    tx.run("DELETE FROM replicas WHERE seen_at < :before", before=tx.now - FORGOTTEN_MS)
    alive = tx.run("SELECT count(*) FROM replicas WHERE seen_at >= :since", since=tx.now - ALIVE_MS)
    return max(1, int(alive.scalar_one()))


def is_there(tx: Tx, owner: str) -> bool:
    """Return whether this replica is alive."""
    row = tx.run(
        "SELECT 1 FROM replicas WHERE owner = :owner AND seen_at >= :since",
        owner=owner,
        since=tx.now - ALIVE_MS,
    )
    return row.first() is not None


def at_work(tx: Tx) -> bool:
    """Tell whether any replica is there, or has left work in hand whose lease still runs."""
    found = tx.run(_AT_WORK, since=tx.now - ALIVE_MS, now=tx.now)
    return bool(found.scalar())


def claims_alone(tx: Tx) -> bool:
    """Tell whether no other replica claims while this transaction lasts: they share one cap."""
    return bool(tx.run("SELECT pg_try_advisory_xact_lock(hashtext('receiver claim'))").scalar())


def leave(tx: Tx, owner: str) -> None:
    """Say that this one is gone: the others may take its share at once."""
    tx.run("DELETE FROM replicas WHERE owner = :owner", owner=owner)


def working_now(tx: Tx) -> int:
    """Return how many registrations are in the hands of those that are there.

    What a dead one held waits for its lease; that it counted would keep all others idle till then.
    """
    found = tx.run(_IN_HAND, since=tx.now - ALIVE_MS)
    return int(found.scalar_one())

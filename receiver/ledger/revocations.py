"""API tokens and sessions that were ended before their time. Both are signed and not stored."""

from receiver.ledger.transaction import Tx

_REVOKE = """INSERT INTO revocations (id, expires_at, revoked_at)
 VALUES (:id, :expires_at, :now) ON CONFLICT (id) DO NOTHING"""


def revoke(tx: Tx, identity: str, expires_at: int) -> bool:
    """End a token or session; False if it was ended before. `expires_at` in epoch milliseconds."""
    return bool(tx.run(_REVOKE, id=identity, expires_at=expires_at, now=tx.now).rowcount)


def is_revoked(tx: Tx, identity: str) -> bool:
    """Return whether a token or session was ended."""
    return tx.run("SELECT 1 FROM revocations WHERE id = :id", id=identity).first() is not None


def purge_revocations(tx: Tx) -> None:
    """Delete the rows of those that have expired by now."""
    tx.run("DELETE FROM revocations WHERE expires_at < :now", now=tx.now)

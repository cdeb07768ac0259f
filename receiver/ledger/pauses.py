"""Pauses: a person holds back a repository's registrations, or all; pushes go on being recorded."""

from receiver.ledger.transactions import Tx

ALL = "*"

_PAUSE = """INSERT INTO pauses (repository, since) VALUES (:repository, :now)
 ON CONFLICT (repository) DO NOTHING"""

_KNOWN = """SELECT 1 WHERE EXISTS (SELECT 1 FROM deliveries WHERE repository = :repository)
 OR EXISTS (SELECT 1 FROM targets WHERE repository = :repository)
 OR EXISTS (SELECT 1 FROM pauses WHERE repository = :repository)"""


def is_known(tx: Tx, repository: str) -> bool:
    """Tell whether the ledger knows the repository: a delivery, a target or a pause names it."""
    return tx.run(_KNOWN, repository=repository).first() is not None


def repositories_held(tx: Tx) -> list[str]:
    """Return the repositories whose images stand in versions by our doing."""
    rows = tx.run("SELECT DISTINCT repository FROM targets ORDER BY repository")
    return [str(row.repository) for row in rows]


def pause(tx: Tx, repository: str) -> None:
    """Hold back a repository's registrations, or ALL."""
    tx.run(_PAUSE, repository=repository, now=tx.now)


def resume(tx: Tx, repository: str) -> bool:
    """Let them go on; False when they were not paused. ALL ends every pause."""
    if repository == ALL:
        return bool(tx.run("DELETE FROM pauses").rowcount)
    ended = tx.run("DELETE FROM pauses WHERE repository = :repository", repository=repository)
    return bool(ended.rowcount)


def paused(tx: Tx) -> dict[str, int]:
    """Return what is paused, and since when (epoch ms)."""
    rows = tx.run("SELECT repository, since FROM pauses ORDER BY repository")
    return {row.repository: row.since for row in rows}


def all_paused(tx: Tx) -> bool:
    """Tell whether everything is paused: then nobody need look through the queue."""
    return tx.run("SELECT 1 FROM pauses WHERE repository = '*'").first() is not None

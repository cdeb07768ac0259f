"""Pauses: a person holds back a repository's registrations, or all; pushes go on being recorded."""

from receiver.ledger.transactions import Tx

ALL = "*"

_PAUSE = """INSERT INTO pauses (repository, since) VALUES (:repository, :now)
 ON CONFLICT (repository) DO NOTHING"""


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

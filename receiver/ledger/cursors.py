"""How far catch-up has come with each repository, and which of its pushes are known already."""

from collections.abc import Iterable
from dataclasses import dataclass

from receiver.ledger.transactions import Tx

_BEGIN = """INSERT INTO cursors (repository, since) VALUES (:repository, :now)
 ON CONFLICT (repository) DO NOTHING"""
_MOVE = """UPDATE cursors SET since = CASE WHEN since > :since THEN since ELSE :since END,
  ran_at = :now, problem = '' WHERE repository = :repository"""
_KNOWN = """SELECT 1 FROM deliveries
  WHERE repository = :repository AND tag = :tag AND digest = :digest
 UNION ALL SELECT 1 FROM registrations
  WHERE repository = :repository AND tag = :tag AND digest = :digest LIMIT 1"""
_KNOWN_UNDIGESTED = """SELECT 1 FROM deliveries
 WHERE repository = :repository AND tag = :tag AND pushed_at >= :pushed_at LIMIT 1"""


@dataclass(frozen=True, slots=True)
class Cursor:
    """From when on a repository's pushes are looked for. Times in epoch milliseconds."""

    repository: str
    since: int
    ran_at: int | None
    problem: str


def begin_cursors(tx: Tx, repositories: Iterable[str]) -> None:
    """Begin a cursor, now, for each repository that has none: the past is never registered."""
    for repository in sorted(set(repositories)):
        tx.run(_BEGIN, repository=repository, now=tx.now)


def read_cursors(tx: Tx) -> list[Cursor]:
    """Return all cursors."""
    rows = tx.run("SELECT repository, since, ran_at, problem FROM cursors ORDER BY repository")
    return [Cursor(row.repository, row.since, row.ran_at, row.problem) for row in rows]


def move_cursor(tx: Tx, repository: str, since: int) -> None:
    """Move a cursor on to a completed run's start; never back."""
    tx.run(_MOVE, repository=repository, since=since, now=tx.now)


def note_problem(tx: Tx, repository: str, problem: str) -> None:
    """Note why a run did not complete; the cursor stays."""
    tx.run(
        "UPDATE cursors SET ran_at = :now, problem = :problem WHERE repository = :repository",
        repository=repository,
        problem=problem,
        now=tx.now,
    )


def is_known(
    tx: Tx, *, repository: str, tag: str, digest: str | None, pushed_at: int | None
) -> bool:
    """Tell whether this image under this tag is in the ledger already.

    Without a digest only a delivery of the same push, or a later one, tells.
    """
    if digest is not None:
        found = tx.run(_KNOWN, repository=repository, tag=tag, digest=digest)
    elif pushed_at is not None:
        found = tx.run(_KNOWN_UNDIGESTED, repository=repository, tag=tag, pushed_at=pushed_at)
    else:
        return False
    return found.first() is not None

"""How far catch-up has come with each repository, and which of its pushes are known already."""

from collections.abc import Iterable
from dataclasses import dataclass

from receiver.ledger.transactions import Tx

OVERLAP_MS = 60 * 60 * 1000
MOST_AHEAD_MS = OVERLAP_MS + 60_000  # one begins an overlap ahead; farther, the clock was wrong

_BEGIN = """INSERT INTO cursors (repository, since) VALUES (:repository, :since)
 ON CONFLICT (repository) DO NOTHING"""
_MOVE = """UPDATE cursors SET
  since = CASE WHEN since > :since AND since <= :farthest THEN since ELSE :since END,
  ran_at = :now, problem = '' WHERE repository = :repository"""
_KNOWN_DIGEST = """SELECT 1 FROM deliveries
  WHERE repository = :repository AND tag = :tag AND digest = :digest
 UNION ALL SELECT 1 FROM registrations
  WHERE repository = :repository AND tag = :tag AND digest = :digest LIMIT 1"""
# Docker Hub's webhooks tell no digest, and whole seconds only.
_KNOWN_BY_TIME = """SELECT 1 FROM deliveries d WHERE d.repository = :repository AND d.tag = :tag
  AND coalesce(d.pushed_at, d.received_at) >= :second"""
_LEARNED_NO_DIGEST = """ AND d.digest IS NULL AND NOT EXISTS (SELECT 1 FROM led_to l
   JOIN registrations r ON r.id = l.registration_id
   WHERE l.delivery_id = d.id AND r.digest IS NOT NULL)"""


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far catch-up has come with a repository. Times in epoch milliseconds."""

    repository: str
    since: int
    ran_at: int | None
    problem: str

    def completed_within(self, milliseconds: int, now: int) -> bool:
        """Tell whether the last run, of whichever replica, is so young and did complete."""
        if self.ran_at is None or self.problem:
            return False
        return 0 <= now - self.ran_at < milliseconds  # the clock may have been put back

    @property
    def looks_back_to(self) -> int:
        """From when on pushes are looked for: an hour is looked at twice."""
        return self.since - OVERLAP_MS


def begin_cursors(tx: Tx, repositories: Iterable[str]) -> None:
    """Begin a cursor, now, for each repository that has none: the past is never registered."""
    since = tx.now + OVERLAP_MS  # so that not even the overlap reaches back behind this moment
    for repository in sorted(set(repositories)):
        tx.run(_BEGIN, repository=repository, since=since)


def read_cursors(tx: Tx) -> list[Cursor]:
    """Return all cursors; one from a time when the clock was ahead is set right.

    It stands at the present then; one that no run has moved begins again: the past is none of its.
    """
    farthest = tx.now + MOST_AHEAD_MS
    begun = tx.now + OVERLAP_MS
    rows = tx.run("SELECT repository, since, ran_at, problem FROM cursors ORDER BY repository")
    return [
        Cursor(
            row.repository,
            row.since if row.since <= farthest else (tx.now if row.ran_at else begun),
            row.ran_at,
            row.problem,
        )
        for row in rows
    ]


def move_cursor(tx: Tx, repository: str, since: int) -> None:
    """Move a cursor on to a completed run's start; back only where the clock was put back."""
    tx.run(_MOVE, repository=repository, since=since, now=tx.now, farthest=tx.now + MOST_AHEAD_MS)


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

    Where a delivery told no digest and none was learned of it (as without preflight), its time
    tells: it is of this push, or of a later one.
    """
    names = {"repository": repository, "tag": tag}
    if digest is not None and tx.run(_KNOWN_DIGEST, **names, digest=digest).first():
        return True
    if pushed_at is None and digest is not None:
        return False
    second = (pushed_at or 0) // 1000 * 1000
    by_time = _KNOWN_BY_TIME if digest is None else _KNOWN_BY_TIME + _LEARNED_NO_DIGEST
    return tx.run(f"{by_time} LIMIT 1", **names, second=second).first() is not None

"""How far catch-up has come with each repository, and which of its pushes are known already."""

from collections.abc import Collection, Iterable

import msgspec

from receiver.dockerhub.webhook import Push
from receiver.ledger.targets import STRETCH
from receiver.ledger.transaction import Tx
from receiver.reasons import Verdict

OVERLAP_MS = 60 * 60 * 1000
MAX_AHEAD_MS = OVERLAP_MS + 60_000  # a new cursor is one overlap ahead; later is a wrong clock

_BEGIN = """INSERT INTO cursors (repository, since) VALUES (:repository, :since)
 ON CONFLICT (repository) DO NOTHING"""
_MOVE = """UPDATE cursors SET
  since = CASE WHEN since > :since AND since <= :farthest THEN since ELSE :since END,
  ran_at = :now, succeeded_at = :now, problem = '' WHERE repository = :repository"""
# Of a tag that is pushed again and again the newest are searched.
_NEWEST = f"""SELECT * FROM {{table}} WHERE repository = :repository AND tag = :tag {{which}}
 ORDER BY id DESC LIMIT {STRETCH}"""  # noqa: S608 - constant SQL
_DELIVERIES = _NEWEST.format(table="deliveries", which="")
_REGISTRATIONS = _NEWEST.format(table="registrations", which="AND digest IS NOT NULL")
_KNOWN_DIGEST = f"""SELECT 1 FROM ({_DELIVERIES}) d WHERE d.digest = :digest
 UNION ALL SELECT 1 FROM ({_REGISTRATIONS}) r WHERE r.digest = :digest LIMIT 1"""  # noqa: S608 - constant SQL
# Docker Hub's webhooks contain no digest, and their times are in whole seconds.
_KNOWN_BY_TIME = f"""SELECT 1 FROM ({_DELIVERIES}) d
 WHERE coalesce(d.pushed_at, d.received_at) >= :second"""  # noqa: S608 - constant SQL
_LEARNED_NO_DIGEST = """ AND d.digest IS NULL AND NOT EXISTS (SELECT 1 FROM led_to l
   JOIN registrations r ON r.id = l.registration_id
   WHERE l.delivery_id = d.id AND r.digest IS NOT NULL)"""
# The newest deliveries only: if no webhook is among that many, none arrived lately. By id: a time
# may be of a clock that was wrong.
_LAST_WEBHOOK = """SELECT max(id) FROM (SELECT id, source, verdict
   FROM deliveries WHERE repository = :repository ORDER BY id DESC LIMIT 500) d
 WHERE source = 'webhook' AND verdict <> :refused"""
_COUNT_UNHEARD = """UPDATE cursors SET unheard = :count, unheard_after = coalesce(
  (SELECT max(id) FROM deliveries WHERE repository = :repository), '')
 WHERE repository = :repository"""
SILENT_AFTER = 2  # pushes in a row that no webhook reported


class Cursor(msgspec.Struct, frozen=True):
    """How far catch-up has come with a repository. Times in epoch milliseconds.

    `problem` says why the last run failed, at `ran_at`; it is empty if that run succeeded.
    """

    repository: str
    since: int
    ran_at: int | None
    problem: str
    succeeded_at: int | None = None

    def completed_within(self, milliseconds: int, now: int) -> bool:
        """Return whether the last run, by any replica, completed within that time."""
        if self.ran_at is None or self.problem:
            return False
        return 0 <= now - self.ran_at < milliseconds  # the clock may have been put back

    @property
    def looks_back_to(self) -> int:
        """From when on pushes are looked for: an hour is looked at twice."""
        return self.since - OVERLAP_MS

    @property
    def last_success_at(self) -> int:
        """When catch-up last succeeded; before the first success, when the cursor was begun."""
        return self.looks_back_to if self.succeeded_at is None else self.succeeded_at


class CatchUpFailure(msgspec.Struct, frozen=True):
    """Catch-up fails: why and what to do, and since when, in epoch milliseconds."""

    sentence: str
    since: int


def failing(cursors: Iterable[Cursor], repositories: Collection[str]) -> CatchUpFailure | None:
    """Return that the last run failed with one of these repositories; None if with none."""
    failed = [one for one in cursors if one.problem and one.repository in repositories]
    if not failed:
        return None
    first = min(failed, key=lambda one: (one.last_success_at, one.repository))
    more = f" (and with {len(failed) - 1} more)" if len(failed) > 1 else ""
    sentence = (
        f"Catch-up with {first.repository} failed{more}: {first.problem}. Until it succeeds, a "
        "push whose webhook does not arrive is not found. It is tried again; `receiver doctor` "
        "checks the login and the repository."
    )
    return CatchUpFailure(sentence, first.last_success_at)


def begin_cursors(tx: Tx, repositories: Iterable[str]) -> None:
    """Begin a cursor, now, for each repository that has none: the past is never registered."""
    since = tx.now + OVERLAP_MS  # so that not even the overlap reaches back behind this moment
    for repository in sorted(set(repositories)):
        tx.run(_BEGIN, repository=repository, since=since)


def read_cursors(tx: Tx) -> list[Cursor]:
    """Return all cursors; a cursor written while the clock was ahead is corrected.

    It is set to the present; a cursor that no run has moved begins again and skips the past.
    """
    farthest = tx.now + MAX_AHEAD_MS
    begun = tx.now + OVERLAP_MS
    rows = tx.run(
        "SELECT repository, since, ran_at, problem, succeeded_at FROM cursors ORDER BY repository"
    )
    return [
        Cursor(
            row.repository,
            row.since if row.since <= farthest else (tx.now if row.ran_at else begun),
            row.ran_at,
            row.problem,
            row.succeeded_at,
        )
        for row in rows
    ]


def move_cursor(tx: Tx, repository: str, since: int) -> None:
    """Move a cursor on to a completed run's start; back only if the clock was set back."""
    tx.run(_MOVE, repository=repository, since=since, now=tx.now, farthest=tx.now + MAX_AHEAD_MS)


def note_problem(tx: Tx, repository: str, problem: str) -> None:
    """Note why a run did not complete; the cursor stays."""
    tx.run(
        "UPDATE cursors SET ran_at = :now, problem = :problem WHERE repository = :repository",
        repository=repository,
        problem=problem,
        now=tx.now,
    )


def count_unreported(tx: Tx, repository: str, pushes: int) -> bool:
    """Count pushes that no webhook reported; return whether webhooks are silent from now on.

    The count begins again when a webhook of the repository arrives, and so does the answer.
    """
    counted = tx.run(
        "SELECT unheard, unheard_after FROM cursors WHERE repository = :repository",
        repository=repository,
    ).first()
    if counted is None:
        return False
    heard = last_webhook(tx, repository)
    again = heard is not None and heard > counted.unheard_after
    before = 0 if again else int(counted.unheard)
    tx.run(_COUNT_UNHEARD, repository=repository, count=before + pushes)
    return before < SILENT_AFTER <= before + pushes


def last_webhook(tx: Tx, repository: str) -> str | None:
    """Return the last push that a webhook reported, None if none of the last deliveries is one."""
    refused = Verdict.REFUSED.value
    found: str | None = tx.run(_LAST_WEBHOOK, repository=repository, refused=refused).scalar()
    return found


def is_known(tx: Tx, push: Push) -> bool:
    """Return whether this image under this tag is in the ledger already.

    If a delivery contained no digest and none was found later (as without preflight), its time
    decides: the delivery is of this push, or of a later push.
    """
    names = {"repository": push.repository, "tag": push.tag or ""}
    if push.digest is not None and tx.run(_KNOWN_DIGEST, **names, digest=push.digest).first():
        return True
    if push.pushed_at is None and push.digest is not None:
        return False
    second = (push.pushed_at or 0) // 1000 * 1000
    by_time = _KNOWN_BY_TIME if push.digest is None else _KNOWN_BY_TIME + _LEARNED_NO_DIGEST
    return tx.run(f"{by_time} LIMIT 1", **names, second=second).first() is not None

"""Requests with a link that opens nothing, one row by reason and repository: never many."""

from collections.abc import Mapping
from dataclasses import dataclass

from receiver.ledger.transaction import Tx
from receiver.signing import LinkFault

SHOWN_MS = 7 * 24 * 60 * 60 * 1000

Counts = Mapping[tuple[LinkFault, str | None], int]

_FORGET = "DELETE FROM refused_links WHERE last_at < :before"
# By id, and not by a time that may be of a clock that was wrong.
_BEFORE = "SELECT max(id) FROM deliveries WHERE repository = :repository"
_COUNT = """INSERT INTO refused_links (reason, repository, requests, first_at, last_at, after_id)
 VALUES (:reason, :repository, :requests, :now, :now, :after)
 ON CONFLICT (reason, repository) DO UPDATE SET last_at = excluded.last_at,
  after_id = excluded.after_id,
  requests = refused_links.requests + excluded.requests"""
_SHOWN = """SELECT reason, repository, requests, first_at, last_at, after_id FROM refused_links
 WHERE last_at >= :after ORDER BY last_at DESC, reason, repository"""
_CAME_SINCE = """SELECT 1 FROM deliveries WHERE repository = :repository AND id > :after
  AND source = 'webhook' AND verdict <> 'refused' LIMIT 1"""
# To send these is to have the link: a repository's next good push says nothing of them.
_OF_OTHERS = frozenset({LinkFault.OTHER_REPOSITORY})


@dataclass(frozen=True, slots=True)
class RefusedLink:
    """How many requests came with such a link. Times in epoch milliseconds.

    `repository` is the one that the link was made for, None if it is not known.
    """

    reason: LinkFault
    repository: str | None
    requests: int
    first_at: int
    last_at: int


def count_refused_links(tx: Tx, counts: Counts) -> None:
    """Add to what is counted; what nobody sent for a week is forgotten."""
    tx.run(_FORGET, before=tx.now - SHOWN_MS)
    for (reason, repository), requests in counts.items():
        after = tx.run(_BEFORE, repository=repository or "").scalar() or ""
        named = {"repository": repository or "", "reason": reason.value, "now": tx.now}
        tx.run(_COUNT, **named, requests=requests, after=after)


def refused_links(tx: Tx) -> list[RefusedLink]:
    """Return those of the last week, newest first.

    Left out is a repository's old link once a push came by a good one after it.
    """
    rows = tx.run(_SHOWN, after=tx.now - SHOWN_MS).all()
    known = set(LinkFault)
    return [
        RefusedLink(
            LinkFault(row.reason), row.repository or None, row.requests, row.first_at, row.last_at
        )
        for row in rows
        if row.reason in known  # others are a newer replica's
        and not _is_resolved(tx, row.reason, row.repository, row.after_id)
    ]


def _is_resolved(tx: Tx, reason: str, repository: str, after: str) -> bool:
    if not repository or reason in _OF_OTHERS:
        return False
    return tx.run(_CAME_SINCE, repository=repository, after=after).first() is not None

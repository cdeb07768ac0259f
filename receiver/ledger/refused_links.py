"""Requests with a link that opens nothing, one row by reason and repository: never many."""

from collections.abc import Mapping

from sqlalchemy import RowMapping

from receiver.ledger.transaction import Tx
from receiver.ledger.views import RefusedLink, read_view
from receiver.signing import ACTIONABLE, LinkFault, what_to_do

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
    rows = tx.run(_SHOWN, after=tx.now - SHOWN_MS).mappings().all()
    known = set(LinkFault)
    return [
        _view(row)
        for row in rows
        if row["reason"] in known  # others are a newer replica's
        and not _is_resolved(tx, row["reason"], row["repository"], row["after_id"])
    ]


def _view(row: RowMapping) -> RefusedLink:
    fault, repository = LinkFault(row["reason"]), row["repository"] or None
    return read_view(
        RefusedLink,
        row,
        repository=repository,
        message=what_to_do(fault, repository),
        actionable=fault in ACTIONABLE,
    )


def _is_resolved(tx: Tx, reason: str, repository: str, after: str) -> bool:
    if not repository or reason in _OF_OTHERS:
        return False
    return tx.run(_CAME_SINCE, repository=repository, after=after).first() is not None

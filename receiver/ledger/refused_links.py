"""Requests with a link that opens nothing, one row by reason and repository: never many."""

from collections.abc import Mapping
from dataclasses import dataclass

from receiver.hook_tokens import LinkFault
from receiver.ledger.ids import first_id
from receiver.ledger.recording import DELIVERY
from receiver.ledger.transactions import Tx

SHOWN_MS = 7 * 24 * 60 * 60 * 1000

Counts = Mapping[tuple[LinkFault, str | None], int]

_FORGET = "DELETE FROM refused_links WHERE last_at < :before"
_COUNT = """INSERT INTO refused_links (reason, repository, requests, first_at, last_at)
 VALUES (:reason, :repository, :requests, :now, :now)
 ON CONFLICT (reason, repository) DO UPDATE SET last_at = excluded.last_at,
  requests = refused_links.requests + excluded.requests"""
_SHOWN = """SELECT reason, repository, requests, first_at, last_at FROM refused_links
 WHERE last_at >= :after ORDER BY last_at DESC, reason, repository"""
_CAME_SINCE = """SELECT 1 FROM deliveries WHERE repository = :repository AND id >= :first
  AND received_at >= :after AND source = 'webhook' AND verdict <> 'refused' LIMIT 1"""
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
        named = {"reason": reason.value, "repository": repository or ""}
        tx.run(_COUNT, **named, requests=requests, now=tx.now)


def refused_links(tx: Tx) -> list[RefusedLink]:
    """Return those of the last week, newest first.

    Left out is a repository's old link once a push came by a good one after it.
    """
    rows = tx.run(_SHOWN, after=tx.now - SHOWN_MS).all()
    known = set(LinkFault)
    found = [
        RefusedLink(
            LinkFault(row.reason), row.repository or None, row.requests, row.first_at, row.last_at
        )
        for row in rows
        if row.reason in known  # others are a newer replica's
    ]
    return [one for one in found if not _is_resolved(tx, one)]


def _is_resolved(tx: Tx, one: RefusedLink) -> bool:
    if one.repository is None or one.reason in _OF_OTHERS:
        return False
    came = tx.run(
        _CAME_SINCE,
        repository=one.repository,
        first=first_id(DELIVERY, one.last_at),
        after=one.last_at,
    )
    return came.first() is not None

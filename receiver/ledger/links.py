"""Links in the ledger: their keys and uses, refused ones, and API tokens that were revoked.

A key is stored as a salted scrypt hash: a backup must not allow quick guesses. Requests with a link
that opens nothing are counted in one row by reason and repository: never many. API tokens and
sessions are signed and not stored, so those that were ended before their time are.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from sqlalchemy import RowMapping

from receiver.ledger.transaction import Tx
from receiver.ledger.views import RefusedLink, read_view
from receiver.signing import ACTIONABLE, LinkFault, what_to_do

_ROWS = """SELECT fingerprint, salt, replaced_at FROM secret_keys
 ORDER BY adopted_at"""
_INSERT = """INSERT INTO secret_keys (fingerprint, salt, adopted_at)
 VALUES (:fingerprint, :salt, :now)
 ON CONFLICT (fingerprint) DO NOTHING"""
_REPLACED = "UPDATE secret_keys SET replaced_at = :now WHERE fingerprint = :fingerprint"
_BACK = "UPDATE secret_keys SET replaced_at = NULL WHERE fingerprint = :fingerprint"

_USED = """INSERT INTO link_uses (repository, fingerprint, used_at)
 VALUES (:repository, :fingerprint, :at)
 ON CONFLICT (repository, fingerprint) DO UPDATE SET used_at = excluded.used_at"""
_LATEST_USE = "SELECT max(used_at) FROM link_uses WHERE repository = :repository"
_USES = "SELECT repository, fingerprint, used_at FROM link_uses ORDER BY repository, used_at"
# Uses are noted once a minute; if both of two links are on Docker Hub, each push uses both.
TOGETHER_MS = 2 * 60_000

Fingerprints = Mapping[str, str]  # of one key, by salt
Counts = Mapping[tuple[LinkFault, str | None], int]
SHOWN_MS = 7 * 24 * 60 * 60 * 1000

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
# Only a holder of the link can send these: a later valid push resolves nothing.
_OF_OTHERS = frozenset({LinkFault.OTHER_REPOSITORY})
_REVOKE = """INSERT INTO revocations (id, expires_at, revoked_at)
 VALUES (:id, :expires_at, :now) ON CONFLICT (id) DO NOTHING"""


class KnownKey(msgspec.Struct, frozen=True):
    """One key as it is known; in use unless it was replaced at that time (epoch ms)."""

    fingerprint: str
    salt: str
    replaced_at: int | None

    def is_one_of(self, keys: Iterable[Fingerprints]) -> bool:
        """Return whether it is one of these."""
        return any(key.get(self.salt) == self.fingerprint for key in keys)


class DeadLink(msgspec.Struct, frozen=True):
    """A repository whose link does not work any more, since when (epoch ms) if that is known."""

    repository: str
    since: int | None


def known_keys(tx: Tx) -> list[KnownKey]:
    """Return all keys that this ledger was ever served with, oldest first."""
    return [KnownKey(**row) for row in tx.run(_ROWS).mappings()]


def adopt_keys(tx: Tx, keys: Sequence[Fingerprints]) -> bool:
    """Store these keys as the ones in use; False if the ledger knows others and none of these."""
    known = known_keys(tx)
    for row in known:
        if row.replaced_at is None and not row.is_one_of(keys):
            tx.run(_REPLACED, fingerprint=row.fingerprint, now=tx.now)
        elif row.replaced_at is not None and row.is_one_of(keys):
            tx.run(_BACK, fingerprint=row.fingerprint)
    for key in keys:
        if not any(row.is_one_of([key]) for row in known):
            salt, fingerprint = next(iter(key.items()))
            tx.run(_INSERT, fingerprint=fingerprint, salt=salt, now=tx.now)
    return not known or any(row.is_one_of(keys) for row in known)


def use_links(tx: Tx, used: Iterable[tuple[str, str]]) -> None:
    """Note that links were used now: repositories, and fingerprints of the keys of their links.

    A use counts as later than those before it, also if the clock was set back.
    """
    for repository, fingerprint in used:
        latest = tx.run(_LATEST_USE, repository=repository).scalar() or 0
        at = max(tx.now, int(latest) + 1)
        tx.run(_USED, repository=repository, fingerprint=fingerprint, at=at)


def dead_links(
    tx: Tx, repositories: Iterable[str], keys: Sequence[Fingerprints] | None = None
) -> list[DeadLink]:
    """Return the links that were used last with a key that is not among `keys`.

    By default the keys are those in use. What was never used is not dead.
    """
    known = {one.fingerprint: one for one in known_keys(tx)}
    wanted = set(repositories)
    uses: dict[str, list[tuple[KnownKey, int]]] = {}
    for row in tx.run(_USES):
        if row.repository in wanted and row.fingerprint in known:
            uses.setdefault(row.repository, []).append((known[row.fingerprint], int(row.used_at)))
    found = (_dead(name, used, keys) for name, used in uses.items())
    return [one for one in found if one is not None]


def _dead(
    repository: str, used: Sequence[tuple[KnownKey, int]], keys: Sequence[Fingerprints] | None
) -> DeadLink | None:
    alive = [
        at for key, at in used if (key.replaced_at is None if keys is None else key.is_one_of(keys))
    ]
    key, last = used[-1]
    if alive and last - max(alive) < TOGETHER_MS:
        return None
    return DeadLink(repository, key.replaced_at)


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


def revoke(tx: Tx, identity: str, expires_at: int) -> bool:
    """End a token or session; False if it was ended before. `expires_at` in epoch milliseconds."""
    return bool(tx.run(_REVOKE, id=identity, expires_at=expires_at, now=tx.now).rowcount)


def is_revoked(tx: Tx, identity: str) -> bool:
    """Return whether a token or session was ended."""
    return tx.run("SELECT 1 FROM revocations WHERE id = :id", id=identity).first() is not None


def purge_revocations(tx: Tx) -> None:
    """Delete the rows of those that have expired by now."""
    tx.run("DELETE FROM revocations WHERE expires_at < :now", now=tx.now)

"""Which secret keys the ledger's links were signed with, and which links are dead without them.

A key is stored as a salted scrypt hash: a backup must not allow quick guesses.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from receiver.ledger.transaction import Tx

_ROWS = """SELECT fingerprint, salt, adopted_at, replaced_at FROM secret_keys
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


@dataclass(frozen=True, slots=True)
class KnownKey:
    """One key as it is known; in use unless it was replaced. Times in epoch milliseconds."""

    fingerprint: str
    salt: str
    adopted_at: int
    replaced_at: int | None

    def is_one_of(self, keys: Iterable[Fingerprints]) -> bool:
        """Return whether it is one of these."""
        return any(key.get(self.salt) == self.fingerprint for key in keys)


@dataclass(frozen=True, slots=True)
class DeadLink:
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

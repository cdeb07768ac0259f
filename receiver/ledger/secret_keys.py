"""Which secret keys the ledger's links were signed with.

A key is stored as a salted scrypt hash: a backup must not allow quick guesses.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from receiver.ledger.overviews import last_use
from receiver.ledger.transactions import Tx

_ROWS = """SELECT fingerprint, salt, adopted_at, replaced_at, after_id FROM secret_keys
 ORDER BY adopted_at"""
_INSERT = """INSERT INTO secret_keys (fingerprint, salt, adopted_at, after_id)
 VALUES (:fingerprint, :salt, :now, coalesce((SELECT max(id) FROM deliveries), ''))
 ON CONFLICT (fingerprint) DO NOTHING"""
_REPLACED = "UPDATE secret_keys SET replaced_at = :now WHERE fingerprint = :fingerprint"
_BACK = "UPDATE secret_keys SET replaced_at = NULL WHERE fingerprint = :fingerprint"

Fingerprints = Mapping[str, str]  # of one key, by salt


@dataclass(frozen=True, slots=True)
class KnownKey:
    """One key as it is known; in use unless it was replaced. Times in epoch milliseconds.

    `after_id` is the newest delivery when it was adopted: links of this key were used after it.
    """

    fingerprint: str
    salt: str
    adopted_at: int
    replaced_at: int | None
    after_id: str = ""

    def is_one_of(self, keys: Iterable[Fingerprints]) -> bool:
        """Return whether it is one of these."""
        return any(key.get(self.salt) == self.fingerprint for key in keys)


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


def changed_at(known: Iterable[KnownKey]) -> int | None:
    """Return when all keys were replaced at once (epoch ms), None if they were not."""
    keys = list(known)
    began = min((key.adopted_at for key in keys if key.replaced_at is None), default=None)
    return began if any(key.replaced_at == began for key in keys if key.replaced_at) else None


def dead_links(tx: Tx, repositories: Iterable[str]) -> tuple[int | None, list[str]]:
    """Return when all keys were replaced, and the repositories whose link was not used since.

    Only those whose link was used before: what was never pasted is not dead.
    """
    known = known_keys(tx)
    changed = changed_at(known)
    if changed is None:
        return None, []
    after = max(key.after_id for key in known if key.adopted_at == changed)
    used = {repository: last_use(tx, repository) for repository in sorted(set(repositories))}
    return changed, [name for name, last in used.items() if last is not None and last[0] <= after]

"""Keyed hashes of what was sent and cannot be read back: a rotated secret is seen by its hash."""

import hashlib
from collections.abc import Sequence

from itsdangerous import Signer

from receiver.secret import Secret

SALT = b"receiver.sent"


def hash_of(values: str, keys: Sequence[Secret]) -> str:
    """Return the hash by the newest key (the last); empty if there are no values, or no key."""
    return _signer(keys).get_signature(values).decode() if values and keys else ""


def is_hash_of(known: str, values: str, keys: Sequence[Secret]) -> bool:
    """Return whether the hash is one of these values, by any of the keys."""
    return bool(values and keys) and _signer(keys).verify_signature(values, known)


def _signer(keys: Sequence[Secret]) -> Signer:
    texts = [key.reveal() for key in keys]
    return Signer(texts, salt=SALT, digest_method=hashlib.sha256)

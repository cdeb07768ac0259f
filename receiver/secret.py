"""A secret value: easy to pass on, hard to print."""

import hashlib
import json
import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from functools import lru_cache
from html import escape
from urllib.parse import quote, quote_plus

from itsdangerous import Signer

MASK = "***"
SHORTEST_MASKED = 4  # shorter values would hide ordinary words
SHORTEST_BASE64 = 8
_URL_SAFE = str.maketrans("+/", "-_")


class Secret:
    """A value that prints as stars; only `reveal` returns it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself, for the call that needs it."""
        return self._value

    def forget(self) -> None:
        """Drop the value and its cached spellings; nothing can be done with the secret then."""
        self._value = ""
        _spellings.cache_clear()

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)


def mask(text: str, secrets: Iterable[Secret]) -> str:
    """Return the text with each secret in it replaced by stars, the longest first.

    This includes other encodings of a secret: JSON, URL, HTML, base64, hex, in any case.
    """
    return mask_spelt(text, spellings_of(secrets))


def mask_spelt(text: str, spellings: Iterable[str]) -> str:
    """Do the same as `mask`, with spellings computed beforehand."""
    lowered = text.lower()
    for spelling in spellings:
        if spelling in lowered:
            text = re.sub(re.escape(spelling), MASK, text, flags=re.IGNORECASE)
            lowered = text.lower()
    return text


def spellings_of(secrets: Iterable[Secret]) -> tuple[str, ...]:
    """Return all encodings of the secrets, in lower case, the longest first."""
    spellings = {text for secret in secrets for text in _spellings(secret.reveal())}
    return tuple(sorted(spellings, key=len, reverse=True))


@lru_cache(maxsize=256)
def _spellings(value: str) -> frozenset[str]:
    if len(value) < SHORTEST_MASKED:
        return frozenset()
    quoted = (json.dumps(value), json.dumps(value, ensure_ascii=False), repr(value))
    inner = {value, *(text[1:-1] for text in quoted)}
    escaped = {escape(value), escape(value).replace("&#x27;", "&#39;"), escape(value, quote=False)}
    urls = {quote(value, safe=""), quote(value), quote_plus(value)}
    raw = value.encode("utf-8", "surrogateescape")
    spellings = {*inner, *(json.dumps(text)[1:-1] for text in inner), *escaped, *urls, raw.hex()}
    return frozenset({text.lower() for text in spellings} | _in_base64(raw))


def _in_base64(raw: bytes) -> set[str]:
    """Return the value's base64 encodings within any surrounding text.

    Basic authentication encodes `user:token` as a whole. Three bytes become four letters, so
    there are three alignments; letters that also hold bits of a neighbor are left out.
    """
    found = set()
    for before in range(3):
        encoded = b64encode(bytes(before) + raw).decode().rstrip("=")
        begin = -(-before * 4 // 3)
        end = (before + len(raw)) * 8 // 6
        found |= {encoded[begin:end], encoded[begin:end].translate(_URL_SAFE)}
    return {text.lower() for text in found if len(text) >= SHORTEST_BASE64}


SALT = b"receiver.sent"


def hash_of(values: str, keys: Sequence[Secret]) -> str:
    """Return the hash by the newest key (the last); empty if there are no values, or no key."""
    return _signer(keys).get_signature(values).decode() if values and keys else ""


@lru_cache(maxsize=8)
def stretched(key: Secret) -> Secret:
    """Return a key that is slow to derive, so that hashes by it do not allow quick guesses of it.

    It takes about 0.05 s and 16 MB, once for each key: https://www.rfc-editor.org/rfc/rfc7914
    """
    raw = key.reveal().encode("utf-8", "surrogateescape")
    return Secret(hashlib.scrypt(raw, salt=SALT, n=2**14, r=8, p=1, dklen=32).hex())


def is_hash_of(known: str, values: str, keys: Sequence[Secret]) -> bool:
    """Return whether the hash is one of these values, by any of the keys."""
    return bool(values and keys) and _signer(keys).verify_signature(values, known)


def _signer(keys: Sequence[Secret]) -> Signer:
    texts = [key.reveal() for key in keys]
    return Signer(texts, salt=SALT, digest_method=hashlib.sha256)

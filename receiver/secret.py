"""A secret value: easy to pass on, hard to print."""

import json
from collections.abc import Iterable
from functools import lru_cache

MASK = "***"
SHORTEST_MASKED = 4  # shorter values would blot out ordinary words


class Secret:
    """A value that prints as stars; only `reveal` gives it away."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself, for the one call that needs it."""
        return self._value

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

    Also as JSON or Python would quote it: others' messages may quote a request of ours.
    """
    return mask_spelt(text, spellings_of(secrets))


def mask_spelt(text: str, spellings: Iterable[str]) -> str:
    """Do as `mask`, for who asks often: the spellings are made once."""
    for one in spellings:
        if one in text:
            text = text.replace(one, MASK)
    return text


def spellings_of(secrets: Iterable[Secret]) -> tuple[str, ...]:
    """Return all that gives one of the secrets away, the longest first."""
    spellings = {one for secret in secrets for one in _spellings(secret.reveal())}
    return tuple(sorted(spellings, key=len, reverse=True))


@lru_cache(maxsize=256)
def _spellings(value: str) -> frozenset[str]:
    if len(value) < SHORTEST_MASKED:
        return frozenset()
    quoted = (json.dumps(value), json.dumps(value, ensure_ascii=False), repr(value))
    return frozenset({value, *(one[1:-1] for one in quoted)})

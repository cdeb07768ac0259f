"""A secret value: easy to pass on, hard to print."""

from collections.abc import Iterable

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
    """Return the text with each secret in it replaced by stars, the longest first."""
    found = [value for secret in secrets if (value := secret.reveal()) in text]
    for value in sorted(found, key=len, reverse=True):
        if len(value) >= SHORTEST_MASKED:
            text = text.replace(value, MASK)
    return text

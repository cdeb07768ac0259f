"""What doctor finds: each finding passes, warns or fails, and comes with its mend."""

from dataclasses import dataclass
from enum import StrEnum


class Health(StrEnum):
    """How a finding stands."""

    PASS = "pass"  # noqa: S105 - a word
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at, what was found, and the mend where something is wrong."""

    health: Health
    what: str
    found: str
    mend: str = ""


def passed(what: str, found: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(Health.PASS, what, found)


def warned(what: str, found: str, mend: str) -> Finding:
    """Return a finding that may go wrong, with its mend."""
    return Finding(Health.WARN, what, found, mend)


def failed(what: str, found: str, mend: str) -> Finding:
    """Return a finding that will go wrong, with its mend."""
    return Finding(Health.FAIL, what, found, mend)

"""Findings of doctor: each passes, warns or fails, and has a fix unless it passes."""

from enum import StrEnum

import msgspec


class Health(StrEnum):
    """The status of a finding."""

    PASS = "pass"  # noqa: S105 - a word
    WARN = "warn"
    FAIL = "fail"


class Finding(msgspec.Struct, frozen=True):
    """The subject of a check, its result, and the fix if something is wrong."""

    health: Health
    what: str
    found: str
    hint: str = ""


def passed(what: str, found: str) -> Finding:
    """Return a finding that passes."""
    return Finding(Health.PASS, what, found)


def warned(what: str, found: str, hint: str) -> Finding:
    """Return a warning with its fix."""
    return Finding(Health.WARN, what, found, hint)


def failed(what: str, found: str, hint: str) -> Finding:
    """Return a failure with its fix."""
    return Finding(Health.FAIL, what, found, hint)

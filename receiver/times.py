"""Times as texts: read leniently, as UTC if no zone is named, and written for people."""

from datetime import UTC, datetime


def read_iso(value: object) -> int | None:
    """Return an ISO 8601 text as epoch milliseconds, None when it is none."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    try:
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except OverflowError:
        return None


def to_the_minute(milliseconds: int) -> str:
    """Return epoch milliseconds for people: `2026-10-09 15:31 UTC`."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return f"{moment:%Y-%m-%d %H:%M} UTC"

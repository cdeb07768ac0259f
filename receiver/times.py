"""Times as texts: read leniently, as UTC where no zone is named."""

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

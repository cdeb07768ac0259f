"""Parse and format times: lenient parsing, UTC if no zone is given."""

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
SECONDS_WITH_TENTHS = 10
MOST_OF_A_UNIT = 100


class Time(int):
    """A time in UTC epoch milliseconds; in JSON it is ISO 8601 text in UTC."""

    __slots__ = ()


def read_iso(value: object) -> int | None:
    """Return an ISO 8601 text as epoch milliseconds, None if it is not valid."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH) // MILLISECOND


def read_http_date(value: object) -> int | None:
    """Return an HTTP date in epoch milliseconds, in any of its three formats; None for others."""
    if not isinstance(value, str) or not value:
        return None
    try:
        moment = parsedate_to_datetime(value)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return None


def duration(milliseconds: int) -> str:
    """Return a duration in words: 840 ms, 2.4 s, 3 min, 5 h, 2 d."""
    seconds = milliseconds / 1000
    if seconds < 1:
        return f"{milliseconds} ms"
    if seconds < SECONDS_WITH_TENTHS:
        return f"{seconds:.1f} s"
    for unit, size in (("s", 1), ("min", 60), ("h", 3600)):
        if seconds < size * MOST_OF_A_UNIT:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"


def to_the_minute(milliseconds: int) -> str:
    """Return epoch milliseconds for people: `2026-10-09 15:31 UTC`."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def format_time(milliseconds: int) -> str:
    """Return epoch milliseconds as ISO 8601 in UTC."""
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

"""Parse and format times: lenient parsing, UTC if no zone is given; the times in HTTP headers."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
SECONDS_WITH_TENTHS = 10
MAX_OF_A_UNIT = 100
MAX_WAIT_MS = 24 * 60 * 60 * 1000
_UNIX_TIME = 1_000_000_000  # seconds; a smaller number is a duration
_IN_MS = 1000 * _UNIX_TIME  # a larger number is a UNIX time in milliseconds
_WAIT_NUMBER = re.compile(r"(-?\d{1,20})\d*(\.\d{1,20})?\d*", re.ASCII)
_RETRY_AFTER = ("retry-after", "x-retry-after")
_RESET, _REMAINING = "x-ratelimit-reset", "x-ratelimit-remaining"


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
        if seconds < size * MAX_OF_A_UNIT:
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


def read_retry_after(headers: Mapping[str, str], now: int) -> int | None:
    """Return the wait that the headers ask for in ms, at most a day; None if they name none.

    Each header is in seconds, a UNIX time or an HTTP date (RFC 9110, section 10.2.3). A time is
    compared with the response's own `Date`, so that our clock need not agree with the sender's;
    without one, with `now` (epoch ms). X-RateLimit-Reset counts if no call is left and no other
    header is readable. The names in `headers` are lower case.

    Docker Hub's values are in whole seconds: 0 may mean that the limit still holds for a moment.
    """
    sent = read_date(headers)
    names = (*_RETRY_AFTER, _RESET) if headers.get(_REMAINING, "0").strip() == "0" else _RETRY_AFTER
    for name in names:
        wait = _read_wait(headers.get(name), now if sent is None else sent)
        if wait is not None:
            return min(max(0, wait), MAX_WAIT_MS)
    return None


def read_date(headers: Mapping[str, str]) -> int | None:
    """Return the `Date` of a response in epoch ms: the clock of its sender."""
    return read_http_date(headers.get("date"))


def _read_wait(value: str | None, now: int) -> int | None:
    text = (value or "").strip()
    read = _WAIT_NUMBER.fullmatch(text)
    if read is None:
        moment = read_http_date(text)
        return None if moment is None else moment - now
    number = float(read[1] + (read[2] or ""))
    if number < _UNIX_TIME:
        return round(number * 1000)
    return round(number if number >= _IN_MS else number * 1000) - now

"""How long a response asks to wait: the header Retry-After, and Docker Hub's X-Retry-After."""

from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

LONGEST_WAIT_MS = 24 * 60 * 60 * 1000
_UNIX_TIME = 1_000_000_000  # seconds; a smaller number is a duration
_IN_MS = 1000 * _UNIX_TIME  # a larger number is a UNIX time in milliseconds


def read_retry_after(headers: Mapping[str, str], now: int) -> int | None:
    """Return the wait that the headers ask for in ms, at most a day; None if they name none.

    Each header may hold seconds, a UNIX time or an HTTP date (RFC 9110, section 10.2.3). A time is
    compared with the response's own `Date`, so that our clock need not agree with the sender's;
    without one, with `now` (epoch ms). The names in `headers` are lower case.
    """
    here = _date(headers.get("date"))
    for name in ("retry-after", "x-retry-after"):
        wait = _read_wait(headers.get(name), now if here is None else here)
        if wait is not None:
            return min(max(0, wait), LONGEST_WAIT_MS)
    return None


def _read_wait(value: str | None, now: int) -> int | None:
    text = (value or "").strip()
    if not (text.isascii() and text.isdigit()):
        moment = _date(text)
        return None if moment is None else moment - now
    number = int(text[:20])
    if number < _UNIX_TIME:
        return number * 1000
    return (number if number >= _IN_MS else number * 1000) - now


def _date(value: str | None) -> int | None:
    """Return an HTTP date in epoch ms, in any of its three forms."""
    if not value:
        return None
    try:
        moment = parsedate_to_datetime(value)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return None

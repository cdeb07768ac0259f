"""The wait that a response asks for: Retry-After, and Docker Hub's X-Retry-After."""

import re
from collections.abc import Mapping

from receiver.timestamps import read_http_date

LONGEST_WAIT_MS = 24 * 60 * 60 * 1000
_UNIX_TIME = 1_000_000_000  # seconds; a smaller number is a duration
_IN_MS = 1000 * _UNIX_TIME  # a larger number is a UNIX time in milliseconds
_NUMBER = re.compile(r"(-?\d{1,20})\d*(\.\d{1,20})?\d*", re.ASCII)
_NAMES = ("retry-after", "x-retry-after")
_RESET, _REMAINING = "x-ratelimit-reset", "x-ratelimit-remaining"


def read_retry_after(headers: Mapping[str, str], now: int) -> int | None:
    """Return the wait that the headers ask for in ms, at most a day; None if they name none.

    Each header is in seconds, a UNIX time or an HTTP date (RFC 9110, section 10.2.3). A time is
    compared with the response's own `Date`, so that our clock need not agree with the sender's;
    without one, with `now` (epoch ms). X-RateLimit-Reset counts if no call is left and no other
    header is readable. The names in `headers` are lower case.

    Docker Hub's values are in whole seconds: 0 may mean that the limit still holds for a moment.
    """
    sent = read_date(headers)
    names = (*_NAMES, _RESET) if headers.get(_REMAINING, "0").strip() == "0" else _NAMES
    for name in names:
        wait = _read_wait(headers.get(name), now if sent is None else sent)
        if wait is not None:
            return min(max(0, wait), LONGEST_WAIT_MS)
    return None


def read_date(headers: Mapping[str, str]) -> int | None:
    """Return the `Date` of a response in epoch ms: the clock of its sender."""
    return read_http_date(headers.get("date"))


def _read_wait(value: str | None, now: int) -> int | None:
    text = (value or "").strip()
    read = _NUMBER.fullmatch(text)
    if read is None:
        moment = read_http_date(text)
        return None if moment is None else moment - now
    number = float(read[1] + (read[2] or ""))
    if number < _UNIX_TIME:
        return round(number * 1000)
    return round(number if number >= _IN_MS else number * 1000) - now

"""An answer of Edgegap, read from the bytes: the only place that knows its HTTP details.

Every error body is `{"message": ...}`, and a client must survive one that is not
(github.com/edgegap/openapi-specification, components.schemas.Error).
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote

from receiver.secret import Secret, mask

MAX_MESSAGE = 300
MAX_RETRY_AFTER_MS = 24 * 60 * 60 * 1000
OK = frozenset({200, 201, 204})

Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What one call asked and what came back.

    `status` is None when no answer came (timeout, reset, refused connection). `body` is the JSON
    object, None where there was none. `retry_after` and `milliseconds` are in milliseconds, `at`
    is when it was sent, in epoch milliseconds.
    """

    method: str
    path: str
    status: int | None
    body: Body | None = field(default=None, repr=False)
    message: str = ""
    retry_after: int | None = None
    milliseconds: int = 0
    at: int = 0

    @property
    def ok(self) -> bool:
        """Whether the call did what it asked, with an answer that can be read."""
        return self.status in OK and (self.body is not None or self.method == "DELETE")

    @property
    def broken(self) -> bool:
        """Whether it says it succeeded, but cannot be read."""
        return self.status in OK and not self.ok


def read_answer(
    *,
    method: str,
    path: str,
    status: int,
    headers: Mapping[str, str],
    content: bytes,
    milliseconds: int,
    now: int,
    secrets: Iterable[Secret] = (),
) -> Answer:
    """Read an answer; `now` in epoch milliseconds, for a Retry-After given as a date.

    `secrets` are masked in its message, whole: before it is cut short.
    """
    try:
        decoded = json.loads(content) if content else None
    except (ValueError, RecursionError):
        decoded = None
    body = decoded if isinstance(decoded, dict) else None
    if status in OK:
        message = "" if body is not None or method == "DELETE" else "the answer is not JSON"
    else:
        message = _message(body, content, secrets) or f"HTTP {status}"
    return Answer(
        method=method,
        path=path,
        status=status,
        body=body,
        message=message,
        retry_after=read_retry_after(headers.get("retry-after"), now),
        milliseconds=milliseconds,
    )


def read_retry_after(value: str | None, now: int) -> int | None:
    """Return a Retry-After header in milliseconds from now: seconds or an HTTP date (RFC 9110)."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return min(int(value[:9]) * 1000, MAX_RETRY_AFTER_MS)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0, min(int(moment.timestamp() * 1000) - now, MAX_RETRY_AFTER_MS))


def app_path(app: str) -> str:
    """Return the path of an app."""
    return f"/v1/app/{quote(app, safe='')}"


def version_path(app: str, version: str | None = None) -> str:
    """Return the path of a version, or of the app's versions to POST to."""
    path = f"{app_path(app)}/version"
    return path if version is None else f"{path}/{quote(version, safe='')}"


def versions_path(app: str) -> str:
    """Return the path that lists an app's versions."""
    return f"{app_path(app)}/versions"


def _message(body: Body | None, content: bytes, secrets: Iterable[Secret]) -> str:
    text = body.get("message") if body is not None else content.decode("utf-8", "replace")
    if not isinstance(text, str):
        return ""
    text = mask(text, secrets)
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(printable.split())[:MAX_MESSAGE]

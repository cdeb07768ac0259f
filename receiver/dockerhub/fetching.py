"""Calls to Docker Hub: bounded in time and size, never following where an answer points.

Every call ends in a Fetched or raises Unavailable; nothing here decides what it means.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import msgspec

from receiver import metrics
from receiver.errors import ReceiverError

CONNECT_SECONDS = 5.0
READ_SECONDS = 15.0
WHOLE_SECONDS = 30.0
SERVER_FAULTS = 500
TOO_MANY = 429


class Unavailable(ReceiverError):
    """Docker Hub gave no usable answer. `connected`: whether it was reached at all."""

    def __init__(
        self,
        sentence: str,
        *,
        connected: bool = True,
        wait: float | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.connected = connected
        self.wait = wait  # seconds it asked us to wait


@dataclass(frozen=True, slots=True)
class Fetched:
    """One answer: status, headers, and the body within its limit."""

    status: int
    headers: Mapping[str, str]
    content: bytes = field(repr=False)

    def json(self) -> dict[str, Any]:
        """Return the body as a JSON object; raises Unavailable when it is none."""
        try:
            body = msgspec.json.decode(self.content)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            body = None
        if not isinstance(body, dict):
            raise Unavailable("the answer is not a JSON object")
        return body


async def fetch(
    http: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    largest: int,
    headers: Mapping[str, str] | None = None,
    json: object = None,
) -> Fetched:
    """Make one call. Raises Unavailable on no answer, 429, 5xx, or a body over `largest` bytes."""
    began = time.monotonic()
    status: int | None = None
    try:
        fetched = await _fetch(http, method, url, largest=largest, headers=headers, json=json)
        status = fetched.status
    except Unavailable as error:
        status = error.status
        raise
    finally:
        timed = metrics.docker_hub_calls.labels(method, metrics.label(status))
        timed.observe(time.monotonic() - began)
    return fetched


async def _fetch(
    http: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    largest: int,
    headers: Mapping[str, str] | None,
    json: object,
) -> Fetched:
    try:
        async with (
            asyncio.timeout(WHOLE_SECONDS),
            http.stream(
                method,
                url,
                headers=dict(headers or {}),
                json=json,
                follow_redirects=False,
                timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            ) as response,
        ):
            content = await _limited(response, largest)
    except (httpx.ConnectError, httpx.ConnectTimeout):
        raise Unavailable("no connection", connected=False) from None
    except (TimeoutError, httpx.TimeoutException):
        raise Unavailable("no answer in time") from None
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, ValueError):
        raise Unavailable("the connection broke") from None
    if response.status_code == TOO_MANY:
        wait = _asked_to_wait(response.headers)
        raise Unavailable("429: called too often", wait=wait, status=TOO_MANY)
    if response.status_code >= SERVER_FAULTS:
        raise Unavailable(f"HTTP {response.status_code}", status=response.status_code)
    return Fetched(response.status_code, response.headers, content)


async def _limited(response: httpx.Response, largest: int) -> bytes:
    parts, size = [], 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > largest:
            raise Unavailable(f"the answer is over {largest} bytes")
        parts.append(part)
    return b"".join(parts)


def _asked_to_wait(headers: Mapping[str, str]) -> float | None:
    """Return how many seconds a 429 asks to wait: Retry-After, or Hub's X-Retry-After (a time)."""
    after, at = headers.get("retry-after", ""), headers.get("x-retry-after", "")
    if after.isascii() and after.isdigit():
        return float(after[:9])
    now = _server_time(headers)
    if at.isascii() and at.isdigit():
        return max(0.0, float(at[:12]) - now)
    return None


def _server_time(headers: Mapping[str, str]) -> float:
    """Return the sender's own clock, so that ours need not agree with it."""
    try:
        return parsedate_to_datetime(headers.get("date", "")).timestamp()
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return time.time()

"""HTTP requests to Docker Hub, bounded in time and size; redirects are not followed.

Every request returns an HttpResponse or raises DockerHubUnavailable; nothing here interprets the
response.
"""

import asyncio
import base64
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import msgspec

from receiver import metrics
from receiver.dockerhub.records import without_addresses
from receiver.errors import ReceiverError
from receiver.http.client import (
    UNENCODED,
    BodyTooLarge,
    UnreadableBody,
    no_connection,
    read_bounded,
)
from receiver.secret import MASK, Secret, mask
from receiver.timestamps import read_retry_after

CONNECT_SECONDS = 5.0
READ_SECONDS = 15.0
WHOLE_SECONDS = 30.0
SERVER_FAULTS = 500
TOO_MANY = 429
IN_BETWEEN = "a proxy or a firewall may have responded instead"
MAX_SHOWN = 200
MAX_BODY_SHOWN = 2000
_OPAQUE = re.compile(r"eyJ[\w-]*(?:\.[\w-]*)*|[\w=+-]{20,}", re.ASCII)  # a JWT, or another token


class DockerHubUnavailable(ReceiverError):
    """Docker Hub gave no usable response.

    `connected`: whether it was reached at all. `exact`: the response with masked secrets, if there
    was one and it is meant to be shown.
    """

    def __init__(
        self,
        sentence: str,
        *,
        connected: bool = True,
        wait: float | None = None,
        status: int | None = None,
        exact: str | None = None,
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.exact = exact
        self.connected = connected
        self.wait = wait  # seconds that Docker Hub asks to wait


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """One response: status, headers, and the body within its limit."""

    status: int
    headers: Mapping[str, str]
    content: bytes = field(repr=False)

    def json(self) -> dict[str, Any]:
        """Return the body as a JSON object; raises DockerHubUnavailable if it is not."""
        try:
            body = msgspec.json.decode(self.content)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            body = None
        if not isinstance(body, dict):
            raise DockerHubUnavailable("the response is not a JSON object")
        return body

    def error(self, secrets: Iterable[Secret] = ()) -> str | None:
        """Return Docker's error message, masked; None if this is not an error body of Docker's.

        The registry sends `errors`, its token server `details`, Docker Hub's API `message`,
        `detail` and `errinfo`. A page of HTML or an empty body comes from a proxy or firewall.
        """
        try:
            body = self.json()
        except DockerHubUnavailable:
            return None
        listed = body.get("errors")
        first = listed[0] if isinstance(listed, list) and listed else None
        names = ("details", "message", "detail", "errinfo")
        texts = [*(body.get(name) for name in names), first]
        if all(value is None for value in texts):
            return None
        if isinstance(first, dict):
            texts[-1] = first.get("message") or first.get("code")
        text = next((value for value in texts if isinstance(value, str)), "")
        known = mask(text, secrets)[:MAX_SHOWN]
        return "".join(letter for letter in known if letter.isprintable())

    def exact(self, secrets: Iterable[Secret], *, opaque: bool = False) -> str:
        """Return status, media type and body for people; secrets and addresses are masked.

        With `opaque`, also what may be a token that is not known.
        """
        kind = "".join(filter(str.isprintable, self.headers.get("content-type", "")[:MAX_SHOWN]))
        text = without_addresses(mask(self.content.decode("utf-8", "replace"), secrets))
        text = _OPAQUE.sub(MASK, text) if opaque else text
        lines = "".join(letter for letter in text if letter.isprintable() or letter == "\n")
        body = lines.strip()[:MAX_BODY_SHOWN]
        return f"HTTP {self.status}, {kind or 'no media type'}:\n{body or '(no body)'}"

    def described(self, secrets: Iterable[Secret]) -> str:
        """Return the status with Docker's message, or that this is not Docker's response."""
        error = self.error(secrets)
        if error is None:
            return f"HTTP {self.status}, not in Docker's form: {IN_BETWEEN}"
        return f"HTTP {self.status} {error}".rstrip()


def claims_of(token: str) -> dict[str, Any]:
    """Return the claims of a token that is a JWT; none of any other."""
    try:
        payload = token.split(".")[1]
        content = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        return msgspec.json.decode(content, type=dict[str, Any])
    except (LookupError, RecursionError, ValueError):
        return {}


async def fetch(
    http: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    largest: int,
    headers: Mapping[str, str] | None = None,
    json: object = None,
    any_status: bool = False,
) -> HttpResponse:
    """Make a request.

    Raises DockerHubUnavailable on no response, a body over `largest` bytes, and, unless
    `any_status`, on 429 and 5xx.
    """
    began = time.monotonic()
    status: int | None = None
    try:
        async with (
            asyncio.timeout(WHOLE_SECONDS),
            http.stream(
                method,
                url,
                headers={**UNENCODED, **(headers or {})},
                json=json,
                follow_redirects=False,
                timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            ) as response,
        ):
            if not any_status:
                _raise_for_status(response)
            content = await read_bounded(response, largest)
        status = response.status_code
    except DockerHubUnavailable as error:
        status = error.status
        raise
    except BodyTooLarge:
        raise DockerHubUnavailable(f"the response is over {largest} bytes") from None
    except UnreadableBody as error:
        raise DockerHubUnavailable(str(error)) from None
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
        raise DockerHubUnavailable(no_connection(error), connected=False) from None
    except (TimeoutError, httpx.TimeoutException):
        raise DockerHubUnavailable("no response in time") from None
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, ValueError):
        raise DockerHubUnavailable("the connection broke") from None
    finally:
        timed = metrics.docker_hub_calls.labels(method, metrics.label(status))
        timed.observe(time.monotonic() - began)
    return HttpResponse(response.status_code, response.headers, content)


def _raise_for_status(response: httpx.Response) -> None:
    """Raise DockerHubUnavailable on a 429 and a 5xx; their bodies are not read."""
    status = response.status_code
    if status == TOO_MANY:
        asked = read_retry_after(response.headers, time.time_ns() // 1_000_000)
        wait = None if asked is None else asked / 1000
        raise DockerHubUnavailable("429: too many requests", wait=wait, status=TOO_MANY)
    if status >= SERVER_FAULTS:
        raise DockerHubUnavailable(f"HTTP {status}", status=status)

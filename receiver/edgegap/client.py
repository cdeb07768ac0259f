"""Calling Edgegap: one pooled client, its pace, its timeouts. Every call ends in an Answer.

What an answer means is decided elsewhere (`retry.py`); nothing here raises for what was answered.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx

from receiver import metrics
from receiver.edgegap.answers import (
    Answer,
    Body,
    app_path,
    read_answer,
    version_path,
    versions_path,
)
from receiver.edgegap.pace import Pace
from receiver.secret import Secret
from receiver.version import VERSION

CONNECT_SECONDS = 5.0
READ_SECONDS = 20.0
CREATE_SECONDS = 60.0  # verify_image makes Edgegap pull before it answers
DRIP_SECONDS = 30.0  # an answer that comes byte by byte ends too
LARGEST_ANSWER = 20 * 1024 * 1024
TOO_LARGE = "the answer is over 20 MiB"
PER_PAGE = 100
MOST_PAGES = 200


class EdgegapClient:
    """Asks Edgegap about versions and makes them."""

    def __init__(
        self, http: httpx.AsyncClient, token: Secret, pace: Pace, secrets: tuple[Secret, ...] = ()
    ) -> None:
        self._http = http
        self._token = token
        self._pace = pace
        self._secrets = (token, *secrets)

    def share(self, replicas: int) -> None:
        """Call only so often that so many replicas together keep the pace."""
        self._pace.share(replicas)

    def adopt(self, base_url: str, token: Secret, secrets: tuple[Secret, ...]) -> None:
        """Go on with another address and token: the configuration was reloaded."""
        self._http.base_url = httpx.URL(base_url)
        self._token = token
        self._secrets = (token, *secrets)

    async def look(self, app: str, version: str) -> Answer:
        """GET one version."""
        return await self._call("GET", version_path(app, version))

    async def create(self, app: str, body: Mapping[str, Any]) -> Answer:
        """POST a version."""
        return await self._call("POST", version_path(app), body=body, seconds=CREATE_SECONDS)

    async def update(self, app: str, version: str, body: Mapping[str, Any]) -> Answer:
        """PATCH a version."""
        path = version_path(app, version)
        return await self._call("PATCH", path, body=body, seconds=CREATE_SECONDS)

    async def delete(self, app: str, version: str) -> Answer:
        """DELETE a version."""
        return await self._call("DELETE", version_path(app, version))

    async def deployments(self, app: str, version: str) -> Answer:
        """GET what runs of a version. Its rows name no version: only the filter tells."""
        filters = [
            {"field": "application", "operator": "eq", "value": app},
            {"field": "version", "operator": "eq", "value": version},
        ]
        query = json.dumps({"filters": filters})
        return await self._call("GET", "/v1/deployments", params={"query": query, "limit": 1})

    async def apps(self) -> Answer:
        """GET the first page of the apps this token sees."""
        return await self._call("GET", "/v1/apps", params={"page": 1, "limit": PER_PAGE})

    async def app(self, app: str) -> Answer:
        """GET one app."""
        return await self._call("GET", app_path(app))

    async def probe(self) -> Answer:
        """Ask for the least there is, to learn whether the token is accepted."""
        return await self._call("GET", "/v1/apps", params={"page": 1, "limit": 1})

    async def versions(self, app: str) -> tuple[list[Body], tuple[Answer, ...]]:
        """List all of an app's versions, page by page; the last answer tells whether it worked."""
        found: list[Body] = []
        answers: list[Answer] = []
        for page in range(1, MOST_PAGES + 1):
            params: dict[str, int | str] = {"page": page, "limit": PER_PAGE}
            answer = await self._call("GET", versions_path(app), params=params)
            answers.append(answer)
            if not answer.ok or answer.body is None:
                break
            rows = answer.body.get("versions")
            rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
            found += rows
            if not rows or not _has_more(answer.body, len(found)):
                break
        return found, tuple(answers)

    async def _call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, int | str] | None = None,
        seconds: float = READ_SECONDS,
    ) -> Answer:
        answer = await self._exchange(method, path, body=body, params=params, seconds=seconds)
        sent_at = time.time_ns() // 1_000_000 - answer.milliseconds
        answer = replace(answer, at=sent_at)
        timed = metrics.edgegap_calls.labels(method, metrics.label(answer.status))
        timed.observe(answer.milliseconds / 1000)
        return answer

    async def _exchange(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None,
        params: Mapping[str, int | str] | None,
        seconds: float,
    ) -> Answer:
        started = time.monotonic()

        def spent() -> int:
            return int((time.monotonic() - started) * 1000)

        async with self._pace:
            started = time.monotonic()
            try:
                async with (
                    asyncio.timeout(seconds + DRIP_SECONDS),
                    self._http.stream(
                        method,
                        path,
                        json=body,
                        params=params,
                        headers={"Authorization": f"token {self._token.reveal()}"},
                        timeout=httpx.Timeout(seconds, connect=CONNECT_SECONDS),
                    ) as response,
                ):
                    content = await _limited(response)
            except (TimeoutError, httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
                return Answer(method, path, None, message=_told(error), milliseconds=spent())
        answer = read_answer(
            method=method,
            path=path,
            status=response.status_code,
            headers=response.headers,
            content=content if content is not None else b"",
            milliseconds=spent(),
            now=time.time_ns() // 1_000_000,
            secrets=(*self._secrets, *_secrets_in(body)),
        )
        return answer if content is not None else replace(answer, message=TOO_LARGE)


@asynccontextmanager
async def edgegap_client(
    base_url: str,
    token: Secret,
    pace: Pace,
    secrets: tuple[Secret, ...] = (),
    *,
    kind: type[EdgegapClient] = EdgegapClient,
) -> AsyncIterator[EdgegapClient]:
    """Open the one client of this process, and close its connections at the end."""
    headers = {
        "Accept": "application/json",
        "User-Agent": f"docker-hub-receiver/{VERSION}",
    }
    async with httpx.AsyncClient(
        base_url=base_url, headers=headers, follow_redirects=False
    ) as http:
        yield kind(http, token, pace, secrets)


def _has_more(body: Body, so_far: int) -> bool:
    pagination = body.get("pagination")
    if isinstance(pagination, dict) and isinstance(pagination.get("has_next"), bool):
        return bool(pagination["has_next"])
    total = body.get("total_count")
    return isinstance(total, int) and so_far < total


async def _limited(response: httpx.Response) -> bytes | None:
    """Read the whole answer; None as soon as it is over the limit."""
    parts, size = [], 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > LARGEST_ANSWER:
            return None
        parts.append(part)
    return b"".join(parts)


def _told(error: Exception) -> str:
    """Return what went wrong in a few words, without the library's own text: it may hold a URL."""
    if isinstance(error, httpx.ConnectTimeout):
        return f"no connection within {CONNECT_SECONDS:g} s"
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return "no answer in time"
    if isinstance(error, httpx.ConnectError):
        return "no connection"
    if isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError):
        return "the connection broke"
    return type(error).__name__


def _secrets_in(sent: Mapping[str, Any] | None) -> list[Secret]:
    if sent is None:
        return []
    envs = sent.get("envs") or []
    values = [sent.get("private_token"), *(env.get("value") for env in envs)]
    return [Secret(value) for value in values if isinstance(value, str) and value]

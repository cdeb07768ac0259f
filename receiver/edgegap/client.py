"""Calls to Edgegap: one pooled client, its rate limit and timeouts. Every call returns an Answer.

`retry.py` decides what a response means; nothing here raises an exception for a response.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from http import HTTPStatus
from types import TracebackType
from typing import Any

import httpx

from receiver import metrics
from receiver.edgegap.listing import Listing, Pages, equal_to
from receiver.edgegap.responses import (
    OF_VERSIONS,
    Answer,
    Shape,
    Success,
    any_object,
    app_named,
    app_path,
    list_of,
    read_answer,
    version_named,
    version_path,
    versions_path,
)
from receiver.http.client import (
    UNENCODED,
    BodyTooLarge,
    UnreadableBody,
    http_client,
    no_connection,
    read_bounded,
)
from receiver.secret import Secret
from receiver.version import VERSION

CONNECT_SECONDS = 5.0
READ_SECONDS = 20.0
CREATE_SECONDS = 60.0  # verify_image makes Edgegap pull before it answers
SLOW_READ_SECONDS = 30.0  # limits a response that arrives byte by byte
MAX_RESPONSE_BYTES = 20 * 1024 * 1024
MAX_ERROR_BYTES = 1024 * 1024
MAX_PROBE_BYTES = 64 * 1024
VERSIONS_PER_PAGE = 100
APPS_PER_PAGE = 5  # each row holds the app's logo, of any size


class RateLimiter:
    """`async with pace:` around each call; callers wait their turn, first come, first served.

    After a pause, the calls of one second may be sent at once, so that a single push never waits.
    """

    def __init__(self, per_second: float, at_once: int) -> None:
        self._per_second = per_second
        self.share(1)
        self._slots = asyncio.Semaphore(at_once)
        self._earned = 0.0  # when the calls made so far are earned back

    def changed(self, per_second: float, at_once: int) -> "RateLimiter":
        """Return a new rate limiter that replaces this one; running calls finish with this one."""
        other = RateLimiter(per_second, at_once)
        other.share(self._replicas)
        other._earned = self._earned
        return other

    def share(self, replicas: int) -> None:
        """Use only this replica's share of the requests per second."""
        self._replicas = replicas
        self._interval = replicas / self._per_second
        self._burst = max(0.0, 1.0 - self._interval)

    async def __aenter__(self) -> None:
        await self._slots.acquire()
        now = time.monotonic()
        self._earned = max(now, self._earned) + self._interval
        wait = self._earned - self._interval - self._burst - now
        if wait > 0:
            try:
                await asyncio.sleep(wait)
            except BaseException:
                self._slots.release()
                raise

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._slots.release()


class EdgegapClient:
    """Reads, creates, updates and deletes versions at Edgegap."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        token: Secret,
        pace: RateLimiter,
        secrets: tuple[Secret, ...] = (),
    ) -> None:
        self._http = http
        self._token = token
        self._pace = pace
        self.secrets = (token, *secrets)  # to mask in every text of a response

    def share(self, replicas: int) -> None:
        """Reduce the rate so that all replicas together stay within the limit."""
        self._pace.share(replicas)

    def reconfigure(
        self,
        base_url: str,
        token: Secret,
        pace: tuple[float, int],
        secrets: tuple[Secret, ...],
    ) -> None:
        """Use another address, token and rate limit: the configuration was reloaded.

        `pace` is the number of requests per second, and the number of requests at once.
        """
        self._pace = self._pace.changed(*pace)
        self._http.base_url = httpx.URL(base_url)
        self._token = token
        self.secrets = (token, *secrets)

    async def get_version(self, app: str, version: str) -> Answer:
        """GET one version."""
        path = version_path(app, version)
        return await self.call("GET", path, shape=version_named(version))

    async def create(self, app: str, body: Mapping[str, Any]) -> Answer:
        """POST a version."""
        return await self.call("POST", version_path(app), body=body, seconds=CREATE_SECONDS)

    async def update(self, app: str, version: str, body: Mapping[str, Any]) -> Answer:
        """PATCH a version."""
        path = version_path(app, version)
        return await self.call("PATCH", path, body=body, seconds=CREATE_SECONDS)

    async def delete(self, app: str, version: str) -> Answer:
        """DELETE a version."""
        return await self.call("DELETE", version_path(app, version))

    async def deployments(self, app: str, version: str) -> Answer:
        """GET a version's deployments. Rows do not name the version: the query filters by it."""
        query = equal_to(application=app, version=version)
        return await self.call("GET", "/v1/deployments", params={"query": query, "limit": 1})

    async def apps(self) -> Listing:
        """List the apps that this token has access to."""
        return await self.list_all("/v1/apps", "applications", APPS_PER_PAGE)

    async def app(self, app: str) -> Answer:
        """GET one app."""
        return await self.call("GET", app_path(app), shape=app_named(app))

    async def probe(self) -> Answer:
        """GET a page of one app to test whether the token is accepted; its logo is not read."""
        params = {"page": 1, "limit": 1}
        shape = list_of("applications", first=True)
        return await self.call(
            "GET", "/v1/apps", params=params, largest=MAX_PROBE_BYTES, shape=shape
        )

    async def versions(self, app: str) -> Listing:
        """List an app's versions."""
        return await self.list_all(versions_path(app), "versions", VERSIONS_PER_PAGE)

    async def list_all(
        self, path: str, key: str, limit: int, *, id_field: str = "name", query: str | None = None
    ) -> Listing:
        """Read a list to its last page; its rows are under `key`, and `id_field` identifies one."""
        pages = Pages(key, id_field)
        page = 1
        while True:
            params: dict[str, int | str] = {"page": page, "limit": limit}
            queried: dict[str, int | str] = {} if query is None else {"query": query}
            shape = list_of(key, first=page == 1, id_field=id_field)
            answer = await self.call("GET", path, params=params | queried, shape=shape)
            refused = page == 1 and query is None and answer.says(HTTPStatus.BAD_REQUEST)
            if refused:  # the list of versions documents no query parameters
                answer = await self.call("GET", path, shape=shape)
            if not pages.take(answer) or refused:
                return pages.listing()
            page += 1

    async def call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, int | str] | None = None,
        seconds: float = READ_SECONDS,
        largest: int = MAX_RESPONSE_BYTES,
        shape: Shape = any_object,
        success: Success = OF_VERSIONS,
    ) -> Answer:
        """Send one request; `success` is how its response confirms it."""
        async with self._pace:
            started = time.monotonic()
            try:
                async with (
                    asyncio.timeout(seconds + SLOW_READ_SECONDS),
                    self._http.stream(
                        method,
                        path,
                        json=body,
                        params=params,
                        headers={"Authorization": f"token {self._token.reveal()}"},
                        timeout=httpx.Timeout(seconds, connect=CONNECT_SECONDS),
                    ) as response,
                ):
                    done = response.status_code in success.statuses
                    limit = largest if done else MAX_ERROR_BYTES
                    content, unreadable = await _read(response, limit)
            except (TimeoutError, httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
                answer = Answer(method, path, None, message=_describe(error), success=success)
            else:
                answer = read_answer(
                    method=method,
                    path=path,
                    status=response.status_code,
                    headers=response.headers,
                    content=content,
                    now=time.time_ns() // 1_000_000,
                    secrets=(*self.secrets, *_secrets_in(body)),
                    unreadable=unreadable,
                    shape=shape,
                    success=success,
                )
            took = time.monotonic() - started
        metrics.edgegap_calls.labels(method, metrics.label(answer.status)).observe(took)
        milliseconds = int(took * 1000)
        sent_at = time.time_ns() // 1_000_000 - milliseconds
        return replace(answer, at=sent_at, milliseconds=milliseconds)


@asynccontextmanager
async def edgegap_client(
    base_url: str,
    token: Secret,
    pace: RateLimiter,
    secrets: tuple[Secret, ...] = (),
    *,
    kind: type[EdgegapClient] = EdgegapClient,
) -> AsyncIterator[EdgegapClient]:
    """Open the one client of this process, and close its connections at the end."""
    headers = {
        "Accept": "application/json",
        "User-Agent": f"docker-hub-receiver/{VERSION}",
        **UNENCODED,
    }
    async with http_client(base_url=base_url, headers=headers, follow_redirects=False) as http:
        yield kind(http, token, pace, secrets)


async def _read(response: httpx.Response, limit: int) -> tuple[bytes, str]:
    """Return the body, or its beginning and the reason why the rest is not read."""
    try:
        return await read_bounded(response, limit), ""
    except BodyTooLarge as error:
        return error.beginning, str(error)
    except UnreadableBody as error:
        return b"", str(error)


def _describe(error: Exception) -> str:
    """Return a short description of the error without the library's text, which may hold a URL."""
    if isinstance(error, httpx.ConnectTimeout):
        return f"no connection within {CONNECT_SECONDS:g} s"
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return "no answer in time"
    if isinstance(error, httpx.ConnectError | httpx.ProxyError):
        return no_connection(error)
    if isinstance(error, httpx.NetworkError | httpx.RemoteProtocolError):
        return "the connection broke"
    return type(error).__name__


def _secrets_in(sent: Mapping[str, Any] | None) -> list[Secret]:
    if sent is None:
        return []
    envs = sent.get("envs") or []
    values = [sent.get("private_token"), *(env.get("value") for env in envs)]
    return [Secret(value) for value in values if isinstance(value, str) and value]

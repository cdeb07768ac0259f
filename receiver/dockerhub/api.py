"""Docker Hub's API: the tags of a repository, which cost no pull, its webhooks and settings.

Source: docs.docker.com/reference/api/hub. Works without login for public repositories, with a
personal token, and with an organization's, which is accepted under /v2/namespaces/ only.

The paths and bodies for webhooks are not documented; they are those of public clients. So no call
that administrates is repeated, and a response that is not expected is kept as it is.
"""

import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Iterable, Mapping
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import msgspec

from receiver.dockerhub.http import TOO_MANY, DockerHubUnavailable, HttpResponse, claims_of, fetch
from receiver.dockerhub.records import (
    ImmutableTags,
    Tag,
    Webhook,
    new_webhook,
    read_immutable_tags,
    read_tag,
    read_webhooks,
)
from receiver.images import Login
from receiver.secret import Secret
from receiver.timestamps import read_retry_after

T = TypeVar("T")

MAX_RESPONSE_BYTES = 8 * 1024 * 1024
MAX_TOKEN_BYTES = 1024 * 1024
PER_PAGE = 100
MAX_PAGES = 1000
TOKEN_MARGIN_SECONDS = 60.0
MIN_WAIT_SECONDS = 1.0
MAX_WAIT_SECONDS = 120.0  # the limits are per minute: a longer wait was misread
DEFAULT_WAIT_SECONDS = 60.0
LOCKED_SECONDS = 600.0  # a user name is locked after many refused logins (hub-feedback#2201)
UNKNOWN_TOKEN_LIFE = 300.0
MAX_WEBHOOK_PAGES = 20
CREATED = frozenset({HTTPStatus.OK, HTTPStatus.CREATED})
DELETED = frozenset({HTTPStatus.OK, HTTPStatus.ACCEPTED, HTTPStatus.NO_CONTENT})
REFUSALS = frozenset({401, 403, 404})  # 404: also a repository that the login may not see

Answered = Callable[[Mapping[str, str]], None]
"""Called with the headers of each response."""
Waiting = Callable[[DockerHubUnavailable], Awaitable[bool]]
"""Waits if Docker Hub asks for it, and returns whether to repeat the call."""


class HubForbidden(DockerHubUnavailable):
    """Docker Hub's API refuses the login, or the login may not see the repository.

    By `status`: 401 and 403 refuse, 404 is for a name that the login does not see. Each
    has Docker's error body: the same status with a page of HTML is an outage.
    """


class Page(msgspec.Struct, frozen=True):
    """One page of a repository's tags, newest first, and the number of all tags."""

    tags: tuple[Tag, ...]
    total: int


class Hub:
    """Docker Hub's API; its short-lived tokens are cached until a minute before they expire."""

    def __init__(
        self, http: httpx.AsyncClient, base_url: str, *, answered: Answered | None = None
    ) -> None:
        self._http = http
        self._base = base_url
        self._answered = answered
        self._tokens: dict[Login, tuple[str, float]] = {}
        self._rest_until = 0.0  # by the monotonic clock

    async def tag(self, repository: str, tag: str, login: Login | None) -> Tag | None:
        """Return the record of a tag, None if there is none. Raises DockerHubUnavailable."""
        answer = await self._get(
            f"{_repository_path(repository)}/tags/{quote(tag, safe='')}", login
        )
        return read_tag(answer.json()) if answer.status == httpx.codes.OK else None

    async def pages(
        self, repository: str, login: Login | None, waiting: Waiting | None = None
    ) -> AsyncIterator[Page]:
        """Yield a repository's tags page by page. Raises DockerHubUnavailable.

        The newest are requested first, but Docker Hub has changed the meaning of `ordering` before:
        the caller must check. Only the page number of Docker Hub's `next` is used.
        """
        number = 1
        for _ in range(MAX_PAGES):
            query = f"page={number}&page_size={PER_PAGE}&ordering=last_updated"
            path = f"{_repository_path(repository)}/tags?{query}"
            answer = await self._get_later(path, login, waiting)
            if answer.status != httpx.codes.OK:
                what = f"Docker Hub's API does not list {repository}"
                refused = _refusal(what, answer, login)
                past_the_last = number > 1 and answer.status == httpx.codes.NOT_FOUND
                if past_the_last and isinstance(refused, HubForbidden):
                    return  # tags were deleted meanwhile
                raise refused
            body = answer.json()
            rows = body.get("results")
            if not isinstance(rows, list):
                raise DockerHubUnavailable(
                    f"Docker Hub's API returned no list of the tags of {repository}"
                )
            records = [read_tag(row) for row in rows if isinstance(row, dict)]
            tags = [tag for tag in records if tag is not None]
            total = body.get("count")
            yield Page(tuple(tags), total if isinstance(total, int) else len(tags))
            following = _page_number(body.get("next"))
            if following is None or following <= number or not rows:
                return
            number = following

    async def _get_later(
        self, path: str, login: Login | None, waiting: Waiting | None
    ) -> HttpResponse:
        """Make a request; repeat it as long as the caller waits when Docker Hub asks to."""
        while True:
            try:
                return await self._get(path, login)
            except DockerHubUnavailable as error:
                if waiting is None or not await waiting(error):
                    raise

    async def sees(self, repository: str, login: Login | None) -> bool:
        """Return whether the login can see the repository. Raises DockerHubUnavailable."""
        answer = await self._get(_repository_path(repository), login)
        if answer.status == httpx.codes.OK:
            return bool(answer.json())
        what = f"Docker Hub's API does not show {repository}"
        refused = _refusal(what, answer, login)
        if isinstance(refused, HubForbidden):
            return False
        raise refused

    async def send(
        self, method: str, path: str, login: Login | None, body: object = None
    ) -> HttpResponse:
        """Make one call, once, and return its response with any status.

        Raises DockerHubUnavailable if there is none, and HubForbidden if the login is refused.
        """
        return await self._ask(path, login, method, body, any_status=True)

    async def log_in(self, login: Login) -> None:
        """Log in, once. Raises HubForbidden and DockerHubUnavailable, with the exact response."""
        await self._token(login, any_status=True)

    def secrets_of(self, login: Login | None) -> list[Secret]:
        """Return what must be masked in responses to the login's calls."""
        if login is None:
            return []
        return [login.token, Secret(self._tokens.get(login, ("", 0.0))[0])]

    def forget(self, login: Login) -> None:
        """Remove the login's token from the cache."""
        self._tokens.pop(login, None)

    async def _get(self, path: str, login: Login | None) -> HttpResponse:
        remembered = login in self._tokens
        answer = await self._ask(path, login)
        if answer.status == httpx.codes.UNAUTHORIZED and login is not None and remembered:
            self.forget(login)  # another call may have done so meanwhile
            answer = await self._ask(path, login)
        return answer

    async def _ask(
        self,
        path: str,
        login: Login | None,
        method: str = "GET",
        body: object = None,
        *,
        any_status: bool = False,
    ) -> HttpResponse:
        headers = {}
        if login is not None:
            headers["Authorization"] = f"Bearer {await self._token(login, any_status=any_status)}"
        rest = self._rest_until - time.monotonic()
        if rest > 0:
            raise DockerHubUnavailable("Docker Hub's limit on its API is used up", wait=rest)
        url = f"{self._base}{path}"
        try:
            answer = await fetch(
                self._http,
                method,
                url,
                largest=MAX_RESPONSE_BYTES,
                headers=headers,
                json=body,
                any_status=any_status,
            )
        except DockerHubUnavailable as error:
            if error.wait is not None:
                error.wait = min(error.wait, MAX_WAIT_SECONDS)
            raise
        self._note_limit(answer)
        if self._answered is not None:
            self._answered(answer.headers)
        return answer

    def _note_limit(self, answer: HttpResponse) -> None:
        """Pause after the last call that this minute allows, before Docker Hub refuses one."""
        if answer.headers.get("x-ratelimit-remaining") == "0":
            wait = read_retry_after(answer.headers, time.time_ns() // 1_000_000) or 0
            self._rest_until = time.monotonic() + min(wait / 1000, MAX_WAIT_SECONDS)

    async def _token(self, login: Login, *, any_status: bool = False) -> str:
        token, until = self._tokens.get(login, ("", 0.0))
        if time.monotonic() < until:
            return token
        try:
            answer = await fetch(
                self._http,
                "POST",
                f"{self._base}/v2/auth/token",
                largest=MAX_TOKEN_BYTES,
                json={"identifier": login.username, "secret": login.token.reveal()},
                any_status=any_status,
            )
        except DockerHubUnavailable as error:
            if error.status == TOO_MANY and error.wait is None:
                error.wait = LOCKED_SECONDS
            raise
        if answer.status != httpx.codes.OK:
            what = "Docker Hub's API refuses the login"
            raise _refusal(what, answer, login, of_login=True)
        token = _token_in(answer, login)
        life = _seconds_left(token)
        margin = min(TOKEN_MARGIN_SECONDS, life / 2)
        self._tokens[login] = (token, time.monotonic() + life - margin)
        return token


def seconds_to_wait(error: DockerHubUnavailable) -> float | None:
    """Return the seconds to wait before the same call; None if Docker Hub did not ask to wait.

    It rounds to whole seconds, so a wait may be 0 while the limit still holds: wait at least a
    second, and up to one more so that not all callers return at once.
    """
    if error.wait is None and error.status != TOO_MANY:
        return None
    asked = DEFAULT_WAIT_SECONDS if error.wait is None else error.wait
    jitter = random.random() * MIN_WAIT_SECONDS  # noqa: S311 - spreads calls
    return max(asked, MIN_WAIT_SECONDS) + jitter


def waiting_as_asked(rest: Callable[[float], Awaitable[None]], *, longest: float) -> Waiting:
    """Return a Waiting that calls `rest` with the seconds, at most `longest` of them in total."""
    waited = 0.0

    async def wait(error: DockerHubUnavailable) -> bool:
        nonlocal waited
        seconds = seconds_to_wait(error)
        if seconds is None or waited + seconds > longest:
            return False
        waited += seconds
        await rest(seconds)
        return True

    return wait


def _repository_path(repository: str) -> str:
    """Return the path of a repository in the API."""
    group, _, project = repository.partition("/")
    return f"/v2/namespaces/{quote(group)}/repositories/{quote(project)}"


def _page_number(following: object) -> int | None:
    if not isinstance(following, str):
        return None
    try:
        numbers = parse_qs(urlsplit(following).query).get("page", [])
    except ValueError:
        return None
    text = numbers[0] if numbers else ""
    valid = text.isascii() and text.isdigit() and len(text) <= len(str(MAX_PAGES))
    return int(text) if valid else None


def _refusal(
    what: str, answer: HttpResponse, login: Login | None, *, of_login: bool = False
) -> DockerHubUnavailable:
    secrets = [login.token] if login is not None else []
    refused = answer.status in REFUSALS and answer.error() is not None
    kind = HubForbidden if refused else DockerHubUnavailable
    exact = answer.exact(secrets, opaque=True) if of_login else None
    return kind(f"{what}: {answer.described(secrets)}", status=answer.status, exact=exact)


def _token_in(answer: HttpResponse, login: Login) -> str:
    """Return the token in the response to a login; raises DockerHubUnavailable."""
    try:
        given = answer.json().get("access_token")
    except DockerHubUnavailable:
        given = None
    if isinstance(given, str) and given.isascii() and given.isprintable():
        return given
    secrets = [login.token, *([Secret(given)] if isinstance(given, str) else [])]
    exact = answer.exact(secrets, opaque=True)
    raise DockerHubUnavailable(
        "Docker Hub's API returned no token", status=answer.status, exact=exact
    )


def _seconds_left(token: str) -> float:
    """Return the life of a token by its own claims (a JWT's `exp` and `iat`), else 300 s.

    Both are times of Docker Hub's clock; without `iat`, `exp` is compared with ours.
    """
    try:
        claims = claims_of(token)
        return float(claims["exp"]) - float(claims.get("iat", time.time()))
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return UNKNOWN_TOKEN_LIFE


class UnexpectedResponse(DockerHubUnavailable):
    """A response that the call does not expect; `exact` is the response with masked secrets."""

    def __init__(self, call: str, response: HttpResponse, secrets: Iterable[Secret]) -> None:
        sentence = f"Docker Hub's API answers {call} with HTTP {response.status}"
        super().__init__(sentence, status=response.status, exact=response.exact(secrets))


class RepositoryAdmin:
    """The calls for one repository. Each raises DockerHubUnavailable or UnexpectedResponse."""

    def __init__(self, hub: Hub, repository: str, login: Login | None) -> None:
        self._hub = hub
        self._login = login
        self.repository = repository
        self._record = _repository_path(repository)
        self._immutable = f"{self._record}/immutabletags"
        self._webhooks = f"/v2/repositories/{quote(repository)}/webhook_pipeline/"
        self.last_response: str | None = None  # exact, with masked secrets

    async def webhooks(self) -> list[Webhook]:
        """Return all webhooks of the repository."""
        found: list[Webhook] = []
        for number in range(1, MAX_WEBHOOK_PAGES + 1):
            query = "?page_size=100" + (f"&page={number}" if number > 1 else "")
            page = await self._call("GET", self._webhooks, read_webhooks, query=query)
            found += page.webhooks
            if not page.has_next:
                break
        return found

    async def create_webhook(self, name: str, url: str) -> None:
        """Create a webhook. Whether it exists is known only from the list."""
        body = new_webhook(name, url)
        token = Secret(url.rpartition("/")[2])
        await self._send("POST", self._webhooks, CREATED, body, secrets=[token])

    async def delete_webhook(self, slug: str) -> None:
        """Delete a webhook by its slug."""
        await self._send("DELETE", f"{self._webhooks}{quote(slug, safe='')}/", DELETED)

    async def immutable_tags(self) -> ImmutableTags | None:
        """Return the settings; None if Docker Hub does not return them."""
        (found,) = await self._call("GET", self._record, lambda body: [read_immutable_tags(body)])
        return found

    async def matching_tags(self, rule: str) -> list[str]:
        """Return the tags in the repository that Docker Hub matches with a rule."""
        return await self._call("POST", f"{self._immutable}/verify", _matched_tags, {"regex": rule})

    async def set_immutable_tags(self, settings: ImmutableTags) -> None:
        """Set the settings, replacing the present ones."""
        await self._send("PATCH", self._immutable, {HTTPStatus.OK}, settings.body())

    async def _call(
        self,
        method: str,
        path: str,
        read: Callable[[Mapping[str, Any]], T | None],
        body: object = None,
        *,
        query: str = "",
    ) -> T:
        """Make a call and return what `read` finds in the response; None is not expected."""
        response = await self._send(method, path, {HTTPStatus.OK}, body, query=query)
        try:
            found = read(response.json())
        except DockerHubUnavailable:  # not a JSON object
            found = None
        if found is None:
            secrets = self._hub.secrets_of(self._login)
            raise UnexpectedResponse(f"{method} {path}", response, secrets)
        return found

    async def _send(
        self,
        method: str,
        path: str,
        expected: Container[int],
        body: object = None,
        *,
        query: str = "",
        secrets: Iterable[Secret] = (),
    ) -> HttpResponse:
        response = await self._hub.send(method, f"{path}{query}", self._login, body)
        known = [*self._hub.secrets_of(self._login), *secrets]
        self.last_response = response.exact(known)
        if response.status not in expected:
            raise UnexpectedResponse(f"{method} {path}", response, known)
        return response


def _matched_tags(body: Mapping[str, Any]) -> list[str] | None:
    tags = body.get("tags")
    if not isinstance(tags, list):
        return None
    return [tag for tag in tags if isinstance(tag, str)]

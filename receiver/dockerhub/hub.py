"""Docker Hub's API: tag records, which cost no pull, and the list of a repository's tags.

Source: docs.docker.com/reference/api/hub. Works without login for public repositories, with a
personal token, and with an organization's, which is taken under /v2/namespaces/ only.
"""

import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import httpx
import msgspec

from receiver.dockerhub.fetching import Fetched, Unavailable, fetch
from receiver.dockerhub.manifest import Platforms, read_tag_record
from receiver.images import is_tag
from receiver.rules import Login
from receiver.secret import Secret, mask
from receiver.times import read_iso

LARGEST_ANSWER = 8 * 1024 * 1024
PER_PAGE = 100
MOST_PAGES = 1000
MOST_WAITS = 10
TOKEN_MARGIN_SECONDS = 60.0
LONGEST_REST_SECONDS = 900.0
UNKNOWN_TOKEN_LIFE = 300.0
REFUSALS = frozenset({401, 403, 404})  # 404: to who may not see it, it is not there


Waiting = Callable[[Unavailable], Awaitable[bool]]


class HubRefused(Unavailable):
    """Docker Hub's API refuses the login, or the login may not see the repository.

    `status` tells which: 401 and 403 refuse, to a 404 there is nothing of this name to be seen.
    """


@dataclass(frozen=True, slots=True)
class HubTag:
    """One tag as Docker Hub lists it. `pushed_at` in epoch milliseconds."""

    tag: str
    pushed_at: int | None
    digest: str | None
    media_type: str | None
    platforms: Platforms | None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a repository's tags, newest first, and how many there are in all."""

    tags: tuple[HubTag, ...]
    total: int


class Hub:
    """Docker Hub's API, with its short-lived tokens remembered until a minute before their end."""

    def __init__(self, http: httpx.AsyncClient, base_url: str) -> None:
        self._http = http
        self._base = base_url
        self._tokens: dict[Login, tuple[str, float]] = {}
        self._rest_until = 0.0  # by Docker Hub's clock, epoch seconds

    async def tag(self, repository: str, tag: str, login: Login | None) -> HubTag | None:
        """Return one tag's record, None where there is none to be had. Raises Unavailable."""
        answer = await self._get(f"{_path(repository)}/tags/{quote(tag, safe='')}", login)
        return _tag(answer.json()) if answer.status == httpx.codes.OK else None

    async def pages(
        self, repository: str, login: Login | None, waiting: Waiting | None = None
    ) -> AsyncIterator[Page]:
        """Yield a repository's tags page by page. Raises Unavailable.

        Newest first is asked for; which way Docker Hub understands `ordering` has changed before,
        so the reader must look. Of the `next` that Docker Hub gives only the page number is used.
        """
        number = 1
        for _ in range(MOST_PAGES):
            query = f"page={number}&page_size={PER_PAGE}&ordering=last_updated"
            answer = await self._patiently(f"{_path(repository)}/tags?{query}", login, waiting)
            if number > 1 and answer.status == httpx.codes.NOT_FOUND:
                return  # past the last page: tags were deleted meanwhile
            if answer.status != httpx.codes.OK:
                what = f"Docker Hub's API does not list {repository}"
                raise _not_given(what, answer, [login.token] if login else [])
            body = answer.json()
            rows = body.get("results")
            if not isinstance(rows, list):
                raise Unavailable(f"Docker Hub's API gave no list of the tags of {repository}")
            tags = [tag for row in rows if isinstance(row, dict) and (tag := _tag(row)) is not None]
            total = body.get("count")
            yield Page(tuple(tags), total if isinstance(total, int) else len(tags))
            following = _page_number(body.get("next"))
            if following is None or following <= number or not rows:
                return
            number = following

    async def _patiently(self, path: str, login: Login | None, waiting: Waiting | None) -> Fetched:
        """Ask; where Docker Hub asks to wait and the caller will, wait and ask the same again."""
        for _ in range(MOST_WAITS):
            try:
                return await self._get(path, login)
            except Unavailable as error:
                if waiting is None or not await waiting(error):
                    raise
        return await self._get(path, login)

    async def sees(self, repository: str, login: Login | None) -> bool:
        """Tell whether the repository is there for this login. Raises Unavailable."""
        answer = await self._get(_path(repository), login)
        return answer.status == httpx.codes.OK

    async def _get(self, path: str, login: Login | None) -> Fetched:
        remembered = login in self._tokens
        answer = await self._ask(path, login)
        if answer.status == httpx.codes.UNAUTHORIZED and login is not None and remembered:
            del self._tokens[login]
            answer = await self._ask(path, login)
        return answer

    async def _ask(self, path: str, login: Login | None) -> Fetched:
        headers = {}
        if login is not None:
            headers["Authorization"] = f"Bearer {await self._token(login)}"
        rest = self._rest_until - time.time()
        if rest > 0:
            raise Unavailable("Docker Hub's limit on its API is used up", wait=rest)
        url = f"{self._base}{path}"
        answer = await fetch(self._http, "GET", url, largest=LARGEST_ANSWER, headers=headers)
        self._note_limit(answer)
        return answer

    def _note_limit(self, answer: Fetched) -> None:
        """Rest once the last call of this minute is made, before Docker Hub must refuse us."""
        left = answer.headers.get("x-ratelimit-remaining", "")
        until = answer.headers.get("x-ratelimit-reset", "")
        if left == "0" and until.isascii() and until.isdigit():
            self._rest_until = min(float(until[:12]), time.time() + LONGEST_REST_SECONDS)

    async def _token(self, login: Login) -> str:
        token, until = self._tokens.get(login, ("", 0.0))
        if time.monotonic() < until:
            return token
        answer = await fetch(
            self._http,
            "POST",
            f"{self._base}/v2/auth/token",
            largest=LARGEST_ANSWER,
            json={"identifier": login.username, "secret": login.token.reveal()},
        )
        if answer.status != httpx.codes.OK:
            raise _not_given("Docker Hub's API refuses the login", answer, [login.token])
        given = answer.json().get("access_token")
        if not isinstance(given, str) or not given.isascii() or not given.isprintable():
            raise Unavailable("Docker Hub's API gave no token")
        token = given
        life = _seconds_left(token)
        margin = min(TOKEN_MARGIN_SECONDS, life / 2)
        self._tokens[login] = (token, time.monotonic() + life - margin)
        return token


def _path(repository: str) -> str:
    group, _, project = repository.partition("/")
    return f"/v2/namespaces/{quote(group)}/repositories/{quote(project)}"


def _tag(row: Mapping[str, Any]) -> HubTag | None:
    name = row.get("name")
    if not isinstance(name, str) or not is_tag(name):
        return None
    digest, platforms = read_tag_record(row)
    media_type = row.get("media_type")
    return HubTag(
        tag=name,
        pushed_at=read_iso(row.get("tag_last_pushed")) or read_iso(row.get("last_updated")),
        digest=digest,
        media_type=media_type if isinstance(media_type, str) and media_type else None,
        platforms=platforms,
    )


def _page_number(following: object) -> int | None:
    if not isinstance(following, str):
        return None
    try:
        numbers = parse_qs(urlsplit(following).query).get("page", [])
    except ValueError:
        return None
    text = numbers[0] if numbers else ""
    sound = text.isascii() and text.isdigit() and len(text) <= len(str(MOST_PAGES))
    return int(text) if sound else None


def _not_given(what: str, answer: Fetched, secrets: Iterable[Secret]) -> Unavailable:
    kind = HubRefused if answer.status in REFUSALS else Unavailable
    return kind(f"{what}: {_told(answer, secrets)}", status=answer.status)


def _told(answer: Fetched, secrets: Iterable[Secret]) -> str:
    try:
        text = answer.json().get("message") or answer.json().get("detail")
    except Unavailable:
        text = None
    known = mask(str(text or ""), secrets)[:200]
    printable = "".join(letter for letter in known if letter.isprintable())
    return f"HTTP {answer.status}" + (f" {printable}" if printable else "")


def _seconds_left(token: str) -> float:
    """Return how long a token lives by its own word (a JWT's `exp`), else 300 s."""
    try:
        payload = token.split(".")[1]
        claims = msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["exp"]) - time.time()
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError):
        return UNKNOWN_TOKEN_LIFE

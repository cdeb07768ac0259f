"""Looking at an image in the registry, with the login Edgegap will pull with. Reads only.

Flow: github.com/distribution/distribution, docs/spec/auth/token. Nothing an answer says decides
where a credential goes: the challenge's realm is compared with ours and never followed.
"""

import base64
import hashlib
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from urllib.parse import quote, urljoin, urlsplit

import httpx

from receiver.dockerhub.fetching import Fetched, Unavailable, fetch
from receiver.dockerhub.manifest import (
    ACCEPTED,
    ConfigNeeded,
    Platforms,
    UnreadableError,
    read_config,
    read_manifest,
)
from receiver.images import is_digest
from receiver.rules import Login
from receiver.secret import Secret, mask

LARGEST_MANIFEST = 4 * 1024 * 1024
LARGEST_BLOB = 1024 * 1024
LARGEST_TOKEN = 256 * 1024
MOST_REDIRECTS = 2
SHORTEST_TOKEN_LIFE = 60  # seconds, where none is told
LONGEST_TOKEN_LIFE = 3600
TOKEN_MARGIN_SECONDS = 15.0
MANIFESTS = frozenset(
    {
        *ACCEPTED,
        *(f"application/vnd.docker.distribution.manifest.v1+{k}" for k in ("json", "prettyjws")),
    }
)
REDIRECTS = frozenset({301, 302, 303, 307, 308})

_REALM = re.compile(r'realm="([^"]*)"', re.IGNORECASE)
_COUNT = re.compile(r"(\d{1,9})(?:;w=(\d{1,9}))?")


@dataclass(frozen=True, slots=True)
class PullLimit:
    """Docker Hub's pull limit for this account or address, as its headers told it."""

    limit: int
    remaining: int
    window_seconds: int


@dataclass(frozen=True, slots=True)
class Pulls:
    """What the registry told one login of its pulls. `met`: its last answer was a 429."""

    limit: PullLimit | None = None
    met: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """The tag is there and we may pull it. `digest` is None where the registry told none."""

    digest: str | None
    media_type: str


@dataclass(frozen=True, slots=True)
class NotThere:
    """The registry has no such tag (yet)."""


@dataclass(frozen=True, slots=True)
class Denied:
    """We may not pull. `login_refused`: the login itself is wrong, not just without the right."""

    login_refused: bool
    detail: str


Seen = Found | NotThere | Denied


class Registry:
    """One registry and its login server."""

    def __init__(self, http: httpx.AsyncClient, registry_url: str, auth_url: str) -> None:
        self._http = http
        self._registry = registry_url
        self._auth = auth_url
        self._tokens: dict[tuple[str, Login | None], tuple[str, float]] = {}
        self.pulls: dict[Login | None, Pulls] = {}  # by login, of those that were asked
        self.pull_limit: PullLimit | None = None  # as it was told last, whatever the login
        self.limit_met = False  # the last answer was a 429

    async def see(self, repository: str, tag: str, login: Login | None) -> Seen:
        """HEAD the tag's manifest: free of pull quota. Raises Unavailable."""
        answer = await self._get("HEAD", repository, f"manifests/{quote(tag)}", login)
        if isinstance(answer, Denied):
            return answer
        if answer.status == httpx.codes.NOT_FOUND:
            return NotThere()
        if answer.status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            return Denied(login_refused=False, detail=f"HTTP {answer.status}")
        if answer.status != httpx.codes.OK:
            raise Unavailable(f"the registry answered HTTP {answer.status}")
        digest = answer.headers.get("docker-content-digest", "")
        media_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type not in MANIFESTS:
            raise Unavailable("what the registry answers is no manifest")
        return Found(digest if is_digest(digest) else None, media_type)

    async def platforms(self, repository: str, digest: str, login: Login | None) -> Platforms:
        """Return an image's platforms by its digest: counts as one pull. Raises Unavailable.

        Where an index leaves it to its one image to tell, that is read too: one pull more.
        """
        found = await self._read(repository, digest, login)
        if found.deciding is None:
            return found
        own = await self._read(repository, found.deciding, login)
        return Platforms(tuple(dict.fromkeys((*found.names, *own.names))), own.untold)

    async def _read(self, repository: str, digest: str, login: Login | None) -> Platforms:
        answer = await self._got(repository, f"manifests/{digest}", login, digest=digest)
        try:
            found = read_manifest(answer.headers.get("content-type", ""), answer.content)
            if isinstance(found, ConfigNeeded):
                path = f"blobs/{found.digest}"
                blob = await self._got(repository, path, login, digest=found.digest)
                return read_config(blob.content)
        except UnreadableError as error:
            raise Unavailable(f"the registry's manifest cannot be read: {error}") from None
        return found

    async def may_push(self, repository: str, login: Login) -> bool | None:
        """Tell whether the login may push, by asking for the right; None when it is refused.

        A read-only token asked for `pull,push` is answered 401 (github.com/docker/cli/issues/4511).
        """
        try:
            token = await self._token(repository, login, actions="pull,push")
        except _LoginRefusedError as refused:
            return False if "insufficient scopes" in refused.detail else None
        return "push" in _actions(token)

    async def _got(
        self, repository: str, path: str, login: Login | None, *, digest: str
    ) -> Fetched:
        answer = await self._get("GET", repository, path, login)
        if isinstance(answer, Denied) or answer.status != httpx.codes.OK:
            status = answer.detail if isinstance(answer, Denied) else f"HTTP {answer.status}"
            raise Unavailable(f"the registry did not give {path[:20]}…: {status}")
        if f"sha256:{hashlib.sha256(answer.content).hexdigest()}" != digest:
            raise Unavailable("what the registry gave does not match its digest")
        return answer

    async def _get(
        self, method: str, repository: str, path: str, login: Login | None
    ) -> Fetched | Denied:
        url = f"{self._registry}/v2/{repository}/{path}"
        key = (repository, login)
        token, until = self._tokens.get(key, ("", 0.0))
        if time.monotonic() >= until:
            token = ""
        answer = await self._call(method, url, token, login)
        if answer.status == httpx.codes.UNAUTHORIZED:
            self._tokens.pop(key, None)
            challenge = answer.headers.get("www-authenticate", "")
            if not self._is_ours(challenge):
                raise Unavailable(
                    "the registry names a login server that is not DOCKERHUB_AUTH_URL"
                )
            try:
                token = await self._token(repository, login)
            except _LoginRefusedError as refused:
                return Denied(login_refused=True, detail=refused.detail)
            answer = await self._call(method, url, token, login)
        if path.startswith("manifests/"):  # of blobs none is told, whatever the plan
            self._remember_limit(answer, login)
        return answer

    def _is_ours(self, challenge: str) -> bool:
        realm = _REALM.search(challenge)
        if realm is None or not challenge.lower().startswith("bearer "):
            return False
        try:
            return urlsplit(realm[1]) == urlsplit(self._auth)
        except ValueError:
            return False

    async def _call(self, method: str, url: str, token: str, login: Login | None) -> Fetched:
        headers = {"Accept": ", ".join(ACCEPTED)}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        largest = LARGEST_BLOB if "/blobs/" in url else LARGEST_MANIFEST
        try:
            answer = await fetch(self._http, method, url, largest=largest, headers=headers)
        except Unavailable as error:
            self._note_met(login, met=error.status == httpx.codes.TOO_MANY_REQUESTS)
            raise
        self._note_met(login, met=False)
        for _ in range(MOST_REDIRECTS):
            if answer.status not in REDIRECTS:
                return answer
            url = self._redirected(url, answer.headers.get("location", ""))
            answer = await fetch(self._http, method, url, largest=largest)  # no Authorization
        if answer.status in REDIRECTS:
            raise Unavailable(f"the registry redirects more than {MOST_REDIRECTS} times")
        return answer

    def _redirected(self, url: str, location: str) -> str:
        try:
            url = urljoin(url, location)
            parts = urlsplit(url)
            sound = bool(parts.hostname) and parts.port != 0  # a port over 65535 raises
        except ValueError:
            raise Unavailable("the registry redirects to no URL") from None
        plain = parts.scheme == "http" and self._registry.startswith("http://")
        if not sound or parts.username or (parts.scheme != "https" and not plain):
            raise Unavailable("the registry redirects to what is not https")
        return url

    async def _token(self, repository: str, login: Login | None, *, actions: str = "pull") -> str:
        scope = quote(f"repository:{repository}:{actions}", safe=":,")
        url = f"{self._auth}?service=registry.docker.io&scope={scope}"
        headers = {}
        if login is not None:
            pair = f"{login.username}:{login.token.reveal()}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        answer = await fetch(self._http, "GET", url, largest=LARGEST_TOKEN, headers=headers)
        if answer.status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            raise _LoginRefusedError(_detail(answer, [login.token] if login else []))
        if answer.status != httpx.codes.OK:
            raise Unavailable(f"the login server answered HTTP {answer.status}")
        body = answer.json()
        token = body.get("token") or body.get("access_token")
        if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
            raise Unavailable("the login server gave no token")
        if actions == "pull":
            life = body.get("expires_in")
            told = life if isinstance(life, int) and life > 0 else SHORTEST_TOKEN_LIFE
            seconds = min(told, LONGEST_TOKEN_LIFE)
            margin = min(TOKEN_MARGIN_SECONDS, seconds / 2)
            until = time.monotonic() + seconds - margin
            self._tokens[repository, login] = (token, until)
        return token

    def _note_met(self, login: Login | None, *, met: bool) -> None:
        self.limit_met = met
        self.pulls[login] = replace(self.pulls.get(login, Pulls()), met=met)

    def _remember_limit(self, answer: Fetched, login: Login | None) -> None:
        limit = _COUNT.match(answer.headers.get("ratelimit-limit", ""))
        remaining = _COUNT.match(answer.headers.get("ratelimit-remaining", ""))
        if limit and remaining:
            window = int(limit[2] or 0)
            self.pull_limit = PullLimit(int(limit[1]), int(remaining[1]), window)
        elif answer.status == httpx.codes.OK:
            self.pull_limit = None  # a plan without one
        else:
            return
        self.pulls[login] = Pulls(self.pull_limit)


class _LoginRefusedError(Exception):
    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


def _detail(answer: Fetched, secrets: Iterable[Secret]) -> str:
    try:
        body = answer.json()
    except Unavailable:
        return f"HTTP {answer.status}"
    detail = body.get("details") or body.get("message") or body.get("detail")
    text = detail if isinstance(detail, str) else f"HTTP {answer.status}"
    return "".join(letter for letter in mask(text, secrets)[:200] if letter.isprintable())


def _actions(token: str) -> list[str]:
    """Return the rights that a registry token grants, where it can be read (it is a JWT)."""
    try:
        payload = token.split(".")[1]
        content = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        access = Fetched(200, {}, content).json().get("access", [])
        return [action for row in access for action in row.get("actions", [])]
    except (IndexError, ValueError, AttributeError, TypeError, Unavailable):
        return []

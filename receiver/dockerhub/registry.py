"""Read an image from the registry, with the login that Edgegap will use. Read-only.

Content is verified with its digest; a redirect is followed without the token, to https only.
"""

import base64
import hashlib
import re
import time
from urllib.parse import quote, urljoin, urlsplit

import httpx
import msgspec
from msgspec.structs import replace

from receiver.dockerhub.http import IN_BETWEEN, DockerHubUnavailable, HttpResponse, claims_of, fetch
from receiver.dockerhub.manifest import (
    ACCEPTED,
    ConfigNeeded,
    Platforms,
    UnreadableError,
    read_config,
    read_manifest,
)
from receiver.images import Login, is_digest

_COUNT = re.compile(r"(\d{1,9})(?:;w=(\d{1,9}))?")
MAX_TOKEN_BYTES = 256 * 1024
MIN_TOKEN_LIFETIME = 60  # seconds, if the response has none
MAX_TOKEN_LIFETIME = 3600
TOKEN_MARGIN_SECONDS = 15.0
PULL = "pull"

_REALM = re.compile(r'realm="([^"]*)"', re.IGNORECASE)
MAX_MANIFEST_BYTES = 4 * 1024 * 1024
MAX_BLOB_BYTES = 1024 * 1024
MAX_REDIRECTS = 2
MANIFESTS = frozenset(
    {
        *ACCEPTED,
        *(f"application/vnd.docker.distribution.manifest.v1+{k}" for k in ("json", "prettyjws")),
    }
)
HTML = "text/html"
REDIRECTS = frozenset({301, 302, 303, 307, 308})


class PullLimit(msgspec.Struct, frozen=True):
    """Docker Hub's pull limit for one account or address."""

    limit: int
    remaining: int
    window_seconds: int


class Pulls(msgspec.Struct, frozen=True):
    """The pull limit of one login. `met`: its last response was a 429."""

    limit: PullLimit | None = None
    met: bool = False


class PullLimits:
    """The last reported limits: of each login, and of the last response.

    `met`: the last response was a 429.
    """

    def __init__(self) -> None:
        self.by_login: dict[Login | None, Pulls] = {}
        self.last: PullLimit | None = None
        self.met = False

    def note_met(self, login: Login | None, *, met: bool) -> None:
        """Record whether the login has just reached its limit."""
        self.met = met
        self.by_login[login] = replace(self.by_login.get(login, Pulls()), met=met)

    def remember(self, answer: HttpResponse, login: Login | None) -> None:
        """Read the limit from a response's headers; docs.docker.com/docker-hub/usage/pulls."""
        limit = _COUNT.match(answer.headers.get("ratelimit-limit", ""))
        remaining = _COUNT.match(answer.headers.get("ratelimit-remaining", ""))
        if limit and remaining:
            self.last = PullLimit(int(limit[1]), int(remaining[1]), int(limit[2] or 0))
        elif answer.status == httpx.codes.OK:
            self.last = None  # a plan without a limit
        else:
            return
        self.by_login[login] = Pulls(self.last)


class CredentialsRejected(Exception):
    """The token server refuses the login itself, or to issue a token without a login.

    Its text is the server's message. Only a 401 with Docker's error body is a refusal: a 403, or
    HTML, comes from a firewall or a proxy
    (github.com/microsoft/vscode-remote-release/issues/6920).
    """


class TokenService:
    """Requests tokens; tokens to pull are cached until they expire."""

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self._http = http
        self._url = url
        self._kept: dict[tuple[str, Login | None], tuple[str, float]] = {}

    def kept(self, repository: str, login: Login | None) -> str:
        """Return the cached token to pull, empty if there is none or it has expired."""
        token, until = self._kept.get((repository, login), ("", 0.0))
        return token if time.monotonic() < until else ""

    def forget(self, repository: str, login: Login | None) -> None:
        """Drop a token that the registry did not accept."""
        self._kept.pop((repository, login), None)

    def is_named_in(self, challenge: str) -> bool:
        """Return whether a registry's challenge names this server."""
        realm = _REALM.search(challenge)
        if realm is None or not challenge.lower().startswith("bearer "):
            return False
        try:
            return urlsplit(realm[1]) == urlsplit(self._url)
        except ValueError:
            return False

    async def token(self, repository: str, login: Login | None, *, actions: str = PULL) -> str:
        """Request a token for these actions. Raises CredentialsRejected, DockerHubUnavailable."""
        scope = quote(f"repository:{repository}:{actions}", safe=":,")
        url = f"{self._url}?service=registry.docker.io&scope={scope}"
        headers = {}
        if login is not None:
            pair = f"{login.username}:{login.token.reveal()}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        answer = await fetch(self._http, "GET", url, largest=MAX_TOKEN_BYTES, headers=headers)
        secrets = [login.token] if login else []
        refusal = answer.error(secrets)
        if answer.status == httpx.codes.UNAUTHORIZED and refusal is not None:
            raise CredentialsRejected(refusal or f"HTTP {answer.status}")
        if answer.status != httpx.codes.OK:
            raise DockerHubUnavailable(f"the login server responded {answer.described(secrets)}")
        body = answer.json()
        token = body.get("token") or body.get("access_token")
        if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
            raise DockerHubUnavailable("the login server returned no token")
        if actions == PULL:
            self._keep(repository, login, token, life=body.get("expires_in"))
        return token

    def _keep(self, repository: str, login: Login | None, token: str, *, life: object) -> None:
        given = life if isinstance(life, int) and life > 0 else MIN_TOKEN_LIFETIME
        seconds = min(given, MAX_TOKEN_LIFETIME)
        margin = min(TOKEN_MARGIN_SECONDS, seconds / 2)
        self._kept[repository, login] = (token, time.monotonic() + seconds - margin)


def granted_actions(token: str) -> list[str]:
    """Return the rights that a registry token grants, if it can be decoded (it is a JWT)."""
    try:
        access = claims_of(token).get("access", [])
        return [action for row in access for action in row.get("actions", [])]
    except (AttributeError, TypeError):
        return []


class Found(msgspec.Struct, frozen=True):
    """The tag exists and we may pull it. `digest` is None if the registry returned none."""

    digest: str | None


class TagMissing(msgspec.Struct, frozen=True):
    """The registry has no such tag (yet)."""


class TagDenied(msgspec.Struct, frozen=True):
    """We may not pull. `login_refused`: the login itself is wrong, not only its rights."""

    login_refused: bool
    detail: str


Seen = Found | TagMissing | TagDenied


class Registry:
    """One registry and its login server."""

    def __init__(self, http: httpx.AsyncClient, registry_url: str, auth_url: str) -> None:
        self._http = http
        self._registry = registry_url
        self.logins = TokenService(http, auth_url)
        self.limits = PullLimits()

    async def resolve(self, repository: str, tag: str, login: Login | None) -> Seen:
        """HEAD the tag's manifest, which does not count as a pull. Raises DockerHubUnavailable.

        Docker Hub responds to a missing right with 401, never 403: a 403 is an outage.
        """
        answer = await self._get("HEAD", repository, f"manifests/{quote(tag)}", login)
        if isinstance(answer, TagDenied):
            return answer
        media_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if answer.status == httpx.codes.NOT_FOUND and media_type != HTML:
            return TagMissing()
        if answer.status == httpx.codes.METHOD_NOT_ALLOWED:
            return Found(None)  # a mirror without HEAD
        challenge = answer.headers.get("www-authenticate", "")
        if answer.status == httpx.codes.UNAUTHORIZED and self.logins.is_named_in(challenge):
            return TagDenied(login_refused=False, detail=f"HTTP {answer.status}")
        if answer.status != httpx.codes.OK:
            raise DockerHubUnavailable(f"the registry responded HTTP {answer.status}; {IN_BETWEEN}")
        digest = answer.headers.get("docker-content-digest", "")
        if media_type not in MANIFESTS:
            raise DockerHubUnavailable("the registry's response is not a manifest")
        return Found(digest if is_digest(digest) else None)

    async def platforms(self, repository: str, digest: str, login: Login | None) -> Platforms:
        """Return an image's platforms by its digest: counts as one pull.

        If an index has a single image without a platform, that is read too: a second pull.
        Raises DockerHubUnavailable.
        """
        found = await self._read(repository, digest, login)
        if found.deciding is None:
            return found
        own = await self._read(repository, found.deciding, login)
        names = tuple(dict.fromkeys((*found.names, *own.names)))
        return Platforms(names, own.unspecified, own.contents)

    async def _read(self, repository: str, digest: str, login: Login | None) -> Platforms:
        answer = await self._get_ok(repository, f"manifests/{digest}", login, digest=digest)
        try:
            found = read_manifest(answer.headers.get("content-type", ""), answer.content)
            if isinstance(found, ConfigNeeded):
                path = f"blobs/{found.digest}"
                blob = await self._get_ok(repository, path, login, digest=found.digest)
                return read_config(blob.content)
        except UnreadableError as error:
            raise DockerHubUnavailable(f"the registry's manifest cannot be read: {error}") from None
        return found

    async def may_push(self, repository: str, login: Login) -> bool | None:
        """Return whether the login may push, by requesting the right; None if the login is refused.

        A read-only token gets a 401 for `pull,push` (github.com/docker/cli/issues/4511).
        """
        try:
            token = await self.logins.token(repository, login, actions="pull,push")
        except CredentialsRejected as refused:
            return False if "insufficient scopes" in str(refused) else None
        return "push" in granted_actions(token)

    async def _get_ok(
        self, repository: str, path: str, login: Login | None, *, digest: str
    ) -> HttpResponse:
        answer = await self._get("GET", repository, path, login)
        if isinstance(answer, TagDenied) or answer.status != httpx.codes.OK:
            status = answer.detail if isinstance(answer, TagDenied) else f"HTTP {answer.status}"
            raise DockerHubUnavailable(f"the registry did not return {path[:20]}…: {status}")
        if f"sha256:{hashlib.sha256(answer.content).hexdigest()}" != digest:
            raise DockerHubUnavailable("the registry's content does not match its digest")
        return answer

    async def _get(
        self, method: str, repository: str, path: str, login: Login | None
    ) -> HttpResponse | TagDenied:
        url = f"{self._registry}/v2/{repository}/{path}"
        answer = await self._call(method, url, self.logins.kept(repository, login), login)
        if answer.status == httpx.codes.UNAUTHORIZED:
            self.logins.forget(repository, login)
            challenge = answer.headers.get("www-authenticate", "")
            if not self.logins.is_named_in(challenge):
                what = "the registry names a login server that is not DOCKERHUB_AUTH_URL"
                unnamed = f"the registry names no login server: HTTP 401; {IN_BETWEEN}"
                raise DockerHubUnavailable(what if "realm" in challenge.lower() else unnamed)
            try:
                token = await self.logins.token(repository, login)
            except CredentialsRejected as refused:
                return TagDenied(login_refused=login is not None, detail=str(refused))
            answer = await self._call(method, url, token, login)
        if path.startswith("manifests/"):  # responses for blobs contain no limit
            self.limits.remember(answer, login)
        return answer

    async def _call(self, method: str, url: str, token: str, login: Login | None) -> HttpResponse:
        headers = {"Accept": ", ".join(ACCEPTED)}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        largest = MAX_BLOB_BYTES if "/blobs/" in url else MAX_MANIFEST_BYTES
        try:
            answer = await fetch(self._http, method, url, largest=largest, headers=headers)
        except DockerHubUnavailable as error:
            self.limits.note_met(login, met=error.status == httpx.codes.TOO_MANY_REQUESTS)
            raise
        self.limits.note_met(login, met=False)
        for _ in range(MAX_REDIRECTS):
            if answer.status not in REDIRECTS:
                return answer
            url = self._redirected(url, answer.headers.get("location", ""))
            answer = await fetch(self._http, method, url, largest=largest)  # no Authorization
        if answer.status in REDIRECTS:
            raise DockerHubUnavailable(f"the registry redirects more than {MAX_REDIRECTS} times")
        return answer

    def _redirected(self, url: str, location: str) -> str:
        try:
            url = urljoin(url, location)
            parts = urlsplit(url)
            valid = bool(parts.hostname) and parts.port != 0  # a port over 65535 raises
        except ValueError:
            raise DockerHubUnavailable("the registry redirects to an invalid URL") from None
        plain = parts.scheme == "http" and urlsplit(self._registry).scheme == "http"
        if not valid or parts.username or (parts.scheme != "https" and not plain):
            raise DockerHubUnavailable("the registry redirects to a URL that is not https")
        return url

"""Read an image from the registry, with the login that Edgegap will use. Read-only.

Content is verified with its digest; a redirect is followed without the token, to https only.
"""

import hashlib
from dataclasses import dataclass
from urllib.parse import quote, urljoin, urlsplit

import httpx

from receiver.dockerhub.fetching import IN_BETWEEN, Fetched, Unavailable, fetch
from receiver.dockerhub.login_server import LoginRefused, LoginServer, actions_of
from receiver.dockerhub.manifest import (
    ACCEPTED,
    ConfigNeeded,
    Platforms,
    UnreadableError,
    read_config,
    read_manifest,
)
from receiver.dockerhub.pull_limits import PullLimits
from receiver.images import is_digest
from receiver.rules import Login

LARGEST_MANIFEST = 4 * 1024 * 1024
LARGEST_BLOB = 1024 * 1024
MOST_REDIRECTS = 2
MANIFESTS = frozenset(
    {
        *ACCEPTED,
        *(f"application/vnd.docker.distribution.manifest.v1+{k}" for k in ("json", "prettyjws")),
    }
)
HTML = "text/html"
REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class Found:
    """The tag exists and we may pull it. `digest` is None if the registry returned none."""

    digest: str | None
    media_type: str


@dataclass(frozen=True, slots=True)
class NotThere:
    """The registry has no such tag (yet)."""


@dataclass(frozen=True, slots=True)
class Denied:
    """We may not pull. `login_refused`: the login itself is wrong, not only its rights."""

    login_refused: bool
    detail: str


Seen = Found | NotThere | Denied


class Registry:
    """One registry and its login server."""

    def __init__(self, http: httpx.AsyncClient, registry_url: str, auth_url: str) -> None:
        self._http = http
        self._registry = registry_url
        self.logins = LoginServer(http, auth_url)
        self.limits = PullLimits()

    async def see(self, repository: str, tag: str, login: Login | None) -> Seen:
        """HEAD the tag's manifest, which does not count as a pull. Raises Unavailable.

        Docker Hub responds to a missing right with 401, never 403: a 403 is an outage.
        """
        answer = await self._get("HEAD", repository, f"manifests/{quote(tag)}", login)
        if isinstance(answer, Denied):
            return answer
        media_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if answer.status == httpx.codes.NOT_FOUND and media_type != HTML:
            return NotThere()
        if answer.status == httpx.codes.METHOD_NOT_ALLOWED:
            return Found(None, media_type)  # a mirror without HEAD
        challenge = answer.headers.get("www-authenticate", "")
        if answer.status == httpx.codes.UNAUTHORIZED and self.logins.is_named_in(challenge):
            return Denied(login_refused=False, detail=f"HTTP {answer.status}")
        if answer.status != httpx.codes.OK:
            raise Unavailable(f"the registry responded HTTP {answer.status}; {IN_BETWEEN}")
        digest = answer.headers.get("docker-content-digest", "")
        if media_type not in MANIFESTS:
            raise Unavailable("the registry's response is not a manifest")
        return Found(digest if is_digest(digest) else None, media_type)

    async def platforms(self, repository: str, digest: str, login: Login | None) -> Platforms:
        """Return an image's platforms by its digest: counts as one pull. Raises Unavailable.

        If an index has a single image without a platform, that is read too: a second pull.
        """
        found = await self._read(repository, digest, login)
        if found.deciding is None:
            return found
        own = await self._read(repository, found.deciding, login)
        names = tuple(dict.fromkeys((*found.names, *own.names)))
        return Platforms(names, own.untold, own.contents)

    async def _read(self, repository: str, digest: str, login: Login | None) -> Platforms:
        answer = await self._get_ok(repository, f"manifests/{digest}", login, digest=digest)
        try:
            found = read_manifest(answer.headers.get("content-type", ""), answer.content)
            if isinstance(found, ConfigNeeded):
                path = f"blobs/{found.digest}"
                blob = await self._get_ok(repository, path, login, digest=found.digest)
                return read_config(blob.content)
        except UnreadableError as error:
            raise Unavailable(f"the registry's manifest cannot be read: {error}") from None
        return found

    async def may_push(self, repository: str, login: Login) -> bool | None:
        """Return whether the login may push, by requesting the right; None if the login is refused.

        A read-only token gets a 401 for `pull,push` (github.com/docker/cli/issues/4511).
        """
        try:
            token = await self.logins.token(repository, login, actions="pull,push")
        except LoginRefused as refused:
            return False if "insufficient scopes" in refused.detail else None
        return "push" in actions_of(token)

    async def _get_ok(
        self, repository: str, path: str, login: Login | None, *, digest: str
    ) -> Fetched:
        answer = await self._get("GET", repository, path, login)
        if isinstance(answer, Denied) or answer.status != httpx.codes.OK:
            status = answer.detail if isinstance(answer, Denied) else f"HTTP {answer.status}"
            raise Unavailable(f"the registry did not return {path[:20]}…: {status}")
        if f"sha256:{hashlib.sha256(answer.content).hexdigest()}" != digest:
            raise Unavailable("the registry's content does not match its digest")
        return answer

    async def _get(
        self, method: str, repository: str, path: str, login: Login | None
    ) -> Fetched | Denied:
        url = f"{self._registry}/v2/{repository}/{path}"
        answer = await self._call(method, url, self.logins.kept(repository, login), login)
        if answer.status == httpx.codes.UNAUTHORIZED:
            self.logins.forget(repository, login)
            challenge = answer.headers.get("www-authenticate", "")
            if not self.logins.is_named_in(challenge):
                what = "the registry names a login server that is not DOCKERHUB_AUTH_URL"
                unnamed = f"the registry names no login server: HTTP 401; {IN_BETWEEN}"
                raise Unavailable(what if "realm" in challenge.lower() else unnamed)
            try:
                token = await self.logins.token(repository, login)
            except LoginRefused as refused:
                return Denied(login_refused=login is not None, detail=refused.detail)
            answer = await self._call(method, url, token, login)
        if path.startswith("manifests/"):  # responses for blobs contain no limit
            self.limits.remember(answer, login)
        return answer

    async def _call(self, method: str, url: str, token: str, login: Login | None) -> Fetched:
        headers = {"Accept": ", ".join(ACCEPTED)}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        largest = LARGEST_BLOB if "/blobs/" in url else LARGEST_MANIFEST
        try:
            answer = await fetch(self._http, method, url, largest=largest, headers=headers)
        except Unavailable as error:
            self.limits.note_met(login, met=error.status == httpx.codes.TOO_MANY_REQUESTS)
            raise
        self.limits.note_met(login, met=False)
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
            valid = bool(parts.hostname) and parts.port != 0  # a port over 65535 raises
        except ValueError:
            raise Unavailable("the registry redirects to an invalid URL") from None
        plain = parts.scheme == "http" and self._registry.startswith("http://")
        if not valid or parts.username or (parts.scheme != "https" and not plain):
            raise Unavailable("the registry redirects to a URL that is not https")
        return url

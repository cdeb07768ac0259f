"""Looking at an image in the registry, with the login Edgegap will pull with. Reads only.

What is read is held against its digest; a redirect is followed without the token, to https only.
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
        self.logins = LoginServer(http, auth_url)
        self.limits = PullLimits()

    async def see(self, repository: str, tag: str, login: Login | None) -> Seen:
        """HEAD the tag's manifest: free of pull quota. Raises Unavailable.

        A missing right is answered 401 by Docker Hub, never 403: that is an outage.
        """
        answer = await self._get("HEAD", repository, f"manifests/{quote(tag)}", login)
        if isinstance(answer, Denied):
            return answer
        media_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if answer.status == httpx.codes.NOT_FOUND and media_type != HTML:
            return NotThere()
        if answer.status == httpx.codes.METHOD_NOT_ALLOWED:
            return Found(None, media_type)  # a mirror that has no HEAD
        challenge = answer.headers.get("www-authenticate", "")
        if answer.status == httpx.codes.UNAUTHORIZED and self.logins.is_named_in(challenge):
            return Denied(login_refused=False, detail=f"HTTP {answer.status}")
        if answer.status != httpx.codes.OK:
            raise Unavailable(f"the registry answered HTTP {answer.status}; {IN_BETWEEN}")
        digest = answer.headers.get("docker-content-digest", "")
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
        names = tuple(dict.fromkeys((*found.names, *own.names)))
        return Platforms(names, own.untold, own.contents)

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
            token = await self.logins.token(repository, login, actions="pull,push")
        except LoginRefused as refused:
            return False if "insufficient scopes" in refused.detail else None
        return "push" in actions_of(token)

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
        if path.startswith("manifests/"):  # of blobs none is told, whatever the plan
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
            sound = bool(parts.hostname) and parts.port != 0  # a port over 65535 raises
        except ValueError:
            raise Unavailable("the registry redirects to no URL") from None
        plain = parts.scheme == "http" and self._registry.startswith("http://")
        if not sound or parts.username or (parts.scheme != "https" and not plain):
            raise Unavailable("the registry redirects to what is not https")
        return url

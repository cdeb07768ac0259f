"""The state of the Docker Hub fake: logins with their rights and tokens, repositories, pushes."""

import base64
import json
import re
import secrets
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from receiver.sandbox.dockerhub_images import Image, Kind, Manifest, build_image, raw_image

Level = Literal["public-read", "read", "write", "admin"]
"""The rights of a personal access token on private and own repositories; a password: `write`.

`admin` is what Docker Hub calls "Read, Write, Delete".
"""

ALL = frozenset({"pull", "push"})
PULL = frozenset({"pull"})


@dataclass(slots=True)
class Login:
    """A user name and one secret of it: a password, a personal or an organization access token.

    In `namespaces` the user has the rights of `level`; an organization token has `repositories`
    instead, with the allowed actions for each. `pull_limit` None is unlimited.
    """

    username: str
    secret: str
    level: Level = "read"
    namespaces: frozenset[str] = frozenset()
    repositories: dict[str, frozenset[str]] | None = None
    pull_limit: int | None = 200

    @property
    def is_organization_token(self) -> bool:
        """Whether this is an organization access token."""
        return self.repositories is not None

    def actions(self, repository: str, *, private: bool | None) -> frozenset[str]:
        """Return the actions allowed on a repository; `private` None if it does not exist."""
        if self.repositories is not None:
            return self.repositories.get(repository, frozenset())
        public = PULL if private is False else frozenset[str]()
        if self.level == "public-read" or repository.partition("/")[0] not in self.namespaces:
            return public
        return ALL if self.level in {"write", "admin"} else PULL

    def is_member(self, repository: str) -> bool:
        """Return whether the login sees more of a repository than strangers do."""
        return "pull" in self.actions(repository, private=True)

    def administers(self, repository: str) -> bool:
        """Return whether the login may change the settings and webhooks of a repository."""
        if self.repositories is not None:
            return "admin" in self.repositories.get(repository, frozenset())
        return self.level == "admin" and repository.partition("/")[0] in self.namespaces


def user_id(username: str) -> str:
    """Return an id for a user, in Docker Hub's form."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, username))


@dataclass(frozen=True, slots=True)
class Bearer:
    """An issued token: its login, claims and expiry."""

    login: Login | None
    claims: Mapping[str, Any]
    expires_at: float


@dataclass(slots=True)
class Bearers:
    """The issued tokens. They look like JWTs, or are random text if `opaque`."""

    clock: Callable[[], float]
    opaque: bool = False
    _given: dict[str, Bearer] = field(default_factory=dict)

    def give(self, login: Login | None, claims: Mapping[str, Any], *, seconds: float) -> str:
        """Issue a token, valid for `seconds`; `iat`, `nbf`, `exp` and `jti` are added."""
        now = self.clock()
        times = {"iat": int(now), "nbf": int(now) - 300, "exp": int(now + seconds)}
        claims = {**claims, **times, "jti": f"dckr_jti_{secrets.token_urlsafe(20)}"}
        header = {"alg": "RS256", "typ": "JWT", "kid": "sandbox", "x5c": ["sandbox"]}
        token = ".".join((_part(header), _part(claims), secrets.token_urlsafe(256)))
        if self.opaque:
            token = secrets.token_urlsafe(64)
        self._given[token] = Bearer(login, claims, now + seconds)
        return token

    def read(self, authorization: str, *, audience: str) -> Bearer | None:
        """Return the token in a header: None if it is unknown, expired or for another audience."""
        scheme, _, token = authorization.partition(" ")
        bearer = self._given.get(token) if scheme.lower() == "bearer" else None
        if bearer is None or bearer.claims["aud"] != audience or self.clock() >= bearer.expires_at:
            return None
        return bearer

    def expire_all(self) -> None:
        """Expire all issued tokens."""
        self._given.clear()


def basic(authorization: str) -> tuple[str, str] | None:
    """Return user name and secret from a Basic authorization."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        username, colon, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except ValueError:
        return None
    return (username, secret) if colon else None


def _part(claims: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")


# The settings of the Docker Hub fake; each may be changed at any time.


@dataclass(kw_only=True, eq=False, repr=False)
class Switches:
    """How Docker Hub behaves. By default there are no problems.

    The auth server:

    - `realm`: the challenge's realm, if it is not this server's `/token`
    - `challenge`: the whole Www-Authenticate header instead; "" omits it
    - `service`: the registry's service name
    - `expires_in`: lifetime of a registry token in seconds; None omits it, which means 60
    - `token_names`: the keys under which the token is returned
    - `opaque_tokens`: tokens are not JWTs
    - `organization_push`: how an organization token without push rights is denied

    The registry:

    - `anonymous_pull_limit`: pulls in 6 hours; None is no limit and no headers
    - `heads_are_limited`: an exhausted limit also refuses HEAD requests
    - `abuse_limited`: every call is refused with a short 429
    - `content_digest`: the value of Docker-Content-Digest; "" omits it
    - `tampered`: manifests and blobs do not match their digests
    - `redirect_blobs_to`: another base URL of this app; "" is this base URL
    - `cdn_hops`: number of further redirects before the blob; None never ends
    - `blob_location`: the Location of a blob's redirect

    The Hub API:

    - `api_limit`, `api_window`: calls allowed per window in seconds; None is no limit
    - `api_retry_after`: the header of a 429 with the time to retry
    - `api_retry_after_as`: its value: a UNIX time in whole seconds (in the past for the last
      fraction), the seconds left (0 for the last fraction), a UNIX time in milliseconds, or an
      HTTP date; Docker's documents and reports have all but the last
    - `api_expires_in`: lifetime of a bearer token in seconds
    - `next_base`: the scheme and host of `next` and `previous`
    - `last_updated_means`: which tags come first with `ordering=last_updated`: the newest on the
      Hub's own pages, the oldest in its document of another listing
    - `endless_pages`: there is always a next page, and the last is repeated
    - `webhooks_shown_to`: who may list the webhooks of a repository; Docker does not say
    - `webhook_slugs`: the list of webhooks has the slug of each, by which it can be deleted
    - `webhooks_lost`: a webhook is created with 201, but is not in the list

    All of them:

    - `latency`: seconds before each response
    - `clock_ahead`: seconds by which the clock of the Date header is ahead of the real clock;
      None omits the header
    """

    realm: str | None = None
    challenge: str | None = None
    service: str = "registry.docker.io"
    expires_in: int | None = 300
    token_names: tuple[str, ...] = ("token", "access_token")
    opaque_tokens: bool = False
    organization_push: Literal["refused", "reduced"] = "refused"
    anonymous_pull_limit: int | None = 100
    heads_are_limited: bool = False
    abuse_limited: bool = False
    content_digest: str | None = None
    tampered: bool = False
    redirect_blobs_to: str | None = None
    cdn_hops: int | None = 0
    blob_location: str | None = None
    api_limit: int | None = 180
    api_window: float = 60.0
    api_retry_after: Literal["X-Retry-After", "Retry-After"] = "X-Retry-After"
    api_retry_after_as: Literal["unix", "seconds", "milliseconds", "date"] = "unix"
    api_expires_in: int = 600
    next_base: str | None = None
    last_updated_means: Literal["newest", "oldest"] = "newest"
    endless_pages: bool = False
    webhooks_shown_to: Literal["members", "administrators"] = "members"
    webhook_slugs: bool = True
    webhooks_lost: bool = False
    latency: float = 0.0
    clock_ahead: float | None = None


Lag = float | None
"""Seconds after the push; None for not before `settle`."""


@dataclass(slots=True)
class TagPush:
    """One push of one tag; the registry has it from `pullable_at`, the Hub API from `listed_at`."""

    tag: str
    image: Image
    pushed_at: float
    pullable_at: float | None
    listed_at: float | None


@dataclass(slots=True)
class Webhook:
    """A webhook of a repository; `statuses` are those of its deliveries, None for no response."""

    name: str
    url: str
    slug: str
    created_at: float
    statuses: list[int | None] = field(default_factory=list)


@dataclass(slots=True)
class Repository:
    """A repository with all its pushes, oldest first. `altered` overrides fields of tag records.

    With `immutable`, tags that match a rule can be neither overwritten nor deleted; without rules
    that applies to all tags.
    """

    name: str
    number: int
    private: bool = False
    pushes: list[TagPush] = field(default_factory=list)
    altered: dict[str, dict[str, Any]] = field(default_factory=dict)
    webhooks: list[Webhook] = field(default_factory=list)
    immutable: bool = False
    immutable_rules: tuple[str, ...] = ()

    def is_immutable(self, tag: str) -> bool:
        """Return whether the tag, once pushed, stays as it is."""
        rules = self.immutable_rules
        return self.immutable and (not rules or any(re.fullmatch(rule, tag) for rule in rules))

    def pullable(self, now: float) -> Iterator[TagPush]:
        """Iterate over the pushes that the registry has, newest first."""
        return (push for push in reversed(self.pushes) if _is_past(push.pullable_at, now))

    def listed(self, now: float) -> dict[str, TagPush]:
        """Return each tag's newest push that the Hub API shows."""
        return {push.tag: push for push in list(self.pushes) if _is_past(push.listed_at, now)}

    def manifest(self, reference: str, now: float) -> Manifest | None:
        """Find a manifest by its tag or its digest."""
        for push in self.pullable(now):
            if push.tag == reference:
                return push.image.top
            if reference in push.image.manifests:
                return push.image.manifests[reference]
        return None

    def blob(self, digest: str, now: float) -> bytes | None:
        """Find a blob by its digest."""
        found = (push.image.blobs.get(digest) for push in self.pullable(now))
        return next((blob for blob in found if blob is not None), None)


@dataclass(kw_only=True, eq=False, repr=False)
class DockerHubAccount(Switches):
    """Repositories by name, logins, and pulls by user name ("" for anonymous pulls).

    All attributes may be read and set at any time.
    """

    clock: Callable[[], float] = time.time
    repositories: dict[str, Repository] = field(default_factory=dict)
    logins: list[Login] = field(default_factory=list)
    pulls: Counter[str] = field(default_factory=Counter)
    api_calls: int = 0
    api_resets_at: float = 0.0
    bearers: Bearers = field(init=False)

    def __post_init__(self) -> None:
        """Create the tokens with the same clock."""
        self.bearers = Bearers(lambda: self.clock())  # noqa: PLW0108  # the clock may be set later

    def add_login(
        self,
        username: str,
        secret: str,
        level: Level = "read",
        *,
        namespaces: Iterable[str] = (),
        pull_limit: int | None = 200,
    ) -> Login:
        """Add a login by password (`write`) or personal access token.

        It is valid for public repositories and those of the user and `namespaces`. `pull_limit`
        None is a paid plan.
        """
        own = frozenset({username, *namespaces})
        return self._add(Login(username, secret, level, own, pull_limit=pull_limit))

    def add_organization_token(
        self, organization: str, secret: str, repositories: Mapping[str, Iterable[str]]
    ) -> Login:
        """Add an organization access token, with `pull`, `push`, `admin` per repository."""
        allowed = {name: frozenset(actions) for name, actions in repositories.items()}
        return self._add(Login(organization, secret, repositories=allowed, pull_limit=None))

    def _add(self, login: Login) -> Login:
        self.logins.append(login)
        return login

    def pull_limit_of(self, login: Login | None) -> int | None:
        """Return how often a login, or an anonymous client, may pull in 6 hours."""
        return self.anonymous_pull_limit if login is None else login.pull_limit

    def find_login(self, username: str, secret: str) -> Login | None:
        """Return the login with this name and secret, if there is one."""
        matches = (
            login for login in self.logins if (login.username, login.secret) == (username, secret)
        )
        return next(matches, None)

    def add_repository(self, name: str, *, private: bool = False) -> Repository:
        """Create a repository, or change whether it is private."""
        new = Repository(name, number=len(self.repositories) + 1)
        repository = self.repositories.setdefault(name, new)
        repository.private = private
        return repository

    def allowed(self, login: Login | None, name: str) -> frozenset[str]:
        """Return the actions that a login, or an anonymous client, may do on a repository."""
        repository = self.repositories.get(name)
        private = None if repository is None else repository.private
        return (login or Login("", "", "public-read")).actions(name, private=private)

    def push_image(
        self,
        repository: str,
        tag: str,
        platforms: Sequence[str] = ("linux/amd64",),
        *,
        attestations: bool = False,
        kind: Kind = "index",
        pushed_at: float | None = None,
        visible_after: Lag = 0.0,
        listed_after: Lag | Literal["visible"] = "visible",
        build: str | None = None,
        padding: int = 0,
    ) -> str:
        """Push an image and return its digest; create a public repository if there is none.

        Each push is a new image unless `build` is the same. `pushed_at` is in epoch seconds.
        With `listed_after` the Hub API shows the push later, or sooner, than the registry. For
        the other parameters see `build_image`.
        """
        image = build_image(
            kind, platforms, attestations=attestations, build=build, padding=padding
        )
        listed = visible_after if listed_after == "visible" else listed_after
        return self._push(
            repository, tag, image, pushed_at, pullable_after=visible_after, listed_after=listed
        )

    def push_manifest(self, repository: str, tag: str, body: bytes, media_type: str) -> str:
        """Push any bytes as a manifest; return their digest."""
        return self._push(repository, tag, raw_image(body, media_type))

    def _push(
        self,
        name: str,
        tag: str,
        image: Image,
        pushed_at: float | None = None,
        *,
        pullable_after: Lag = 0.0,
        listed_after: Lag = 0.0,
    ) -> str:
        now = self.clock()
        if name not in self.repositories:
            self.add_repository(name)
        repository = self.repositories[name]
        self._check_mutable(repository, tag)
        push = TagPush(
            tag,
            image,
            now if pushed_at is None else pushed_at,
            pullable_at=None if pullable_after is None else now + pullable_after,
            listed_at=None if listed_after is None else now + listed_after,
        )
        repository.pushes.append(push)
        self.report(repository, push)
        return image.top.digest

    def report(self, repository: Repository, push: TagPush) -> None:
        """Do nothing; the served sandbox sends webhooks."""

    def _check_mutable(self, repository: Repository, tag: str) -> None:
        if repository.is_immutable(tag) and any(push.tag == tag for push in repository.pushes):
            raise ValueError(f"the tag {tag} is immutable")

    def settle(self) -> None:
        """Make all pushes so far visible now."""
        for repository in self.repositories.values():
            for push in repository.pushes:
                push.pullable_at = push.listed_at = 0.0

    def delete_tag(self, repository: str, tag: str) -> None:
        """Delete a tag with all its pushes."""
        held = self._held(repository)
        self._check_mutable(held, tag)
        held.pushes = [push for push in held.pushes if push.tag != tag]

    def alter_record(self, repository: str, tag: str, **fields: Any) -> None:
        """Let the Hub API return these fields for a tag; without fields, the true values."""
        self._held(repository).altered[tag] = fields

    def _held(self, repository: str) -> Repository:
        if repository not in self.repositories:
            raise ValueError(f"no such repository: {repository}")
        return self.repositories[repository]


def _is_past(moment: float | None, now: float) -> bool:
    return moment is not None and moment <= now

"""The logins of the Docker Hub fake, their rights, and short-lived bearer tokens."""

import base64
import json
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

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
    reads_public: bool = False
    pull_limit: int | None = 200

    def __post_init__(self) -> None:
        """Refuse a level that does not exist: logins also come as JSON."""
        if self.level not in get_args(Level):
            raise ValueError(f"no such level: {self.level}")

    @property
    def is_organization_token(self) -> bool:
        """Whether this is an organization access token."""
        return self.repositories is not None

    def actions(self, repository: str, *, private: bool | None) -> frozenset[str]:
        """Return the actions allowed on a repository; `private` None if it does not exist."""
        public = PULL if private is False else frozenset[str]()
        if self.repositories is not None:
            listed = self.repositories.get(repository, frozenset())
            return listed | (public if self.reads_public else frozenset())
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

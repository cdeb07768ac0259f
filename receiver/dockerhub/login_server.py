"""The registry's token server: it issues a token for one repository, with or without a login.

Flow: github.com/distribution/distribution, docs/spec/auth/token. No response decides where a
credential is sent: the challenge's realm is compared with ours and never followed.
"""

import base64
import re
import time
from urllib.parse import quote, urlsplit

import httpx

from receiver.dockerhub.fetching import Fetched, Unavailable, fetch
from receiver.rules import Login

LARGEST_TOKEN = 256 * 1024
SHORTEST_TOKEN_LIFE = 60  # seconds, if the response has none
LONGEST_TOKEN_LIFE = 3600
TOKEN_MARGIN_SECONDS = 15.0
PULL = "pull"

_REALM = re.compile(r'realm="([^"]*)"', re.IGNORECASE)


class LoginRefused(Exception):
    """The token server refuses the login itself, or to issue a token without a login.

    `detail` is its message. Only a 401 with Docker's error body is a refusal: a 403, or HTML, comes
    from a firewall or a proxy (github.com/microsoft/vscode-remote-release/issues/6920).
    """

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class LoginServer:
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
        """Request a token for these actions. Raises LoginRefused, Unavailable."""
        scope = quote(f"repository:{repository}:{actions}", safe=":,")
        url = f"{self._url}?service=registry.docker.io&scope={scope}"
        headers = {}
        if login is not None:
            pair = f"{login.username}:{login.token.reveal()}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        answer = await fetch(self._http, "GET", url, largest=LARGEST_TOKEN, headers=headers)
        secrets = [login.token] if login else []
        refusal = answer.error(secrets)
        if answer.status == httpx.codes.UNAUTHORIZED and refusal is not None:
            raise LoginRefused(refusal or f"HTTP {answer.status}")
        if answer.status != httpx.codes.OK:
            raise Unavailable(f"the login server responded {answer.described(secrets)}")
        body = answer.json()
        token = body.get("token") or body.get("access_token")
        if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
            raise Unavailable("the login server returned no token")
        if actions == PULL:
            self._keep(repository, login, token, life=body.get("expires_in"))
        return token

    def _keep(self, repository: str, login: Login | None, token: str, *, life: object) -> None:
        given = life if isinstance(life, int) and life > 0 else SHORTEST_TOKEN_LIFE
        seconds = min(given, LONGEST_TOKEN_LIFE)
        margin = min(TOKEN_MARGIN_SECONDS, seconds / 2)
        self._kept[repository, login] = (token, time.monotonic() + seconds - margin)


def actions_of(token: str) -> list[str]:
    """Return the rights that a registry token grants, if it can be decoded (it is a JWT)."""
    try:
        payload = token.split(".")[1]
        content = base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))
        access = Fetched(200, {}, content).json().get("access", [])
        return [action for row in access for action in row.get("actions", [])]
    except (IndexError, ValueError, AttributeError, TypeError, Unavailable):
        return []

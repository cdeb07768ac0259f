"""Docker Hub's auth server, `GET /token`: issues bearer tokens for the requested scopes."""

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from receiver.sandbox.dockerhub_account import DockerHubAccount
from receiver.sandbox.dockerhub_logins import Login, basic, user_id
from receiver.sandbox.dockerhub_records import timestamp

PULL_WINDOW = 21_600  # seconds: 6 hours

_DEFAULT_EXPIRY = 60  # seconds, by the registry's token specification


class AuthServer:
    """Issues tokens for the allowed part of the requested scopes, which may be empty."""

    def __init__(self, hub: DockerHubAccount) -> None:
        self._hub = hub

    async def token(self, request: Request) -> Response:
        """Answer `GET /token?service=&scope=`, with a login or anonymously."""
        hub = self._hub
        login = None
        authorization = request.headers.get("authorization")
        if authorization is not None:
            given = basic(authorization)
            login = None if given is None else hub.find_login(*given)
            if login is None:
                return _refused("incorrect username or password")
        access: list[dict[str, Any]] = []
        scopes = " ".join(request.query_params.getlist("scope")).split()
        for name, asked in _repositories(scopes):
            if login is not None and self._refuses(login, name, asked):
                return _refused("access token has insufficient scopes")
            actions = [action for action in asked if action in hub.allowed(login, name)]
            if actions:
                access.append(_access(name, actions, self._pull_limit(login)))
        seconds = _DEFAULT_EXPIRY if hub.expires_in is None else hub.expires_in
        claims = {
            "iss": "auth.docker.io",
            "sub": "" if login is None else user_id(login.username),
            "aud": request.query_params.get("service", ""),
            "access": access,
        }
        hub.bearers.opaque = hub.opaque_tokens
        token = hub.bearers.give(login, claims, seconds=seconds)
        body: dict[str, Any] = dict.fromkeys(hub.token_names, token)
        if hub.expires_in is not None:
            body["expires_in"] = hub.expires_in
        return JSONResponse({**body, "issued_at": timestamp(hub.clock())})

    def _refuses(self, login: Login, name: str, asked: Sequence[str]) -> bool:
        """Return whether a push is requested with a token that was not made for pushing.

        The specification would have the token reduced; see docker/cli#4511.
        """
        if "push" not in asked:
            return False
        if login.is_organization_token:
            denied = "push" not in self._hub.allowed(login, name)
            return denied and self._hub.organization_push == "refused"
        return login.level not in {"write", "admin"}

    def _pull_limit(self, login: Login | None) -> int | None:
        return self._hub.anonymous_pull_limit if login is None else login.pull_limit


def _repositories(scopes: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Parse `repository:group/project:pull,push`; skip scopes of another form."""
    parts = [scope.split(":") for scope in scopes]
    return [
        (part[1], part[2].split(","))
        for part in parts
        if len(part) == 3 and part[0] == "repository"  # noqa: PLR2004
    ]


def _access(name: str, actions: list[str], pull_limit: int | None) -> dict[str, Any]:
    access: dict[str, Any] = {"type": "repository", "name": name, "actions": actions}
    if pull_limit is not None and "pull" in actions:
        access["parameters"] = {
            "pull_limit": str(pull_limit),
            "pull_limit_interval": str(PULL_WINDOW),
        }
    return access


def _refused(why: str) -> Response:
    return JSONResponse({"details": why}, 401)

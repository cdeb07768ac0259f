"""Docker Hub's API: logins, repositories and tags, with a rate limit per minute."""

from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from receiver.sandbox.dockerhub_account import DockerHubAccount, Repository
from receiver.sandbox.dockerhub_immutable_tags import ImmutableTagsApi
from receiver.sandbox.dockerhub_logins import Login, user_id
from receiver.sandbox.dockerhub_records import repository_record, tag_record, tags_page
from receiver.sandbox.dockerhub_webhooks import WebhooksApi

_AUDIENCE = "https://hub.docker.com"
_NO_ORGANIZATION = "token issued from organization access token is not allowed"

_Answer = Callable[[Request], Awaitable[Response]]


class HubApi:
    """Shows repositories and tags; the public ones without a login."""

    def __init__(self, hub: DockerHubAccount) -> None:
        self._hub = hub

    def routes(self) -> list[Route]:
        """Return the documented endpoints, and old ones, which accept no organization token."""
        routes = [
            Route("/v2/auth/token", self._endpoint(self._log_in), methods=["POST"]),
            *WebhooksApi(self._hub, self._administered, self._membered).routes(self._endpoint),
            *ImmutableTagsApi(self._hub, self._administered).routes(self._endpoint),
        ]
        for path, slash in [
            ("/v2/namespaces/{namespace}/repositories/{repository}", ""),
            ("/v2/repositories/{namespace}/{repository}", ""),
            ("/v2/repositories/{namespace}/{repository}", "/"),
        ]:
            routes += [
                Route(f"{path}{slash}", self._endpoint(self._show_repository)),
                Route(f"{path}/tags{slash}", self._endpoint(self._list_tags)),
                Route(f"{path}/tags/{{tag}}{slash}", self._endpoint(self._show_tag)),
            ]
        return routes

    def _endpoint(self, answer: _Answer) -> _Answer:
        """Wrap an endpoint with the rate limit and its headers."""

        async def endpoint(request: Request) -> Response:
            hub = self._hub
            now = hub.clock()
            if now >= hub.api_resets_at:
                hub.api_calls, hub.api_resets_at = 0, now + hub.api_window
            if hub.api_limit is None:
                return await _respond(answer, request)
            over = hub.api_calls >= hub.api_limit
            hub.api_calls += not over
            response = self._refuse_for_now(now) if over else await _respond(answer, request)
            response.headers["X-RateLimit-Limit"] = str(hub.api_limit)
            response.headers["X-RateLimit-Remaining"] = str(max(0, hub.api_limit - hub.api_calls))
            resets_at = hub.api_resets_at + (hub.clock_ahead or 0)
            response.headers["X-RateLimit-Reset"] = str(int(resets_at))
            return response

        return endpoint

    def _refuse_for_now(self, now: float) -> Response:
        hub = self._hub
        resets_at = hub.api_resets_at + (hub.clock_ahead or 0)
        value = {
            "unix": str(int(resets_at)),
            "seconds": str(int(hub.api_resets_at - now)),
            "milliseconds": str(int(resets_at * 1000)),
            "date": formatdate(resets_at, usegmt=True),
        }[hub.api_retry_after_as]
        body = {"detail": "Rate limit exceeded", "error": False}
        return JSONResponse(body, 429, {hub.api_retry_after: value})

    async def _log_in(self, request: Request) -> Response:
        try:
            body: Any = await request.json()
        except ValueError:
            body = None
        names = ("identifier", "secret")
        if not isinstance(body, dict) or not all(isinstance(body.get(n), str) for n in names):
            raise HTTPException(400, "identifier and secret are required")
        login = self._hub.find_login(body["identifier"], body["secret"])
        if login is None:
            raise HTTPException(401, "Incorrect authentication credentials")
        kind = "oat" if login.is_organization_token else "pat"
        claims = {
            "iss": "https://login.docker.com/",
            "sub": user_id(login.username),
            "aud": _AUDIENCE,
            _AUDIENCE: {"username": login.username, "source": {"type": kind}},
        }
        seconds = self._hub.api_expires_in
        return JSONResponse(
            {"access_token": self._hub.bearers.give(login, claims, seconds=seconds)}
        )

    async def _show_repository(self, request: Request) -> Response:
        repository, allowed = self._open(request)
        tags = repository.listed(self._hub.clock())
        login = self._caller(request)
        administers = login is not None and login.administers(repository.name)
        record = repository_record(repository, tags, allowed, administers=administers)
        return JSONResponse(record)

    async def _list_tags(self, request: Request) -> Response:
        repository, _ = self._open(request)
        base = self._hub.next_base
        try:
            page = tags_page(
                repository,
                repository.listed(self._hub.clock()),
                request.query_params,
                base=str(request.base_url).rstrip("/") if base is None else base,
                flipped=self._hub.last_updated_means == "oldest",
                endless=self._hub.endless_pages,
            )
        except ValueError as error:
            raise HTTPException(400, "page and page_size must be numbers") from error
        if page is None:
            raise HTTPException(404, "object not found")
        return JSONResponse(page)

    async def _show_tag(self, request: Request) -> Response:
        repository, _ = self._open(request)
        push = repository.listed(self._hub.clock()).get(request.path_params["tag"])
        if push is None:
            raise HTTPException(404, "object not found")
        return JSONResponse(tag_record(repository, push))

    def _open(self, request: Request) -> tuple[Repository, frozenset[str]]:
        """Return the requested repository, and what the caller may do with it."""
        login = self._caller(request)
        of_organization = login is not None and login.is_organization_token
        if of_organization and request.url.path.startswith("/v2/repositories/"):
            raise HTTPException(403, _NO_ORGANIZATION)
        name = "{namespace}/{repository}".format(**request.path_params)
        repository = self._hub.repositories.get(name)
        allowed = self._hub.allowed(login, name)
        if repository is None or (repository.private and login is None):
            raise HTTPException(404, "object not found")
        if repository.private and "pull" not in allowed:
            raise HTTPException(403, "access denied")
        return repository, allowed

    def _administered(self, request: Request) -> Repository:
        """Return the requested repository, if the caller may change its settings."""
        return self._allowed(request, Login.administers)

    def _membered(self, request: Request) -> Repository:
        """Return the requested repository, if the caller is no stranger to it."""
        return self._allowed(request, Login.is_member)

    def _allowed(self, request: Request, allows: Callable[[Login, str], bool]) -> Repository:
        login = self._caller(request)
        if login is None:
            raise HTTPException(401, "Authentication credentials were not provided.")
        repository, _ = self._open(request)
        if not allows(login, repository.name):
            raise HTTPException(403, "You do not have permission to perform this action.")
        return repository

    def _caller(self, request: Request) -> Login | None:
        """Return the caller's login. A bad token is refused even if none is needed."""
        authorization = request.headers.get("authorization")
        if authorization is None:
            return None
        bearer = self._hub.bearers.read(authorization, audience=_AUDIENCE)
        if bearer is None:
            raise HTTPException(401, "Incorrect authentication credentials")
        return bearer.login


async def _respond(answer: _Answer, request: Request) -> Response:
    """Turn a refusal into a response here, so that it also gets the rate limit's headers."""
    try:
        return await answer(request)
    except HTTPException as refusal:
        body = {"message": refusal.detail, "detail": refusal.detail}
        if refusal.status_code == 404:  # noqa: PLR2004
            body = {"message": refusal.detail, "errinfo": request.path_params}  # type: ignore[dict-item]
        return JSONResponse(body, refusal.status_code)

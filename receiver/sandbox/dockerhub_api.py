"""Docker Hub's API: logins, repositories, tags, webhooks; with a rate limit per minute."""

import re
from collections.abc import Awaitable, Callable, Iterator
from email.utils import formatdate
from itertools import count
from typing import Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from receiver.sandbox.dockerhub_account import (
    ALL,
    DockerHubAccount,
    Login,
    Repository,
    Webhook,
    user_id,
)
from receiver.sandbox.dockerhub_records import repository_record, tag_record, tags_page, timestamp

_AUDIENCE = "https://hub.docker.com"
_NO_ORGANIZATION = "token issued from organization access token is not allowed"

_Answer = Callable[[Request], Awaitable[Response]]


class _Api:
    """What all parts of the API share: the rate limit, the caller, and the caller's rights."""

    def __init__(self, hub: DockerHubAccount) -> None:
        self._hub = hub

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


class HubApi(_Api):
    """Shows repositories and tags; the public ones without a login."""

    def routes(self) -> list[Route]:
        """Return the documented endpoints, and old ones, which accept no organization token."""
        routes = [
            Route("/v2/auth/token", self._endpoint(self._log_in), methods=["POST"]),
            *WebhooksApi(self._hub).routes(),
            *ImmutableTagsApi(self._hub).routes(),
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

    async def _log_in(self, request: Request) -> Response:
        match await _json(request):
            case {"identifier": str(identifier), "secret": str(secret)}:
                login = self._hub.find_login(identifier, secret)
            case _:
                raise HTTPException(400, "identifier and secret are required")
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


async def _respond(answer: _Answer, request: Request) -> Response:
    """Turn a refusal into a response here, so that it also gets the rate limit's headers."""
    try:
        return await answer(request)
    except HTTPException as refusal:
        body = {"message": refusal.detail, "detail": refusal.detail}
        if refusal.status_code == 404:  # noqa: PLR2004
            body = {"message": refusal.detail, "errinfo": request.path_params}  # type: ignore[dict-item]
        return JSONResponse(body, refusal.status_code)


# The webhooks of a repository, in Docker Hub's API, which does not document these calls.
#
# They are as public clients make them: `GET` and `POST …/webhook_pipeline/`, and `DELETE` with
# the slug of one. Statuses and bodies of refusals that no client has seen are those of the other
# calls.

WEBHOOKS = "/v2/repositories/{namespace}/{repository}/webhook_pipeline/"
MAX_URL = 255


class WebhooksApi(_Api):
    """Lists webhooks for members of the repository; its administrators create and delete them."""

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route(WEBHOOKS, self._endpoint(self._list), methods=["GET"]),
            Route(WEBHOOKS, self._endpoint(self._create), methods=["POST"]),
            Route(f"{WEBHOOKS}{{slug}}/", self._endpoint(self._delete), methods=["DELETE"]),
        ]

    async def _list(self, request: Request) -> Response:
        members = self._hub.webhooks_shown_to == "members"
        repository = self._allowed(request, Login.is_member if members else Login.administers)
        try:
            number = int(request.query_params.get("page", "1"))
            size = min(100, max(1, int(request.query_params.get("page_size", "10"))))
        except ValueError as error:
            raise HTTPException(400, "page and page_size must be numbers") from error
        webhooks, begin = repository.webhooks, (number - 1) * size
        if number < 1 or begin > len(webhooks):
            raise HTTPException(404, "Invalid page.")
        more = begin + size < len(webhooks)
        following = request.url.include_query_params(page=number + 1)
        rows = [self._row(webhook) for webhook in webhooks[begin : begin + size]]
        page = {"count": len(webhooks), "next": str(following) if more else None}
        return JSONResponse({**page, "previous": None, "results": rows})

    async def _create(self, request: Request) -> Response:
        repository = self._administered(request)
        match await _json(request):
            case {"name": str(name), "webhooks": [{"name": str(), "hook_url": str(url)}]} if name:
                pass
            case _:
                raise HTTPException(400, "name and one webhook are required")
        if not _is_accepted(url):
            return JSONResponse({"webhooks": [{"hook_url": ["Invalid value."]}]}, 400)
        taken = {webhook.slug for webhook in repository.webhooks}
        base = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "webhook"
        slug = next(text for text in _slugs(base) if text not in taken)
        webhook = Webhook(name, url, slug, self._hub.clock())
        if not self._hub.webhooks_lost:
            repository.webhooks.append(webhook)
        return JSONResponse({**self._row(webhook), "slug": slug}, 201)

    async def _delete(self, request: Request) -> Response:
        repository = self._administered(request)
        slug = request.path_params["slug"]
        kept = [webhook for webhook in repository.webhooks if webhook.slug != slug]
        if len(kept) == len(repository.webhooks):
            raise HTTPException(404, "object not found")
        repository.webhooks = kept
        return Response(status_code=204)

    def _row(self, webhook: Webhook) -> dict[str, Any]:
        created = timestamp(webhook.created_at)
        row = {
            "name": webhook.name,
            "expect_final_callback": False,
            "webhooks": [{"name": webhook.name, "hook_url": webhook.url}],
            "created": created,
            "last_updated": created,
        }
        return {**row, "slug": webhook.slug} if self._hub.webhook_slugs else row


def _slugs(base: str) -> Iterator[str]:
    yield base
    yield from (f"{base}-{number}" for number in count(2))


def _is_accepted(url: str) -> bool:
    """Return whether Docker Hub takes the URL: it refused leading spaces, `=`, and long ones."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    valid = parts.scheme in {"http", "https"} and bool(parts.hostname)
    return valid and len(url) <= MAX_URL and re.search(r"[\s=]", url) is None


# Immutable tags of a repository, as Docker Hub's API documents them.

IMMUTABLE_TAGS = "/v2/namespaces/{namespace}/repositories/{repository}/immutabletags"


class ImmutableTagsApi(_Api):
    """Sets the rules, and lists the tags that one matches, for administrators."""

    def routes(self) -> list[Route]:
        """Return the routes."""
        return [
            Route(IMMUTABLE_TAGS, self._endpoint(self._set), methods=["PATCH"]),
            Route(f"{IMMUTABLE_TAGS}/verify", self._endpoint(self._verify), methods=["POST"]),
        ]

    async def _set(self, request: Request) -> Response:
        repository = self._administered(request)
        body = await _body(request)
        enabled, rules = body.get("immutable_tags"), body.get("immutable_tags_rules")
        if not isinstance(enabled, bool) or not isinstance(rules, list):
            raise HTTPException(400, "immutable_tags and immutable_tags_rules are required")
        for rule in rules:
            _compiled(rule)
        repository.immutable, repository.immutable_rules = enabled, tuple(rules)
        tags = repository.listed(self._hub.clock())
        return JSONResponse(repository_record(repository, tags, ALL, administers=True))

    async def _verify(self, request: Request) -> Response:
        repository = self._administered(request)
        pattern = _compiled((await _body(request)).get("regex"))
        tags = repository.listed(self._hub.clock())
        return JSONResponse({"tags": [tag for tag in tags if pattern.fullmatch(tag)]})


async def _json(request: Request) -> Any:
    try:
        return await request.json()
    except ValueError:
        return None


async def _body(request: Request) -> dict[str, Any]:
    body = await _json(request)
    if not isinstance(body, dict):
        raise HTTPException(400, "the body must be an object")
    return body


def _compiled(rule: object) -> re.Pattern[str]:
    if not isinstance(rule, str) or not rule:
        raise HTTPException(400, "a rule must be text")
    try:
        return re.compile(rule)
    except re.error as error:
        raise HTTPException(400, f"invalid regex: {rule}") from error

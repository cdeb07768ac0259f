"""The webhooks of a repository, in Docker Hub's API, which does not document these calls.

They are as public clients make them: `GET` and `POST …/webhook_pipeline/`, and `DELETE` with the
slug of one. Statuses and bodies of refusals that no client has seen are those of the other calls.
"""

import re
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from typing import Any
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from receiver.sandbox.dockerhub_account import DockerHubAccount, Repository, Webhook
from receiver.sandbox.dockerhub_records import timestamp

PATH = "/v2/repositories/{namespace}/{repository}/webhook_pipeline/"
LONGEST_URL = 255

_Answer = Callable[[Request], Awaitable[Response]]


class WebhooksApi:
    """Lists webhooks for members of the repository; its administrators create and delete them."""

    def __init__(
        self,
        hub: DockerHubAccount,
        administered: Callable[[Request], Repository],
        membered: Callable[[Request], Repository],
    ) -> None:
        self._hub = hub
        self._administered = administered
        self._membered = membered

    def routes(self, endpoint: Callable[[_Answer], _Answer]) -> list[Route]:
        """Return the routes; `endpoint` wraps each with the rate limit."""
        return [
            Route(PATH, endpoint(self._list), methods=["GET"]),
            Route(PATH, endpoint(self._create), methods=["POST"]),
            Route(f"{PATH}{{slug}}/", endpoint(self._delete), methods=["DELETE"]),
        ]

    async def _list(self, request: Request) -> Response:
        members = self._hub.webhooks_shown_to == "members"
        repository = (self._membered if members else self._administered)(request)
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
        try:
            body: Any = await request.json()
        except ValueError:
            body = None
        match body:
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
    return valid and len(url) <= LONGEST_URL and re.search(r"[\s=]", url) is None

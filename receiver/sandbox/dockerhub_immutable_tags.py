"""Immutable tags of a repository, as Docker Hub's API documents them."""

import re
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from receiver.sandbox.dockerhub_account import DockerHubAccount, Repository
from receiver.sandbox.dockerhub_logins import ALL
from receiver.sandbox.dockerhub_records import repository_record

PATH = "/v2/namespaces/{namespace}/repositories/{repository}/immutabletags"

_Answer = Callable[[Request], Awaitable[Response]]


class ImmutableTagsApi:
    """Sets the rules, and lists the tags that one matches, for administrators."""

    def __init__(
        self, hub: DockerHubAccount, administered: Callable[[Request], Repository]
    ) -> None:
        self._hub = hub
        self._administered = administered

    def routes(self, endpoint: Callable[[_Answer], _Answer]) -> list[Route]:
        """Return the routes; `endpoint` wraps each with the rate limit."""
        return [
            Route(PATH, endpoint(self._set), methods=["PATCH"]),
            Route(f"{PATH}/verify", endpoint(self._verify), methods=["POST"]),
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


async def _body(request: Request) -> dict[str, Any]:
    try:
        body: Any = await request.json()
    except ValueError:
        body = None
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

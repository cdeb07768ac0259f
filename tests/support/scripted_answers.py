"""Answers of Edgegap written down beforehand, and replayed to a receiver in their order."""

import dataclasses
import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

TAG = "1.0.0"
PAGE = "<html><head><title>Access denied</title></head><body><h1>Blocked</h1></body></html>"


@dataclass
class Said:
    """One answer: to which calls, how often (None: always), and what it is.

    `path` is the end of the call's path, `method` may be several. `body` is sent as JSON, or as it
    is if it is bytes. `after`: it is given only once that other answer was.
    """

    method: str
    path: str
    status: int
    body: Any = None
    times: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    after: "Said | None" = None
    given: int = 0

    def is_that(self, other: "Said") -> bool:
        """Whether it is the same answer, however often it was given."""
        return dataclasses.replace(self, given=0) == dataclasses.replace(other, given=0)


class Replay:
    """The ASGI app: the first answer that fits is given. What none fits is a 404 of Edgegap's.

    The answers name the tag 1.0.0; `tag` is what is pushed in its place.
    """

    def __init__(self) -> None:
        self.begin(TAG)

    def begin(self, tag: str, *answers: Said) -> None:
        """Give these answers from now on."""
        self.tag = tag
        self.calls: list[tuple[str, str]] = []
        self.headers: list[Headers] = []
        self._answers = [dataclasses.replace(one, given=0) for one in answers]

    def count(self, method: str, path: str = "") -> int:
        """How many calls of the method there were whose path ends so."""
        return sum(one == method and where.endswith(path) for one, where in self.calls)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        request = Request(scope, receive)
        await request.body()
        path = request.url.path.replace(self.tag, TAG)
        self.calls.append((request.method, path))
        self.headers.append(request.headers)
        missing = Said("", "", 404, {"message": "Not found"})
        fitting = (one for one in self._answers if self._fits(one, request.method, path))
        said = next(fitting, missing)
        said.given += 1
        as_json = not isinstance(said.body, bytes)
        body = json.dumps(said.body).replace(TAG, self.tag).encode() if as_json else said.body
        if as_json and said.headers.get("content-encoding") == "gzip":
            body = gzip.compress(body)
        kind = "application/json" if as_json else "text/html"
        response = Response(body, said.status, dict(said.headers), media_type=kind)
        await response(scope, receive, send)

    def _fits(self, said: Said, method: str, path: str) -> bool:
        before = said.after and next(one for one in self._answers if one.is_that(said.after))
        in_time = said.given != said.times and (before is None or before.given > 0)
        return in_time and method in said.method.split() and path.endswith(said.path)


def version(name: str, **changes: Any) -> dict[str, Any]:
    """A version as a GET shows it."""
    return {
        "name": name,
        "create_time": "2026-11-20 10:00:00.000001",
        "last_updated": "2026-11-20 10:00:00.000001",
        "is_active": True,
        "docker_repository": "docker.io",
        "docker_image": "studio/game-server",
        "docker_tag": name,
        "req_cpu": 1024,
        "req_memory": 2048,
        "time_to_deploy": 30,
        "max_duration": 60,
        "restart_policy": "never",
        "ports": [{"port": 7777, "protocol": "UDP", "to_check": True, "name": "gameport"}],
        "envs": [],
        **changes,
    }


def listed(*versions: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """One page of versions, and the only one."""
    return {
        "versions": list(versions),
        "total_count": len(versions),
        "pagination": {
            "number": 1,
            "next_page_number": None,
            "previous_page_number": None,
            "paginator": {"num_pages": 1},
            "has_next": False,
            "has_previous": False,
        },
        **changes,
    }


def made() -> tuple[Said, ...]:
    """How a version is created: the settings to copy, the POST, and from then on it is there."""
    post = Said("POST", "/version", 200, {"success": True, "version": version(TAG)})
    return (
        Said("GET", "/versions", 200, listed(version("0.9.0"))),
        post,
        Said("GET", f"/version/{TAG}", 200, version(TAG), after=post),
    )

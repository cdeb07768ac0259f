"""An operation of the API or of another endpoint: what routes it, and what documents it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.service import Service
from receiver.web.api_auth import guarded
from receiver.web.messages import read_query, read_request

T = TypeVar("T")
JSON = "application/json"
TEXT = "text/plain"
HTML = "text/html"
RETRY_AFTER = {"Retry-After": "Seconds until it is worth another try."}


class Group(StrEnum):
    """A group of operations; a tag in the document."""

    OVERVIEW = "Overview"
    RULES = "Rules"
    DELIVERIES = "Deliveries"
    PARKED = "Parked registrations"
    CHANNELS = "Channels"
    VERSIONS = "Versions"
    TRIALS = "Trials"
    PAUSES = "Pauses and gates"
    TOKENS = "Tokens"
    DOCKER_HUB = "Docker Hub"
    MONITORING = "Monitoring"


@dataclass(frozen=True, slots=True)
class ResponseSpec:
    """One response of an operation: its body by media type, and the descriptions of headers."""

    description: str
    content: Mapping[str, object] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Handler:
    """What an operation does, with the type of its body or of its query, if it reads one.

    `rules`: JSON Schema of what the type of the body does not say.
    """

    respond: Callable[[Request], Awaitable[Response]]
    body: type | None = None
    query: type | None = None
    rules: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path. `id` is the name of the method in a generated client.

    `security`: each is a way to be allowed; "" is anyone. `slash`: the path with a slash at its
    end is the same operation.
    """

    method: str
    path: str
    id: str
    group: Group
    summary: str
    handler: Handler
    responses: Mapping[HTTPStatus, ResponseSpec]
    description: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    security: Sequence[str] = ("token",)
    slash: bool = False


def returns(kind: object, description: str) -> ResponseSpec:
    """Return a response that is JSON of this type."""
    return ResponseSpec(description, {JSON: kind})


def without_input(
    handle: Callable[[Service, Request], Awaitable[Response]], *, for_one_repository: bool = False
) -> Handler:
    """Return a handler of the API that reads neither a body nor a query."""
    return Handler(guarded(handle, for_one_repository=for_one_repository))


def with_body(
    kind: type[T],
    handle: Callable[[Service, Request, T], Awaitable[Response]],
    *,
    for_one_repository: bool = False,
    rules: Mapping[str, object] | None = None,
) -> Handler:
    """Return a handler of the API that reads a body of this type."""

    async def read(service: Service, request: Request) -> Response:
        return await handle(service, request, await read_request(request, kind))

    respond = guarded(read, for_one_repository=for_one_repository)
    return Handler(respond, body=kind, rules=rules or {})


def with_query(
    kind: type[T],
    handle: Callable[[Service, Request, T], Awaitable[Response]],
    *,
    for_one_repository: bool = False,
) -> Handler:
    """Return a handler of the API that reads a query of this type."""

    async def read(service: Service, request: Request) -> Response:
        return await handle(service, request, read_query(request, kind))

    return Handler(guarded(read, for_one_repository=for_one_repository), query=kind)


def routes_of(operations: Sequence[Operation]) -> list[Route]:
    """Return the routes of these operations."""
    return [
        Route(path, one.handler.respond, methods=[one.method])
        for one in operations
        for path in ((one.path, f"{one.path}/") if one.slash else (one.path,))
    ]

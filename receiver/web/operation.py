"""An operation of the API or of another endpoint: declared once, where it is implemented.

The name, the docstring and the annotations of a handler are the id, the summary, the description
and the input of its operation. The router and the OpenAPI document are made from the declarations.
Those of the API require a bearer token, and their exceptions become problems.
"""

import inspect
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from functools import update_wrapper
from http import HTTPStatus
from urllib.parse import unquote

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from receiver.errors import BadBody, BadImageReference, LedgerError
from receiver.ledger.links import is_revoked
from receiver.logs import SOURCE_HEADER, USER_HEADER, Source, note_name
from receiver.service import Service
from receiver.signing import ApiToken
from receiver.web.body import ClientDisconnected
from receiver.web.messages import (
    PROBLEM_JSON,
    BadRequest,
    Problem,
    ProblemCode,
    problem,
    read_query,
    read_request,
)

JSON = "application/json"
TEXT = "text/plain"
HTML = "text/html"
OK, ACCEPTED = HTTPStatus.OK, HTTPStatus.ACCEPTED
UNAVAILABLE = HTTPStatus.SERVICE_UNAVAILABLE
RETRY_AFTER = {"Retry-After": "Seconds until it is worth another try."}
CHALLENGE = {"WWW-Authenticate": "The scheme: Bearer."}
_WITH_REALM = {"WWW-Authenticate": 'Bearer realm="receiver"'}

Respond = Callable[[Request], Awaitable[Response]]


def _guarded(
    answer: Callable[[Service, Request], Awaitable[Response]], *, for_one_repository: bool
) -> Respond:
    """Wrap a handler so that it requires a bearer token and returns its errors as problems.

    `for_one_repository`: the operation also accepts tokens that are limited to one repository, and
    applies the limit that `limit_of` returns.
    """

    async def respond(request: Request) -> Response:
        service: Service = request.app.state.service
        token = _signed_token(service, request)
        if token is None:
            text = "missing or invalid API token; create one with `receiver api-token`"
            return problem(ProblemCode.TOKEN_INVALID, text, _WITH_REALM)
        try:
            if await service.ledger.read(lambda tx: is_revoked(tx, token.id)):
                text = "this token was revoked; create another with `receiver api-token`"
                return problem(ProblemCode.TOKEN_REVOKED, text, _WITH_REALM)
            if token.repository is not None and not for_one_repository:
                return limited_to(token.repository)
            request.state.repository = token.repository
            note_name(_name_of(request, token))
            return await answer(service, request)
        except LedgerError as error:
            return problem(ProblemCode.LEDGER_UNAVAILABLE, str(error))
        except ClientDisconnected:
            return Response(status_code=400)
        except BadBody as error:
            return problem(ProblemCode(error.reason), str(error))
        except (BadImageReference, BadRequest) as error:
            return problem(ProblemCode.INVALID_REQUEST, str(error))

    return respond


def has_token(service: Service, request: Request) -> bool:
    """Return whether the request has an API token without a repository limit.

    Revocation is not checked, because the ledger may be unavailable.
    """
    token = _signed_token(service, request)
    return token is not None and token.repository is None


def limit_of(request: Request) -> str | None:
    """Return the repository that the request's token is limited to, if any."""
    repository: str | None = request.state.repository
    return repository


def _signed_token(service: Service, request: Request) -> ApiToken | None:
    scheme, _, text = request.headers.get("authorization", "").partition(" ")
    token = service.api_keys.read(text.strip(), int(time.time()))
    return token if scheme.lower() == "bearer" else None


def source_of(request: Request) -> Source:
    """Return the source of a request: a command, if its header says so, otherwise the API."""
    by_command = request.headers.get(SOURCE_HEADER) == Source.COMMAND
    return Source.COMMAND if by_command else Source.API


def _name_of(request: Request, token: ApiToken) -> str:
    """Return who asks: the user that a command names, otherwise the token."""
    if source_of(request) is Source.COMMAND:
        return unquote(request.headers.get(USER_HEADER, ""))
    return f"API token {token.id}"


def limited_to(repository: str) -> Response:
    """Return that the token is limited to another repository."""
    detail = f"this token is limited to the pushes of {repository}"
    return problem(ProblemCode.TOKEN_LIMITED, detail)


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


class ResponseSpec(msgspec.Struct, frozen=True):
    """One response of an operation: its body by media type, and the descriptions of headers."""

    status: HTTPStatus
    description: str
    content: Mapping[str, object] = msgspec.field(default_factory=dict)
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)


class Operation(msgspec.Struct, frozen=True):
    """One method of one path. `id` is the name of the method in a generated client.

    `security`: each is a way to be allowed; "" is anyone. `slash`: the path with a slash at its
    end is the same operation. `rules`: JSON Schema of what the type of the body does not say.
    """

    method: str
    path: str
    id: str
    group: Group
    summary: str
    description: str
    respond: Respond
    responses: Sequence[ResponseSpec]
    body: type | None
    query: type | None
    rules: Mapping[str, object]
    parameters: Mapping[str, str]
    security: Sequence[str]
    slash: bool


def returns(
    kind: object,
    description: str,
    status: HTTPStatus = OK,
    headers: Mapping[str, str] | None = None,
) -> ResponseSpec:
    """Return a response that is JSON of this type."""
    return ResponseSpec(status, description, {JSON: kind}, headers or {})


def fails(
    *codes: ProblemCode,
    why: str,
    headers: Mapping[str, str] | None = None,
    kind: type[Problem] = Problem,
) -> ResponseSpec:
    """Return an error, with the codes that it may have; they have the same status."""
    named = ", ".join(f"`{code}`" for code in codes)
    description = f"{why} Code: {named}."
    return ResponseSpec(codes[0].status, description, {PROBLEM_JSON: kind}, headers or {})


AWAY = ResponseSpec(
    UNAVAILABLE,
    "The ledger is unavailable and nothing was done (`ledger_unavailable`), or there are too many "
    "large bodies (`too_many_bodies`) or connections (`too_many_connections`). Try again later.",
    {PROBLEM_JSON: Problem},
)
_CHALLENGED = fails(
    ProblemCode.TOKEN_INVALID,
    ProblemCode.TOKEN_REVOKED,
    why="The bearer token is missing, invalid or revoked: create one with `receiver api-token`.",
    headers=CHALLENGE,
)
_LIMITED = fails(
    ProblemCode.TOKEN_LIMITED, why="The token is limited to the pushes of one repository."
)
_INVALID = fails(
    ProblemCode.INVALID_REQUEST, why="The query or the body is invalid; see the message."
)
_OF_BODIES = (
    fails(ProblemCode.BODY_TOO_SLOW, why="The body took over 10 seconds."),
    fails(ProblemCode.BODY_TOO_LARGE, why="The body is over 1 MiB."),
)


def endpoint(
    call: str,
    group: Group,
    *responses: ResponseSpec,
    body: type | None = None,
    query: type | None = None,
    rules: Mapping[str, object] | None = None,
    parameters: Mapping[str, str] | None = None,
    security: Sequence[str] = (),
    slash: bool = False,
) -> Callable[[Respond], Operation]:
    """Declare a handler as an operation; `call` is its method and path, the others as there."""

    def declare(handle: Respond) -> Operation:
        method, path = call.split()
        first, *others = handle.__name__.split("_")
        summary, _, more = inspect.cleandoc(handle.__doc__ or "").partition("\n\n")
        return Operation(
            method=method,
            path=path,
            id=first + "".join(other.capitalize() for other in others),
            group=group,
            summary=summary.removesuffix("."),
            description=" ".join(more.split()),
            respond=handle,
            responses=responses,
            body=body,
            query=query,
            rules=rules or {},
            parameters=parameters or {},
            security=security,
            slash=slash,
        )

    return declare


def api(
    call: str,
    group: Group,
    *responses: ResponseSpec,
    parameters: Mapping[str, str] | None = None,
    rules: Mapping[str, object] | None = None,
    for_one_repository: bool = False,
) -> Callable[[Callable[..., Awaitable[Response]]], Operation]:
    """Declare a handler as an operation of the API, with the errors that each such one may return.

    The handler's argument `body` or `query`, if it has one, is read from the request as the type
    that it is annotated with. `for_one_repository`: see `_guarded`.
    """

    def declare(handle: Callable[..., Awaitable[Response]]) -> Operation:
        body, query = (handle.__annotations__.get(name) for name in ("body", "query"))

        async def read(service: Service, request: Request) -> Response:
            if body is not None:
                return await handle(service, request, await read_request(request, body))
            if query is not None:
                return await handle(service, request, read_query(request, query))
            return await handle(service, request)

        errors = [_CHALLENGED, AWAY]
        if not (for_one_repository and parameters):  # another repository's: as if it did not exist
            errors.append(_LIMITED)
        if body or query or parameters:
            errors.append(_INVALID)
        if body:
            errors += _OF_BODIES
        by_status = {one.status: one for one in (*errors, *responses)}
        respond = _guarded(read, for_one_repository=for_one_repository)
        declare_it = endpoint(
            call, group, *by_status.values(), body=body, query=query, rules=rules,
            parameters=parameters, security=("token",),
        )  # fmt: skip
        return declare_it(update_wrapper(respond, handle))

    return declare


def routes_of(operations: Sequence[Operation]) -> list[Route]:
    """Return the routes of these operations."""
    return [
        Route(path, one.respond, methods=[one.method])
        for one in operations
        for path in ((one.path, f"{one.path}/") if one.slash else (one.path,))
    ]

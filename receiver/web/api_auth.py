"""API authentication by bearer token; reads requests, and turns exceptions into problems."""

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from receiver.audit import SOURCE_HEADER, Source
from receiver.errors import BadBody, BadImageReference, LedgerError, ReceiverError
from receiver.ledger.revocations import is_revoked
from receiver.ledger.views import from_plain
from receiver.service import Service
from receiver.signing import ApiToken
from receiver.web.bodies import PLAIN
from receiver.web.body import ClientDisconnected, read_body
from receiver.web.problems import ProblemCode, problem
from receiver.web.serialization import decode, encode

Endpoint = Callable[[Service, Request], Awaitable[Response]]

T = TypeVar("T")
MOST_WORDS = 12
_FIELD = re.compile(r"`\$\.(\w+)`$")


class BadRequest(ReceiverError):
    """The query or the body of a request is not valid; the message says what is wrong."""


def guarded(
    endpoint: Endpoint, *, for_one_repository: bool = False
) -> Callable[[Request], Awaitable[Response]]:
    """Wrap an endpoint so that it requires a bearer token and returns its errors as problems.

    `for_one_repository`: the endpoint also accepts tokens that are limited to one repository, and
    applies the limit that `limit_of` returns.
    """

    async def respond(request: Request) -> Response:
        service: Service = request.app.state.service
        token = _signed_token(service, request)
        if token is None:
            text = "missing or invalid API token; create one with `receiver api-token`"
            return problem(ProblemCode.TOKEN_INVALID, text, _CHALLENGE)
        try:
            if await service.ledger.read(lambda tx: is_revoked(tx, token.id)):
                text = "this token was revoked; create another with `receiver api-token`"
                return problem(ProblemCode.TOKEN_REVOKED, text, _CHALLENGE)
            if token.repository is not None and not for_one_repository:
                return limited_to(token.repository)
            request.state.repository = token.repository
            return await endpoint(service, request)
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


_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="receiver"'}


def plain(value: str) -> str:
    """Return the text if it has no control characters; otherwise raise BadRequest."""
    if re.match(PLAIN, value) is None:
        raise BadRequest("ids and filters must not contain control characters")
    return value


async def read_request(request: Request, kind: type[T]) -> T:
    """Return the body as this type; raises BadRequest with what is wrong and where."""
    try:
        return decode(await read_body(request), kind)
    except msgspec.ValidationError as error:
        raise BadRequest(f"the body is not valid: {_explained(error, kind)}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise BadRequest("the body is not JSON; /api/openapi.json describes it") from None


def read_query(request: Request, kind: type[T]) -> T:
    """Return the query as this type; raises BadRequest with what is wrong and where."""
    given = dict(request.query_params)
    try:
        return msgspec.convert(given, kind, strict=False, dec_hook=from_plain)
    except msgspec.ValidationError as error:
        raise BadRequest(f"the query is not valid: {_explained(error, kind)}") from None


def _explained(error: msgspec.ValidationError, kind: type) -> str:
    """Return the error with the words that its field accepts, if they are few."""
    found = _FIELD.search(str(error))
    hint = get_type_hints(kind).get(found[1]) if found is not None else None
    words = [word for one in (hint, *get_args(hint)) for word in _words(one)]
    accepted = f"; it is one of {', '.join(words)}" if 0 < len(words) <= MOST_WORDS else ""
    return f"{error}{accepted}; /api/openapi.json describes it"


def _words(hint: object) -> tuple[str, ...]:
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return tuple(word.value for word in hint)
    return get_args(hint) if get_origin(hint) is Literal else ()


def json_response(
    view: object, status: int = 200, *, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a view as the response."""
    return Response(encode(view), status, headers=headers, media_type="application/json")


def limited_to(repository: str) -> Response:
    """Return that the token is limited to another repository."""
    detail = f"this token is limited to the pushes of {repository}"
    return problem(ProblemCode.TOKEN_LIMITED, detail)

"""API authentication by bearer token; exceptions become problems."""

import time
from collections.abc import Awaitable, Callable
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response

from receiver.errors import BadBody, BadImageReference, LedgerError
from receiver.ledger.links import is_revoked
from receiver.logs import SOURCE_HEADER, USER_HEADER, Source, note_name
from receiver.service import Service
from receiver.signing import ApiToken
from receiver.web.body import ClientDisconnected
from receiver.web.messages import BadRequest
from receiver.web.problems import ProblemCode, problem

Endpoint = Callable[[Service, Request], Awaitable[Response]]


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
            note_name(_name_of(request, token))
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


def _name_of(request: Request, token: ApiToken) -> str:
    """Return who asks: the user that a command names, otherwise the token."""
    if source_of(request) is Source.COMMAND:
        return unquote(request.headers.get(USER_HEADER, ""))
    return f"API token {token.id}"


_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="receiver"'}


def limited_to(repository: str) -> Response:
    """Return that the token is limited to another repository."""
    detail = f"this token is limited to the pushes of {repository}"
    return problem(ProblemCode.TOKEN_LIMITED, detail)

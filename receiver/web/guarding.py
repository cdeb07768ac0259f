"""Behind the bearer token: who may ask, and how errors are told."""

import re
import time
from collections.abc import Awaitable, Callable
from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from receiver.errors import BadBody, BadImageReference, LedgerError
from receiver.reasons import Reason
from receiver.service import Service
from receiver.upkeep.operations import Source
from receiver.web.bodies import SenderLeft
from receiver.web.hooks import STATUS

SOURCE_HEADER = "Receiver-Source"

Endpoint = Callable[[Service, Request], Awaitable[Response]]

# PostgreSQL takes no NUL, and no name of ours or Docker Hub's holds a control character.
_PLAIN = r"^[^\x00-\x1f\x7f]*\Z"
Plain = Annotated[str, msgspec.Meta(pattern=_PLAIN)]


def guarded(endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    """Return the endpoint behind the bearer token, its errors told in JSON."""

    async def asked(request: Request) -> Response:
        service: Service = request.app.state.service
        if not has_token(service, request):
            return refusal(401, "give a token made by `receiver api-token`", _CHALLENGE)
        try:
            return await endpoint(service, request)
        except LedgerError as error:
            return refusal(503, str(error))
        except SenderLeft:
            return Response(status_code=400)
        except BadBody as error:
            return refusal(STATUS[Reason(error.reason)], str(error))
        except msgspec.ValidationError as error:
            return refusal(400, str(error))
        except msgspec.DecodeError:
            return refusal(400, "the body is not JSON: see /api/openapi.json for what is asked")
        except (BadImageReference, msgspec.MsgspecError, ValueError) as error:
            return refusal(400, str(error))

    return asked


def has_token(service: Service, request: Request) -> bool:
    """Tell whether the request bears a good token of the API."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    good = service.api_keys.is_good(token.strip(), int(time.time()))
    return scheme.lower() == "bearer" and good


def source_of(request: Request) -> Source:
    """Return how a person asks: by a command, which says so, or by the API itself."""
    by_command = request.headers.get(SOURCE_HEADER) == Source.COMMAND
    return Source.COMMAND if by_command else Source.API


_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="receiver"'}


def plain(value: str) -> str:
    """Return text that may be looked up; raises ValueError."""
    if re.match(_PLAIN, value) is None:
        raise ValueError("ids and filters are text without control characters")
    return value


def refusal(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    """Return an error as the API tells it."""
    return JSONResponse({"error": text}, status, headers=headers)

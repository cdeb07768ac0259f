"""An operation of the JSON API, with the errors that every such operation may return."""

from collections.abc import Mapping
from http import HTTPStatus

from receiver.web.operation import Group, Handler, Operation, ResponseSpec
from receiver.web.problems import PROBLEM_JSON, Problem, ProblemCode

OK, ACCEPTED = HTTPStatus.OK, HTTPStatus.ACCEPTED
BAD_REQUEST, NOT_FOUND, CONFLICT = (
    HTTPStatus.BAD_REQUEST,
    HTTPStatus.NOT_FOUND,
    HTTPStatus.CONFLICT,
)
TOO_SLOW, TOO_LARGE = HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE
UNAUTHORIZED, FORBIDDEN = HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN
UNAVAILABLE = HTTPStatus.SERVICE_UNAVAILABLE


def fails(*codes: ProblemCode, why: str, headers: Mapping[str, str] | None = None) -> ResponseSpec:
    """Return an error of the API, with the codes that it may have."""
    named = ", ".join(f"`{code}`" for code in codes)
    return ResponseSpec(f"{why} Code: {named}.", {PROBLEM_JSON: Problem}, headers or {})


CHALLENGE = {"WWW-Authenticate": "The scheme: Bearer."}
LIMITED = fails(
    ProblemCode.TOKEN_LIMITED, why="The token is limited to the pushes of one repository."
)
INVALID = fails(
    ProblemCode.INVALID_REQUEST, why="The query or the body is invalid; see the message."
)
SLOW = fails(ProblemCode.BODY_TOO_SLOW, why="The body took over 10 seconds.")
LARGE = fails(ProblemCode.BODY_TOO_LARGE, why="The body is over 1 MiB.")
CHALLENGED = fails(
    ProblemCode.TOKEN_INVALID,
    ProblemCode.TOKEN_REVOKED,
    why="The bearer token is missing, invalid or revoked: create one with `receiver api-token`.",
    headers=CHALLENGE,
)
AWAY = ResponseSpec(
    "The ledger is unavailable and nothing was done (`ledger_unavailable`), or there are too many "
    "large bodies (`too_many_bodies`) or connections (`too_many_connections`). Try again later.",
    {PROBLEM_JSON: Problem},
)
IDENTITY = {"id": "A delivery id, or a registration id for the registration's newest delivery."}
NO_DELIVERY = {NOT_FOUND: fails(ProblemCode.DELIVERY_NOT_FOUND, why="The delivery does not exist.")}
NO_APP = {NOT_FOUND: fails(ProblemCode.APP_NOT_FOUND, why="No rule names this app.")}
NO_VERSION = {
    NOT_FOUND: fails(
        ProblemCode.APP_NOT_FOUND,
        ProblemCode.VERSION_NOT_FOUND,
        why="No rule names this app, or there is no such version.",
    ),
    HTTPStatus.BAD_GATEWAY: fails(
        ProblemCode.EDGEGAP_FAILED, why="Edgegap does not return the version now."
    ),
}
MOVED = (
    "Recorded as a delivery and queued. The channel is held: nothing moves it until it is "
    "released, or until a push above the version named in the sentence."
)


def api_operation(
    call: str,
    name: str,
    group: Group,
    summary: str,
    handler: Handler,
    *,
    responses: Mapping[HTTPStatus, ResponseSpec],
    description: str = "",
    parameters: Mapping[str, str] | None = None,
    one_repository: bool = False,
) -> Operation:
    """Return an operation with the errors that every such operation may return.

    `one_repository`: a token that is limited to a repository sees only its deliveries.
    """
    method, path = call.split()
    errors = {UNAUTHORIZED: CHALLENGED, UNAVAILABLE: AWAY}
    if not one_repository:
        errors[FORBIDDEN] = LIMITED
    if handler.body or handler.query or parameters:
        errors[BAD_REQUEST] = INVALID
    if handler.body:
        errors[TOO_SLOW] = SLOW
        errors[TOO_LARGE] = LARGE
    return Operation(
        method,
        path,
        name,
        group,
        summary,
        handler,
        errors | dict(responses),
        description,
        parameters or {},
    )

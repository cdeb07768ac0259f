"""Errors of the API as RFC 9457 writes them: `application/problem+json`, with a `code`."""

from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated

import msgspec
from msgspec import Meta
from starlette.responses import Response

from receiver.ledger.views import described
from receiver.web.serialization import encode

PROBLEM_JSON = "application/problem+json"


class ProblemCode(StrEnum):
    """The kind of an error, for programs."""

    INVALID_REQUEST = "invalid_request"
    TOKEN_INVALID = "token_invalid"  # noqa: S105 - a word
    TOKEN_REVOKED = "token_revoked"  # noqa: S105 - a word
    TOKEN_LIMITED = "token_limited"  # noqa: S105 - a word
    NOT_FOUND = "not_found"
    PUSH_UNKNOWN = "push_unknown"
    PUSH_NOT_DONE = "push_not_done"
    STILL_WAITING = "still_waiting"
    DELIVERY_NOT_FOUND = "delivery_not_found"
    APP_NOT_FOUND = "app_not_found"
    VERSION_NOT_FOUND = "version_not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    BODY_TOO_SLOW = "body_too_slow"
    CHANNEL_NOT_CHANGED = "channel_not_changed"
    VERSION_NOT_TRIED = "version_not_tried"
    REPOSITORY_UNKNOWN = "repository_unknown"
    GATE_NOT_CLOSED = "gate_not_closed"
    NO_RETENTION = "no_retention"
    CONFIGURATION_REFUSED = "configuration_refused"
    DELETION_IN_PROGRESS = "deletion_in_progress"
    BODY_TOO_LARGE = "body_too_large"
    TOO_MANY_BODIES = "too_many_bodies"
    INTERNAL_ERROR = "internal_error"
    EDGEGAP_FAILED = "edgegap_failed"
    TOO_MANY_WAITING = "too_many_waiting"
    STOPPING = "stopping"
    LEDGER_UNAVAILABLE = "ledger_unavailable"
    MALFORMED = "malformed"
    HEAD_TOO_LARGE = "head_too_large"
    HEAD_TOO_SLOW = "head_too_slow"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    TOO_MANY_AHEAD = "too_many_ahead"


STATUS: Mapping[ProblemCode, HTTPStatus] = {
    ProblemCode.INVALID_REQUEST: HTTPStatus.BAD_REQUEST,
    ProblemCode.TOKEN_INVALID: HTTPStatus.UNAUTHORIZED,
    ProblemCode.TOKEN_REVOKED: HTTPStatus.UNAUTHORIZED,
    ProblemCode.TOKEN_LIMITED: HTTPStatus.FORBIDDEN,
    ProblemCode.NOT_FOUND: HTTPStatus.NOT_FOUND,
    ProblemCode.PUSH_UNKNOWN: HTTPStatus.NOT_FOUND,
    ProblemCode.PUSH_NOT_DONE: HTTPStatus.CONFLICT,
    ProblemCode.STILL_WAITING: HTTPStatus.REQUEST_TIMEOUT,
    ProblemCode.DELIVERY_NOT_FOUND: HTTPStatus.NOT_FOUND,
    ProblemCode.APP_NOT_FOUND: HTTPStatus.NOT_FOUND,
    ProblemCode.VERSION_NOT_FOUND: HTTPStatus.NOT_FOUND,
    ProblemCode.METHOD_NOT_ALLOWED: HTTPStatus.METHOD_NOT_ALLOWED,
    ProblemCode.BODY_TOO_SLOW: HTTPStatus.REQUEST_TIMEOUT,
    ProblemCode.CHANNEL_NOT_CHANGED: HTTPStatus.CONFLICT,
    ProblemCode.VERSION_NOT_TRIED: HTTPStatus.CONFLICT,
    ProblemCode.REPOSITORY_UNKNOWN: HTTPStatus.CONFLICT,
    ProblemCode.GATE_NOT_CLOSED: HTTPStatus.CONFLICT,
    ProblemCode.NO_RETENTION: HTTPStatus.CONFLICT,
    ProblemCode.CONFIGURATION_REFUSED: HTTPStatus.CONFLICT,
    ProblemCode.DELETION_IN_PROGRESS: HTTPStatus.CONFLICT,
    ProblemCode.BODY_TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ProblemCode.TOO_MANY_BODIES: HTTPStatus.SERVICE_UNAVAILABLE,
    ProblemCode.INTERNAL_ERROR: HTTPStatus.INTERNAL_SERVER_ERROR,
    ProblemCode.EDGEGAP_FAILED: HTTPStatus.BAD_GATEWAY,
    ProblemCode.TOO_MANY_WAITING: HTTPStatus.SERVICE_UNAVAILABLE,
    ProblemCode.STOPPING: HTTPStatus.SERVICE_UNAVAILABLE,
    ProblemCode.LEDGER_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    ProblemCode.MALFORMED: HTTPStatus.BAD_REQUEST,
    ProblemCode.HEAD_TOO_LARGE: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    ProblemCode.HEAD_TOO_SLOW: HTTPStatus.REQUEST_TIMEOUT,
    ProblemCode.TOO_MANY_CONNECTIONS: HTTPStatus.SERVICE_UNAVAILABLE,
    ProblemCode.TOO_MANY_AHEAD: HTTPStatus.TOO_MANY_REQUESTS,
}

MEANINGS: Mapping[ProblemCode, str] = {
    ProblemCode.INVALID_REQUEST: "The query or the body is invalid; the message says what is.",
    ProblemCode.TOKEN_INVALID: "The token is missing, wrong or expired.",
    ProblemCode.TOKEN_REVOKED: "The token was revoked.",
    ProblemCode.TOKEN_LIMITED: "The token is limited to the pushes of one repository.",
    ProblemCode.NOT_FOUND: "There is no such path.",
    ProblemCode.PUSH_UNKNOWN: "No push of the image is known.",
    ProblemCode.PUSH_NOT_DONE: "The push ended without its version, or it is parked.",
    ProblemCode.STILL_WAITING: "The push has no result yet; ask again.",
    ProblemCode.DELIVERY_NOT_FOUND: "The delivery does not exist, or it was purged.",
    ProblemCode.APP_NOT_FOUND: "No rule names the app.",
    ProblemCode.VERSION_NOT_FOUND: "The app has no such version.",
    ProblemCode.METHOD_NOT_ALLOWED: "The path does not support the method.",
    ProblemCode.BODY_TOO_SLOW: "The body took over 10 seconds.",
    ProblemCode.CHANNEL_NOT_CHANGED: "The channel cannot be moved or released as asked.",
    ProblemCode.VERSION_NOT_TRIED: "The version is not there, has no location, or is tried now.",
    ProblemCode.REPOSITORY_UNKNOWN: "No rule and no push is of the repository.",
    ProblemCode.GATE_NOT_CLOSED: "The gate is already open.",
    ProblemCode.NO_RETENTION: "No rule of the app has `keep`.",
    ProblemCode.CONFIGURATION_REFUSED: "The configuration has faults, or needs a restart.",
    ProblemCode.DELETION_IN_PROGRESS: "Another deletion of versions is in progress.",
    ProblemCode.BODY_TOO_LARGE: "The body is over 1 MiB.",
    ProblemCode.TOO_MANY_BODIES: "Too many large bodies arrive at once; try again later.",
    ProblemCode.INTERNAL_ERROR: "An error in the receiver; its log has it as `request_fault`.",
    ProblemCode.EDGEGAP_FAILED: "Edgegap does not answer as it should; try again later.",
    ProblemCode.TOO_MANY_WAITING: "Too many requests wait; try again later.",
    ProblemCode.STOPPING: "The receiver is stopping; ask again.",
    ProblemCode.LEDGER_UNAVAILABLE: "The ledger is unavailable; nothing was done.",
    ProblemCode.MALFORMED: "The request is not HTTP/1.1.",
    ProblemCode.HEAD_TOO_LARGE: "The request line and headers are over 64 KiB.",
    ProblemCode.HEAD_TOO_SLOW: "The request line and headers took over 10 seconds.",
    ProblemCode.TOO_MANY_CONNECTIONS: "There are too many connections; try again later.",
    ProblemCode.TOO_MANY_AHEAD: "Too many requests were sent on a connection before a response.",
}


class Problem(msgspec.Struct, frozen=True):
    """An error as RFC 9457 describes it."""

    type: Annotated[str, described("Always the same: `code` is the kind of error.", "about:blank")]
    title: Annotated[str, described("The meaning of the status.", "Not Found")]
    status: Annotated[int, Meta(examples=[HTTPStatus.NOT_FOUND.value])]
    detail: Annotated[str, described("What happened, and what to do.")]
    code: ProblemCode


def problem(code: ProblemCode, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error of the API."""
    body = problem_body(code, detail)
    return Response(body, STATUS[code].value, headers=headers, media_type=PROBLEM_JSON)


def problem_body(code: ProblemCode, detail: str) -> bytes:
    """Return an error as JSON."""
    status = STATUS[code]
    return encode(Problem("about:blank", status.phrase, status.value, detail, code))

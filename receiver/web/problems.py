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

    status: HTTPStatus
    meaning: str

    def __new__(cls, word: str, status: int = 0, meaning: str = "") -> "ProblemCode":
        """Return a member whose value is the word."""
        code = str.__new__(cls, word)
        code._value_, code.status, code.meaning = word, HTTPStatus(status), meaning
        return code

    INVALID_REQUEST = (
        "invalid_request",
        400,
        "The query or the body is invalid; the message says what is.",
    )
    TOKEN_INVALID = "token_invalid", 401, "The token is missing, wrong or expired."
    TOKEN_REVOKED = "token_revoked", 401, "The token was revoked."
    TOKEN_LIMITED = "token_limited", 403, "The token is limited to the pushes of one repository."
    NOT_FOUND = "not_found", 404, "There is no such path."
    PUSH_UNKNOWN = "push_unknown", 404, "No push of the image is known."
    PUSH_NOT_DONE = "push_not_done", 409, "The push ended without its version, or it is parked."
    STILL_WAITING = "still_waiting", 408, "The push has no result yet; ask again."
    DELIVERY_NOT_FOUND = "delivery_not_found", 404, "The delivery does not exist, or it was purged."
    APP_NOT_FOUND = "app_not_found", 404, "No rule names the app."
    VERSION_NOT_FOUND = "version_not_found", 404, "The app has no such version."
    METHOD_NOT_ALLOWED = "method_not_allowed", 405, "The path does not support the method."
    BODY_TOO_SLOW = "body_too_slow", 408, "The body took over 10 seconds."
    CHANNEL_NOT_CHANGED = (
        "channel_not_changed",
        409,
        "The channel cannot be moved or released as asked.",
    )
    VERSION_NOT_TRIED = (
        "version_not_tried",
        409,
        "The version is not there, has no location, or is tried now.",
    )
    REPOSITORY_UNKNOWN = "repository_unknown", 409, "No rule and no push is of the repository."
    GATE_NOT_CLOSED = "gate_not_closed", 409, "The gate is already open."
    NO_RETENTION = "no_retention", 409, "No rule of the app has `keep`."
    CONFIGURATION_REFUSED = (
        "configuration_refused",
        409,
        "The configuration has faults, or needs a restart.",
    )
    DELETION_IN_PROGRESS = (
        "deletion_in_progress",
        409,
        "Another deletion of versions is in progress.",
    )
    BODY_TOO_LARGE = "body_too_large", 413, "The body is over 1 MiB."
    TOO_MANY_BODIES = (
        "too_many_bodies",
        503,
        "Too many large bodies arrive at once; try again later.",
    )
    INTERNAL_ERROR = (
        "internal_error",
        500,
        "An error in the receiver; its log has it as `request_fault`.",
    )
    EDGEGAP_FAILED = "edgegap_failed", 502, "Edgegap does not answer as it should; try again later."
    TOO_MANY_WAITING = "too_many_waiting", 503, "Too many requests wait; try again later."
    STOPPING = "stopping", 503, "The receiver is stopping; ask again."
    LEDGER_UNAVAILABLE = "ledger_unavailable", 503, "The ledger is unavailable; nothing was done."
    MALFORMED = "malformed", 400, "The request is not HTTP/1.1."
    HEAD_TOO_LARGE = "head_too_large", 431, "The request line and headers are over 64 KiB."
    HEAD_TOO_SLOW = "head_too_slow", 408, "The request line and headers took over 10 seconds."
    TOO_MANY_CONNECTIONS = (
        "too_many_connections",
        503,
        "There are too many connections; try again later.",
    )
    TOO_MANY_AHEAD = (
        "too_many_ahead",
        429,
        "Too many requests were sent on a connection before a response.",
    )


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
    return Response(body, code.status.value, headers=headers, media_type=PROBLEM_JSON)


def problem_body(code: ProblemCode, detail: str) -> bytes:
    """Return an error as JSON."""
    status = code.status
    return encode(Problem("about:blank", status.phrase, status.value, detail, code))

"""HTTP messages as types: reads the query or the body of a request, and writes a response.

Errors are as RFC 9457 writes them: `application/problem+json`, with a `code`.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from receiver.errors import ReceiverError
from receiver.ledger.views import described, from_plain
from receiver.web.bodies import IN_WORDS, PLAIN
from receiver.web.body import read_body
from receiver.web.serialization import decode, encode

PROBLEM_JSON = "application/problem+json"
T = TypeVar("T")
MAX_WORDS = 12
NO_DIGEST = "a digest is sha256: and 64 hexadecimal digits"
_FIELD = re.compile(r"`\$\.(\w+)`$")


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
    NOT_FOUND = "not_found", 404, "There is no such path; or the link is invalid."
    PAGE_OFF = "page_off", 404, "No password is set for the page."
    NOT_A_PUSH = "not_a_push", 400, "The body of a webhook is not a push; `reason` says why."
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
        "An error in the receiver; its log has it as `request_fault`, with the id in `detail`.",
    )
    EDGEGAP_FAILED = "edgegap_failed", 502, "Edgegap does not answer as it should; try again later."
    TOO_MANY_WAITING = "too_many_waiting", 503, "Too many requests wait; try again later."
    STOPPING = "stopping", 503, "The receiver is stopping; ask again."
    WORKER_STOPPED = "worker_stopped", 503, "The worker is not running; restart the receiver."
    LEDGER_UNAVAILABLE = "ledger_unavailable", 503, "The ledger is unavailable; nothing was done."
    MALFORMED = "malformed", 400, "The request is not HTTP/1.1."
    HEAD_TOO_LARGE = "head_too_large", 431, "The request line and headers are over 64 KiB."
    HEAD_TOO_SLOW = "head_too_slow", 408, "The request line and headers took over 10 seconds."
    TOO_MANY_CONNECTIONS = (
        "too_many_connections",
        503,
        "There are too many connections; try again later.",
    )
    TOO_MANY_WRONG_TOKENS = (
        "too_many_wrong_tokens",
        429,
        "The address sent too many requests with invalid links. A valid link is never limited.",
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


def problem(
    code: ProblemCode,
    detail: str,
    headers: Mapping[str, str] | None = None,
    *,
    kind: type[Problem] = Problem,
    **more: object,
) -> Response:
    """Return an error; `more` are the fields that its kind has in addition."""
    body = problem_body(code, detail, kind=kind, **more)
    return Response(body, code.status.value, headers=headers, media_type=PROBLEM_JSON)


def problem_body(
    code: ProblemCode, detail: str, *, kind: type[Problem] = Problem, **more: object
) -> bytes:
    """Return an error as JSON."""
    status = code.status
    return encode(kind("about:blank", status.phrase, status.value, detail, code, **more))


def not_found() -> Response:
    """Return the 404 of an unknown path and of an invalid link, which is always the same."""
    return problem(ProblemCode.NOT_FOUND, "there is nothing at this address")


class BadRequest(ReceiverError):
    """The query or the body of a request is not valid; the message says what is wrong."""


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
        raise BadRequest("the body is not JSON; /api/ describes it") from None


def read_query(request: Request, kind: type[T]) -> T:
    """Return the query as this type; raises BadRequest with what is wrong and where."""
    given = dict(request.query_params)
    if len(given) < len(request.query_params.multi_items()):
        raise BadRequest("the query is not valid: a parameter is given more than once")
    try:
        return msgspec.convert(given, kind, strict=False, dec_hook=from_plain)
    except msgspec.ValidationError as error:
        raise BadRequest(f"the query is not valid: {_explained(error, kind)}") from None


def given(value: T | UnsetType) -> T | None:
    """Return the value of a parameter, None if it was left out."""
    return None if value is UNSET else value


def _explained(error: msgspec.ValidationError, kind: type) -> str:
    """Return the error with the words that its field accepts, if they are few."""
    text = str(error)
    for pattern, in_words in IN_WORDS.items():
        text = text.replace(f"`str` matching regex {pattern!r}", f"text {in_words}")
    found = _FIELD.search(text)
    hint = get_type_hints(kind).get(found[1]) if found is not None else None
    words = [word for one in (hint, *get_args(hint)) for word in _words(one)]
    accepted = f"; it is one of {', '.join(words)}" if 0 < len(words) <= MAX_WORDS else ""
    return f"{text}{accepted}; /api/ describes it"


def _words(hint: object) -> tuple[str, ...]:
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return tuple(word.value for word in hint)
    return get_args(hint) if get_origin(hint) is Literal else ()


def json_response(
    view: object, status: int = 200, *, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a view as the response."""
    return Response(encode(view), status, headers=headers, media_type="application/json")

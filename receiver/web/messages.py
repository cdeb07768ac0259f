"""HTTP messages as types: reads the query or the body of a request, and writes a response."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Literal, TypeVar, get_args, get_origin, get_type_hints

import msgspec
from msgspec import UNSET, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from receiver.errors import ReceiverError
from receiver.ledger.views import from_plain
from receiver.web.bodies import IN_WORDS, PLAIN
from receiver.web.body import read_body
from receiver.web.serialization import decode, encode

T = TypeVar("T")
MOST_WORDS = 12
NO_DIGEST = "a digest is sha256: and 64 hexadecimal digits"
_FIELD = re.compile(r"`\$\.(\w+)`$")


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
    accepted = f"; it is one of {', '.join(words)}" if 0 < len(words) <= MOST_WORDS else ""
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

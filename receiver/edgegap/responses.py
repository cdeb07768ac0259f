"""Edgegap's responses, parsed from bytes: the only module that knows their HTTP details.

Edgegap's own responses are JSON with the documented fields. Any other response (a redirect, a page
of HTML, an empty body or other JSON) came from a proxy, a firewall or another server, whatever its
status is. A successful response is also checked for the documented required fields of what was
requested: if a proxy's `{}` were read as a version, a channel would seem to have no variables, and
the next PATCH would erase them.
"""

import html
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from receiver.edgegap.fields import flag
from receiver.secret import MASK, Secret, mask
from receiver.timestamps import read_retry_after

T = TypeVar("T")

Shape = Callable[[Mapping[str, Any]], str]
"""Returns why a JSON object is not the requested object; empty if it is."""

IMAGE_FIELDS = ("docker_repository", "docker_image", "docker_tag")
MAX_MESSAGE = 500
MAX_READ = 65_536  # characters; only the beginning of a longer text is read
MAX_DEPTH = 6
_SENTENCES = ("message", "error", "errors")
_DETAILS = ("details", "detail")
_NO_WORDS = frozenset({"success", "version"})
_SECRET_NAME = re.compile(
    r"token|secret|passw|credential|authorization|private_|key\b", re.IGNORECASE
)
_TITLE = re.compile(r"<title[^<>]*>([^<>]*)", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")
OK = frozenset({200, 201, 204})
REDIRECTS = range(300, 400)
CLIENT_ERRORS = range(400, 500)
TIMED_OUT = 408  # of a gateway: the server behind it may still finish the request
OF_PROXIES = frozenset({407, 511})  # Proxy and Network Authentication Required
MAY_BE_EMPTY = frozenset({408, 429, *range(500, 600)})
WRITES = frozenset({"POST", "PATCH", "DELETE"})
MISSING = 404

Body = Mapping[str, Any]


def any_object(body: Mapping[str, Any]) -> str:  # noqa: ARG001 - the shape of answers that are only confirmed
    """Accept every JSON object."""
    return ""


def version_named(name: str) -> Shape:
    """Expect the version of this name. Which optional fields it has is decided elsewhere."""

    def fault(body: Mapping[str, Any]) -> str:
        if not is_named(body, name):
            return f"the answer is not the version {name}"
        lacking = [field for field in IMAGE_FIELDS if not isinstance(body.get(field), str)]
        return f"the answer is a version without {', '.join(lacking)}" if lacking else ""

    return fault


def app_named(name: str) -> Shape:
    """Expect the app of this name."""
    return lambda body: "" if is_named(body, name) else f"the answer is not the app {name}"


def list_of(key: str, *, first: bool, id_field: str = "name") -> Shape:
    """Expect a page of a list with its rows under `key`; `first`: its first page.

    Each row is identified by its `id_field`.

    The document requires `total_count` but not the rows: they may be missing if there are none.
    """

    def fault(body: Mapping[str, Any]) -> str:
        rows, total = body.get(key), count_of(body.get("total_count"))
        if not isinstance(rows, list):
            is_empty = rows is None and total == 0
            return "" if is_empty else f"the answer is no list of {key}"
        if rows and not any(is_row(row, id_field) for row in rows):
            return f"the answer is a list without the {id_field} of its {key}"
        if first and not rows and total:
            return f"the answer is a list without its {total} {key}"
        return ""

    return fault


def is_row(row: Any, id_field: str) -> bool:
    """Return whether a row of a list can be identified."""
    return isinstance(row, dict) and isinstance(row.get(id_field), str)


def count_of(value: Any) -> int | None:
    """Return a count, however it is written: numbers may come as text or as 2.0."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value[:18])
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if type(value) is int else None


def is_named(body: Body, name: str, key: str = "name") -> bool:
    """Compare without case: whether Edgegap's names depend on it is not documented."""
    found = body.get(key)
    return isinstance(found, str) and found.casefold() == name.casefold()


def words_of_json(said: Any, secrets: Iterable[Secret]) -> str:
    """Return the message in a JSON value: its documented fields, otherwise the whole value."""
    if not isinstance(said, Mapping):
        return one_line(_text(_safe(said)), secrets)
    parts = [_text(_safe(said.get(name), sentences=True)) for name in _SENTENCES]
    parts += [_text(_safe(said.get(name))) for name in _DETAILS]
    if not any(parts):
        parts = [_text(_safe({name: said[name] for name in said if name not in _NO_WORDS}))]
    return one_line("; ".join(filter(None, parts)), secrets)


def words_of_page(content: bytes, secrets: Iterable[Secret]) -> str:
    """Return the title of a page of HTML, otherwise the text between its tags."""
    secrets = tuple(secrets)
    text = content.decode("utf-8", "replace")
    text = mask(html.unescape(mask(text, secrets)), secrets)[:MAX_READ]
    title = _TITLE.search(text)
    return one_line(title[1]) if title and title[1].strip() else one_line(_TAG.sub(" ", text))


def one_line(text: str, secrets: Iterable[Secret] = ()) -> str:
    """Return the text masked, printable, with single spaces, and then cut to its limit."""
    text = mask(text, secrets)[:MAX_READ]
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    line = " ".join(printable.split())
    return line if len(line) <= MAX_MESSAGE else line[: MAX_MESSAGE - 1] + "…"


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        entries = ((name, _text(inner)) for name, inner in value.items())
        return ", ".join(f"{name}: {text}" for name, text in entries if text)
    if isinstance(value, list):
        return "; ".join(text for inner in value if (text := _text(inner)))
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _safe(value: Any, *, sentences: bool = False, depth: int = 0) -> Any:
    """Return the value down to a depth, without values that may be secrets.

    `sentences`: the keys are names of fields, and the values are sentences about these fields.
    """
    if depth == MAX_DEPTH:
        return "…"
    if isinstance(value, list):
        return [_safe(inner, sentences=sentences, depth=depth + 1) for inner in value]
    if not isinstance(value, Mapping):
        return value
    is_variable = {"key", "value"} <= value.keys()
    safe = {}
    for name, inner in value.items():
        hidden = name == "value" if is_variable else _SECRET_NAME.search(name) is not None
        if hidden and inner and not (sentences and " " in str(inner)):
            safe[name] = MASK
        else:
            safe[name] = _safe(inner, sentences=sentences, depth=depth + 1)
    return safe


class Success(msgspec.Struct, frozen=True):
    """How Edgegap confirms a call: by one of these statuses, and a write also by `success: true`.

    The field is documented as required in the response to each write of a version, and nowhere
    else. A `success: false` is a refusal everywhere. `or_null`: null is Edgegap's own answer too.
    """

    statuses: frozenset[int] = OK
    by_field: bool = True
    or_null: bool = False


OF_VERSIONS = Success()


class Effect(StrEnum):
    """Whether a write took effect, as far as its response shows."""

    DONE = "done"
    NONE = "none"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Answer:
    """One call and its response.

    `status` is None if there was no response (timeout, reset, refused connection). `body` is the
    JSON object, None if there was none. `retry_after` and `milliseconds` are in milliseconds, `at`
    is when the request was sent, in epoch milliseconds. `foreign`: the response is not Edgegap's
    own. `unread`: the call succeeded, but the body is too large to be read. `success` is how a
    success of this call looks.
    """

    method: str
    path: str
    status: int | None
    body: Body | None = field(default=None, repr=False)
    message: str = ""
    retry_after: int | None = None
    milliseconds: int = 0
    at: int = 0
    foreign: bool = False
    unread: bool = False
    success: Success = OF_VERSIONS

    @property
    def ok(self) -> bool:
        """Whether the call succeeded, with a response that can be read."""
        done = self._succeeded and not (self.foreign or self.unread or self.declined)
        return done and (self.body is not None or self.method == "DELETE")

    @property
    def declined(self) -> bool:
        """Whether Edgegap does not confirm the write with `success` despite a 2xx status."""
        declines = _declines(self.method, self.body, self.success)
        return self._succeeded and not self.foreign and declines

    @property
    def accepted(self) -> bool:
        """Whether Edgegap accepted the token, also if the response is too large to be read."""
        return self.ok or (self.unread and not self.foreign)

    @property
    def effect(self) -> Effect:
        """Whether this write took effect: only a definite response of Edgegap's own is certain.

        After any other response the write may have taken effect, or may do so later: no response, a
        proxy's page, a redirect, a 5xx, a status that is not this call's, or no true `success`.
        """
        if self.ok:
            return Effect.DONE
        definite = self.status in CLIENT_ERRORS and self.status != TIMED_OUT
        return Effect.NONE if definite and not self.foreign else Effect.UNKNOWN

    def says(self, *statuses: int) -> bool:
        """Return whether Edgegap itself responded with one of these statuses."""
        return self.status in statuses and not self.foreign

    @property
    def _succeeded(self) -> bool:
        return self.status in self.success.statuses


class Row(msgspec.Struct, Generic[T], frozen=True, eq=False):
    """A row of a table: what a response means to these kinds of call, with these statuses.

    With `says`, only if its message contains that pattern.
    """

    means: T
    calls: Collection[str]
    statuses: Collection[int]
    says: re.Pattern[str] | None = None

    def fits(self, call: str, answer: Answer) -> bool:
        """Return whether it is the row of this response to this call."""
        if call not in self.calls or answer.status not in self.statuses:
            return False
        return self.says is None or self.says.search(answer.message) is not None


def message_pattern(pattern: str) -> re.Pattern[str]:
    """Return the pattern of a message: Edgegap documents neither its wording nor its case."""
    return re.compile(pattern, re.IGNORECASE)


def read_answer(
    *,
    method: str,
    path: str,
    status: int,
    headers: Mapping[str, str],
    content: bytes,
    now: int,
    secrets: Iterable[Secret] = (),
    unreadable: str = "",
    shape: Shape = any_object,
    success: Success = OF_VERSIONS,
) -> Answer:
    """Parse a response; `now` in epoch milliseconds, for a Retry-After given as a date.

    `shape` returns what a successful response to this call lacks. `secrets` are masked in the
    message before it is truncated. `unreadable` is the reason why the body was not read to its end;
    `content` is then its beginning.
    """
    said = None if unreadable else _decoded(content)
    body = said if isinstance(said, dict) else None
    done = status in success.statuses
    foreign = _is_foreign(method, status, content, said, done=done, whole=not unreadable)
    if done and success.or_null and content.strip() == b"null":
        foreign = False
    confirmed = done and body is not None and not _declines(method, body, success)
    misfit = shape(body) if confirmed and body is not None and not foreign else ""
    if unreadable:
        message = unreadable
    elif status in REDIRECTS:
        message = f"a redirect{_destination(headers.get('location', ''))}"
    elif misfit and body is not None:
        message = one_line(misfit, secrets) + _words_beside(body, secrets)
        body, foreign = None, True
    elif said is not None:
        message = "" if confirmed else words_of_json(said, secrets)
    else:
        message = words_of_page(content, secrets)
        if not message and foreign:
            message = "an empty answer"
    if not message and not done:
        message = f"HTTP {status}"
    return Answer(
        method=method,
        path=path,
        status=status,
        body=body,
        message=message,
        retry_after=read_retry_after(headers, now),
        foreign=foreign,
        unread=bool(unreadable) and done,
        success=success,
    )


def app_path(app: str) -> str:
    """Return the path of an app."""
    return f"/v1/app/{quote(app, safe='')}"


def version_path(app: str, version: str | None = None) -> str:
    """Return the path of a version, or of the app's versions to POST to."""
    path = f"{app_path(app)}/version"
    return path if version is None else f"{path}/{quote(version, safe='')}"


def versions_path(app: str) -> str:
    """Return the path that lists an app's versions."""
    return f"{app_path(app)}/versions"


def _decoded(content: bytes) -> Any:
    try:
        return json.loads(content) if content else None
    except (ValueError, RecursionError):
        return None


def _declines(method: str, body: Body | None, success: Success) -> bool:
    """Return whether the body of a successful status does not confirm the write."""
    if body is None or not ("success" in body or (success.by_field and method in WRITES)):
        return False
    return flag(body.get("success")) is not True


def _words_beside(body: Body, secrets: Iterable[Secret]) -> str:
    """Return the text of a response that is not Edgegap's: a login page's title, for instance."""
    words = words_of_json({name: body.get(name) for name in ("message", "error")}, secrets)
    return f": {words}" if words else ""


def _is_foreign(
    method: str, status: int, content: bytes, said: Any, *, done: bool, whole: bool
) -> bool:
    if status in REDIRECTS or status in OF_PROXIES:
        return True
    if not whole:
        return not done or not content.lstrip().startswith(b"{")
    if not content:
        return status not in MAY_BE_EMPTY and not (method == "DELETE" and done)
    if status == MISSING:  # a proxy's own 404 must not count as Edgegap's
        return not (isinstance(said, dict) and words_of_json({"message": said.get("message")}, ()))
    return not isinstance(said, dict if done else dict | list | str)


def _destination(location: str) -> str:
    """Return the host of a redirect; the rest of the URL may contain secrets."""
    try:
        host = urlsplit(location).hostname
    except ValueError:
        host = None
    return f" to {one_line(host)}" if host else ""

"""Holds what a client sends, and what a stand-in answers, against Edgegap's OpenAPI document.

The document forbids no extra fields, so that it passes what Edgegap refuses ("Unknown Args");
here a field, or a query parameter, that the document does not name is a violation.
"""

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from openapi_core import OpenAPI
from openapi_core.datatypes import RequestParameters
from openapi_core.validation.schemas.exceptions import InvalidSchemaValue
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from werkzeug.datastructures import Headers as WerkzeugHeaders
from werkzeug.datastructures import ImmutableMultiDict

from receiver.sandbox.calls import FAULT_HEADER, is_call, read_body, replay

Schema = dict[str, Any]

DOCUMENT: dict[str, Any] = json.loads(
    Path(__file__).with_name("edgegap-openapi.json").read_text(encoding="utf-8")
)
_SERVER: str = DOCUMENT["servers"][0]["url"]

UNDOCUMENTED_QUERY = {"app-version-list": frozenset({"page", "limit"})}
"""By operation, the query parameters that are sent although the document does not name them.

The list of an app's versions is paged in its answer, and no parameter is documented to ask for the
next page; Edgegap's own tools send these two, as for every other list.
"""


@dataclass(frozen=True)
class Operation:
    """One operation of the document: its id, lower-case method, path template, and definition."""

    id: str
    method: str
    path: str
    definition: Schema

    @property
    def responses(self) -> dict[str, Schema]:
        """Its documented answers by status."""
        found: dict[str, Schema] = self.definition["responses"]
        return found

    def schema_of(self, status: str) -> Schema | None:
        """Return what its answer with this status holds, None if it has no body."""
        content = self.responses[status].get("content", {})
        found: Schema | None = content.get("application/json", {}).get("schema")
        return found


@dataclass
class _Request:
    method: str
    path: str
    content_type: str
    body: bytes | None
    query: ImmutableMultiDict[str, str]
    parameters: RequestParameters
    host_url: str = _SERVER


@dataclass
class _Response:
    status_code: int
    content_type: str
    headers: Mapping[str, Any]
    data: bytes | None


def check_request(
    method: str, url: str, headers: Mapping[str, str], body: bytes | None
) -> list[str]:
    """Say in which ways a request breaks the document. Whatever host `url` names will do."""
    request = _request(method, url, headers, body)
    faults = [_describe(error) for error in _openapi().iter_request_errors(request)]
    operation = find_operation(method, request.path)
    if operation is None:
        return [f"{method} {request.path}: {fault}" for fault in faults]
    parameters = operation.definition.get("parameters", ())
    named = {one["name"] for one in parameters if one["in"] == "query"}
    allowed = named | UNDOCUMENTED_QUERY.get(operation.id, frozenset())
    faults += [
        f"query parameter {name} is not in the document"
        for name in request.query
        if name not in allowed
    ]
    if not headers.get("authorization", "").startswith("token "):
        faults.append("Authorization must be the word token and the token")
    if body and "requestBody" in operation.definition:
        schema = operation.definition["requestBody"]["content"]["application/json"]["schema"]
        faults += _unknown_fields(_json(body), schema)
    elif body:
        faults.append("this operation takes no body")
    return [f"{method} {request.path}: {fault}" for fault in faults]


def check_response(
    method: str, path: str, status: int, headers: Mapping[str, str], body: bytes
) -> list[str]:
    """Say in which ways an answer breaks the document."""
    request = _request(method, path, {}, None)
    operation = find_operation(method, request.path)
    where = f"{method} {request.path} -> {status}"
    if operation is None:
        return [f"{where}: the path is not in the document"]
    if str(status) not in operation.responses:
        if not _known_undocumented(operation.id, status):
            return [f"{where}: the status is not documented"]
        status = 401  # it is an error as all others are; the document has one shape for them
    schema = operation.schema_of(str(status))
    if schema is None:
        return [f"{where}: the answer has no body in the document"] if body else []
    content_type = headers.get("content-type", "")
    response = _Response(status, content_type, dict(headers), body)
    faults = [_describe(error) for error in _openapi().iter_response_errors(request, response)]
    faults += _unknown_fields(_json(body), schema)
    return [f"{where}: {fault}" for fault in faults]


@dataclass
class ContractChecked:
    """An ASGI app between whose clients and itself the document is held; see `violations`.

    Answers that a fault made up are let through: they are meant to break it.
    """

    app: ASGIApp
    violations: list[str] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not is_call(scope):
            await self.app(scope, receive, send)
            return
        sent = await read_body(receive)
        method = scope["method"]
        path = quote(scope["path"])  # as it was sent: a question mark in a name starts no query
        target = path + "?" + scope["query_string"].decode("latin-1")
        headers = Headers(scope=scope)
        if len(sent) >= int(headers.get("content-length", "0")):  # else the client was killed
            self.violations += check_request(method, target, headers, sent)
        start: Message = {}
        answered = b""

        async def send_checked(message: Message) -> None:
            nonlocal start, answered
            if message["type"] == "http.response.start":
                start = message
            elif not (headers := Headers(raw=start["headers"])).get(FAULT_HEADER):
                answered += message.get("body", b"")
                if not message.get("more_body", False):
                    self.violations += check_response(
                        method, path, start["status"], headers, answered
                    )
            await send(message)

        await self.app(scope, replay(sent, receive), send_checked)


def contract_checked(app: ASGIApp) -> ContractChecked:
    """Wrap a stand-in of Edgegap; serve the result, and assert `violations == []` at the end."""
    return ContractChecked(app)


@functools.cache
def _openapi() -> OpenAPI:
    return OpenAPI.from_dict(DOCUMENT)


def _request(method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> _Request:
    parts = urlsplit(url)
    query = ImmutableMultiDict(parse_qsl(parts.query, keep_blank_values=True))
    return _Request(
        method=method.lower(),
        path=parts.path,
        content_type=headers.get("content-type", ""),
        body=body or None,
        query=query,
        parameters=RequestParameters(query=query, header=WerkzeugHeaders(list(headers.items()))),
    )


def find_operation(method: str, path: str) -> Operation | None:
    """Return the operation that a request asks for, None if the document has none."""
    asked = path.strip("/").split("/")
    for template, operations in DOCUMENT["paths"].items():
        parts = template.strip("/").split("/")
        if len(parts) == len(asked) and all(
            part.startswith("{") or part == given for part, given in zip(parts, asked, strict=True)
        ):
            found = operations.get(method.lower())
            if found is None:
                return None
            return Operation(found["operationId"], method.lower(), template, found)
    return None


def _known_undocumented(operation_id: str, status: int) -> bool:
    """Return whether an answer is known, or likely, though the document leaves it out.

    A deleted token is 403 everywhere, too many calls are 429, and refusals of a DELETE are not
    documented at all.
    """
    return status in {403, 429} or (operation_id == "app-version-delete" and 400 <= status < 500)


def _unknown_fields(value: Any, schema: Schema, where: str = "body") -> Iterator[str]:
    if "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    if isinstance(value, dict) and "properties" in schema:
        for name, held in value.items():
            if name in schema["properties"]:
                yield from _unknown_fields(held, schema["properties"][name], f"{where}.{name}")
            else:
                yield f"{where}.{name} is not in the document"
    elif isinstance(value, list) and "items" in schema:
        for place, held in enumerate(value):
            yield from _unknown_fields(held, schema["items"], f"{where}[{place}]")


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None  # what is not JSON, openapi-core complains of


def _describe(error: Exception) -> str:
    """Say what an openapi-core error is about: its own text repeats the whole body."""
    at_fault = getattr(error, "name", "body")
    cause = error if isinstance(error, InvalidSchemaValue) else error.__cause__
    if not isinstance(cause, InvalidSchemaValue):
        return str(error)
    return "; ".join(
        f"{'/'.join([at_fault, *map(str, getattr(one, 'path', ()))])}: "
        f"{getattr(one, 'message', one)}"
        for one in cause.schema_errors
    )

"""The API reference at `/api/`: the OpenAPI document, in the order in which people read it."""

import asyncio
import gzip
import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from receiver.web.document import example_of
from receiver.web.messages import ProblemCode
from receiver.web.operation import HTML, JSON
from receiver.web.page.rendering import HEADERS, compressed_response, render

Schema = Mapping[str, Any]
_CODE = re.compile(r"`([a-z_]+)`")
_IN_PATH = re.compile(r"\{(\w+)\}")
_URL, _TOKEN = "$RECEIVER_URL", {"token": "$RECEIVER_API_TOKEN", "metricsToken": "$METRICS_TOKEN"}


class Part(msgspec.Struct, frozen=True):
    """A part of a type's name; `schema` is the named schema that it links to."""

    text: str
    schema: bool = False


class Field(msgspec.Struct, frozen=True):
    """A field of a schema, or a parameter: its type in parts, and its limits as text."""

    name: str
    kind: Sequence[Part]
    required: bool
    description: str
    limits: str
    example: str


class Body(msgspec.Struct, frozen=True):
    """The body of a request or of a response, in one media type."""

    media: str
    kind: Sequence[Part]
    fields: Sequence[Field]


class Answer(msgspec.Struct, frozen=True):
    """One response of an operation."""

    status: int
    description: str
    bodies: Sequence[Body]
    headers: Mapping[str, str]

    @property
    def colour(self) -> str:
        """The colour of the status."""
        return {2: "good", 3: "busy", 4: "wait"}.get(self.status // 100, "bad")


class Call(msgspec.Struct, frozen=True):
    """One operation. `tokens`: the security schemes that it accepts; "" is anyone."""

    id: str
    method: str
    path: str
    summary: str
    description: str
    tokens: Sequence[str]
    parameters: Sequence[Field]
    body: Body | None
    example: str
    curl: str
    answers: Sequence[Answer]


class Named(msgspec.Struct, frozen=True):
    """A named schema: an object with fields, or one of some words."""

    name: str
    description: str
    fields: Sequence[Field]
    words: Sequence[str]


class ErrorCode(msgspec.Struct, frozen=True):
    """One code of an error, and the operations that name it."""

    code: str
    status: int
    meaning: str
    calls: Sequence[str]


class ReferenceView(msgspec.Struct, frozen=True):
    """The whole reference; `groups` by the name of the tag."""

    version: str
    description: str
    tokens: Mapping[str, str]
    groups: Mapping[str, Sequence[Call]]
    errors: Sequence[ErrorCode]
    schemas: Sequence[Named]


def reference_of(document: Schema) -> ReferenceView:
    """Return the reference of this OpenAPI document."""
    components = document["components"]
    named: Mapping[str, Schema] = components["schemas"]
    calls = [
        (one["tags"][0], _call(method, path, one, named))
        for path, item in document["paths"].items()
        for method, one in item.items()
    ]
    groups = {
        tag["name"]: [call for group, call in calls if group == tag["name"]]
        for tag in document["tags"]
    }
    return ReferenceView(
        document["info"]["version"],
        document["info"]["description"],
        {name: one["description"] for name, one in components["securitySchemes"].items()},
        groups,
        list(_errors(named, [call for _, call in calls])),
        [
            Named(name, one["description"], _fields(one, named), one.get("enum", ()))
            for name, one in named.items()
        ],
    )


def _call(method: str, path: str, one: Schema, named: Mapping[str, Schema]) -> Call:
    parameters: Sequence[Schema] = one.get("parameters", ())
    content = one.get("requestBody", {}).get("content", {}).get(JSON)
    example = json.dumps(content["example"]) if content else ""
    tokens = [name for way in one["security"] for name in way or ("",)] or [""]
    query = {
        each["name"]: example_of(each["schema"], named)
        for each in parameters
        if each["in"] == "query" and each["required"]
    }
    return Call(
        one["operationId"],
        method.upper(),
        path,
        one["summary"],
        one.get("description", ""),
        tokens,
        [
            _field(each["name"], each["schema"], each.get("description", ""), each["required"])
            for each in parameters
        ],
        _body(JSON, content["schema"], named) if content else None,
        json.dumps(content["example"], indent=2) if content else "",
        _curl(method.upper(), path, tokens[-1], query, example),
        [
            Answer(
                int(status),
                response["description"],
                [
                    _body(media, body["schema"], named)
                    for media, body in response.get("content", {}).items()
                ],
                {name: head["description"] for name, head in response.get("headers", {}).items()},
            )
            for status, response in one["responses"].items()
        ],
    )


def _curl(method: str, path: str, token: str, query: Schema, body: str) -> str:
    """Return a command for a shell, which has the URL, the token and the ids as variables."""
    address = _IN_PATH.sub(lambda found: f"${found[1].upper()}", path)
    parts = ["curl" if method == "GET" else f"curl -X {method}"]
    if token:
        parts.append(f'-H "Authorization: Bearer {_TOKEN[token]}"')
    if body:
        parts.append(f"-H 'Content-Type: {JSON}' -d {shlex.quote(body)}")
    parts.append(f'"{_URL}{address}{"?" if query else ""}{urlencode(query)}"')
    return " \\\n  ".join(parts)


def _body(media: str, schema: Schema, named: Mapping[str, Schema]) -> Body:
    return Body(media, _kind(schema), _fields(_followed(schema, named), named))


def _followed(schema: Schema, named: Mapping[str, Schema]) -> Schema:
    return named[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def _fields(schema: Schema, named: Mapping[str, Schema]) -> list[Field]:
    required = schema.get("required", ())
    return [
        _field(name, one, one.get("description") or _meaning(one, named), name in required)
        for name, one in schema.get("properties", {}).items()
    ]


def _meaning(schema: Schema, named: Mapping[str, Schema]) -> str:
    """Return the description of the named schema that a field has, if it has one."""
    return str(_followed(schema, named)["description"]) if "$ref" in schema else ""


def _field(name: str, schema: Schema, description: str, required: bool) -> Field:
    examples = schema.get("examples") or [
        example for one in schema.get("anyOf", ()) for example in one.get("examples", ())
    ]
    example = "" if not examples else examples[0]
    text = example if isinstance(example, str) else json.dumps(example)
    return Field(name, _kind(schema), required, description, _limits(schema), text)


def _kind(schema: Schema) -> list[Part]:
    """Return the name of a type in parts, so that named schemas can be links."""
    if "$ref" in schema:
        return [Part(schema["$ref"].rpartition("/")[2], schema=True)]
    if "anyOf" in schema:
        kinds = [_kind(one) for one in schema["anyOf"]]
        return [part for kind in kinds for part in (Part(" or "), *kind)][1:]
    if "enum" in schema:
        return [Part(" or ".join(json.dumps(word) for word in schema["enum"]))]
    match schema.get("type"):
        case "array":
            return [Part("array of "), *_kind(schema["items"])]
        case "object" if isinstance(schema.get("additionalProperties"), Mapping):
            values = schema["additionalProperties"]
            return [Part("object"), *([Part(" of "), *_kind(values)] if values else [])]
        case None:
            return [Part("any")]
        case kind:
            return [Part(schema.get("format", kind))]


_LIMITS = {
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "maxItems": "at most {} items",
    "default": "default {}",
}


def _limits(schema: Schema) -> str:
    given = {key: value for one in schema.get("anyOf", ()) for key, value in one.items()}
    given |= schema
    given = {key: value for key, value in given.items() if (key, value) != ("minLength", 1)}
    return ", ".join(
        text.format(json.dumps(given[key]))
        for key, text in _LIMITS.items()
        if given.get(key) is not None and given[key] not in ("", [])
    )


def _errors(named: Mapping[str, Schema], calls: Sequence[Call]) -> Iterator[ErrorCode]:
    """Return the codes, by status; an operation names its codes in its responses."""
    naming = {
        (code, call.id)
        for call in calls
        for answer in call.answers
        for code in _CODE.findall(answer.description)
    }
    codes = [ProblemCode(word) for word in named[ProblemCode.__name__]["enum"]]
    for code in sorted(codes, key=lambda code: (code.status, code)):
        used = [call.id for call in calls if (code, call.id) in naming]
        yield ErrorCode(code.value, code.status.value, code.meaning, used)


# The API reference at `/api/`, made from the same document as `/api/openapi.json`.
#
# It is the same for anyone, and is rendered and compressed once.

DOCUMENT = "/api/openapi.json"
VARIES = {**HEADERS, "Vary": "Accept, Accept-Encoding"}


class Reference:
    """Serves the reference of a document."""

    def __init__(self, document: Callable[[], bytes]) -> None:
        self._document = document

    async def show(self, request: Request) -> Response:
        """Return the page, or lead a program that asks for JSON to the document."""
        accepted = request.headers.get("accept", "")
        if JSON in accepted and HTML not in accepted:
            return RedirectResponse(DOCUMENT, headers={"Vary": "Accept"})
        await asyncio.to_thread(lambda: self._compressed)  # the first time it takes a while
        return compressed_response(request, self._page, self._compressed, VARIES, HTML)

    @cached_property
    def _page(self) -> bytes:
        shown = reference_of(json.loads(self._document()))
        return bytes(render("reference.html", shown=shown).body)

    @cached_property
    def _compressed(self) -> bytes:
        return gzip.compress(self._page, mtime=0)

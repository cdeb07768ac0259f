"""The API's OpenAPI document, generated from the operations and the types of their bodies."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from receiver.ledger.views import ReasonWord, Word
from receiver.reasons import Reason
from receiver.timestamps import Time
from receiver.version import VERSION
from receiver.web.bodies import PLAIN
from receiver.web.messages import ProblemCode
from receiver.web.operation import JSON, Group, Operation, ResponseSpec
from receiver.web.serialization import encode

# Examples of request bodies, made from the examples in their schemas.

BY_TYPE = {"string": "text", "integer": 1, "number": 1, "boolean": True, "null": None}


def example_of(schema: Mapping[str, Any], named: Mapping[str, Mapping[str, Any]]) -> Any:
    """Return an example of this schema; of an object, what is required or has an example.

    `named`: the schemas that a `$ref` may name.
    """
    if schema.get("examples"):
        return schema["examples"][0]
    if "$ref" in schema:
        return example_of(named[schema["$ref"].rpartition("/")[2]], named)
    if "anyOf" in schema:
        return example_of(schema["anyOf"][0], named)
    if "enum" in schema:
        return schema["enum"][0]
    if "properties" in schema:
        required = schema.get("required", ())
        return {
            name: example_of(one, named)
            for name, one in schema["properties"].items()
            if name in required or "examples" in one
        }
    if schema.get("type") == "array":
        return [example_of(schema["items"], named)]
    return BY_TYPE.get(schema.get("type", ""))


REF = "#/components/schemas/{name}"
DESCRIPTION = (
    "Push a tag to Docker Hub; seconds later it is an app version on Edgegap. The page and the "
    "commands offer the same functions, with the same terms. A method that a path does not support "
    "returns 405, an unknown path 404."
)
SECURITY = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "description": "Created by `receiver api-token --days 30`.",
    },
    "metricsToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "RECEIVER_METRICS_TOKEN, if it is set.",
    },
}

Schema = dict[str, Any]


def document_of(operations: Sequence[Operation]) -> bytes:
    """Return the OpenAPI 3.1 document of these operations as JSON."""
    schemas = _Schemas(operations)
    paths: dict[str, Schema] = {}
    for operation in operations:
        described = schemas.operation(operation)
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    return encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Docker Hub receiver",
                "version": VERSION,
                "description": DESCRIPTION,
                "license": {"name": "MIT", "identifier": "MIT"},
            },
            "servers": [{"url": "/"}],
            "tags": [{"name": group.value} for group in Group],
            "paths": paths,
            "components": {"securitySchemes": SECURITY, "schemas": schemas.components},
        }
    )


class _Schemas:
    """The schemas of all types that the operations use, by name."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        asked = [kind for one in operations for kind in (one.body, one.query) if kind]
        answered = [
            kind
            for one in operations
            for response in one.responses
            for kind in response.content.values()
        ]
        kinds = [*asked, *answered, Reason]  # a `ReasonWord` refers to the last
        schemas, named = msgspec.json.schema_components(
            kinds, schema_hook=_schema_of, ref_template=REF
        )
        _, of_requests = msgspec.json.schema_components(
            asked, schema_hook=_schema_of, ref_template=REF
        )
        self._by_kind = {id(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}
        queries = {one.query for one in operations if one.query}
        self._parameters = {kind: named.pop(kind.__name__) for kind in queries}
        for word in Word.__subclasses__():
            described = {"description": word.__doc__, "enum": list(word.known)}
            named.setdefault(_name_of(word), described)
        for name, schema in named.items():
            if name not in of_requests:
                _close(schema)
            _simplify(schema)
        named[ProblemCode.__name__]["x-enumDescriptions"] = {
            code.value: code.meaning for code in sorted(ProblemCode)
        }
        self.components = dict(sorted(named.items()))

    def operation(self, one: Operation) -> Schema:
        """Return the description of one operation."""
        described: Schema = {
            "operationId": one.id,
            "tags": [one.group.value],
            "summary": one.summary,
            "security": [{name: []} if name else {} for name in one.security],
        }
        if one.description:
            described["description"] = one.description
        parameters = [_in_path(name, text) for name, text in one.parameters.items()]
        if one.query:
            parameters += _in_query(self._parameters[one.query])
        if parameters:
            described["parameters"] = parameters
        if one.body:
            schema = {**self._by_kind[id(one.body)], **one.rules}
            example = example_of(schema, self.components)
            content = {JSON: {"schema": schema, "example": example}}
            described["requestBody"] = {"required": True, "content": content}
        described["responses"] = {
            str(response.status.value): self._response(response)
            for response in sorted(one.responses, key=lambda response: response.status)
        }
        return described

    def _response(self, response: ResponseSpec) -> Schema:
        described: Schema = {"description": response.description}
        if response.content:
            described["content"] = {
                media: {"schema": self._by_kind[id(kind)]}
                for media, kind in response.content.items()
            }
        if response.headers:
            described["headers"] = {
                name: {"description": text, "schema": {"type": "string"}}
                for name, text in response.headers.items()
            }
        return described


def _schema_of(kind: type) -> Schema:
    if kind is Time:
        return {"type": "string", "format": "date-time", "examples": ["2026-11-23T17:00:00.000Z"]}
    if issubclass(kind, Word):
        return {"$ref": REF.format(name=_name_of(kind))}
    raise NotImplementedError


def _name_of(word: type[Word]) -> str:
    return Reason.__name__ if word is ReasonWord else word.__name__


def _close(schema: Schema) -> None:
    """Say of a response that it has all fields of its type, and no others."""
    properties = schema.get("properties")
    if properties is None:
        return
    given = {name for name, one in properties.items() if "default" in one}
    for one in properties.values():
        one.pop("default", None)
    required = set(schema.get("required", ())) | given
    schema["required"] = [name for name in properties if name in required]
    schema["additionalProperties"] = False


def _simplify(node: object) -> None:
    """Give each enumeration its type, and each docstring its lines without indentation."""
    if isinstance(node, list):
        for one in node:
            _simplify(one)
    if not isinstance(node, dict):
        return
    if isinstance(node.get("description"), str):
        node["description"] = inspect.cleandoc(node["description"])
    if isinstance(node.get("enum"), list):
        node.setdefault("type", "string")
    if isinstance(node.get("pattern"), str):
        node["pattern"] = node["pattern"].replace(r"\Z", "$")  # as JSON Schema writes the end
    for one in node.values():
        _simplify(one)


def _in_path(name: str, text: str) -> Schema:
    schema = {"type": "string", "minLength": 1, "pattern": PLAIN}
    _simplify(schema)
    return {"name": name, "in": "path", "required": True, "description": text, "schema": schema}


def _in_query(schema: Schema) -> list[Schema]:
    """Return the parameters of a query; schemas repeat the description for generated clients."""
    _simplify(schema)
    required = schema.get("required", [])
    parameters = []
    for name, one in schema["properties"].items():
        parameter = {"name": name, "in": "query", "required": name in required}
        if "description" in one:
            parameter["description"] = one["description"]
        parameters.append({**parameter, "schema": one})
    return parameters

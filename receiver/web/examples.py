"""Examples of request bodies, made from the examples in their schemas."""

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]
BY_TYPE = {"string": "text", "integer": 1, "number": 1, "boolean": True, "null": None}


def example_of(schema: Schema, named: Mapping[str, Schema]) -> Any:
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

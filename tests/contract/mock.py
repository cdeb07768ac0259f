"""A server of Edgegap's API made from its OpenAPI document alone: nothing else is known here.

Each request is held against the document, and answered with what its schemas allow. What is named
by a path, and described by a schema of the document's own, is a resource: it is there once it was
posted, as it was posted, and until it is deleted.
"""

import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from tests.contract.openapi import (
    DOCUMENT,
    Operation,
    Schema,
    check_request,
    check_response,
    find_operation,
)

_NOT_FOUND, _BAD_REQUEST = "404", "400"


class DocumentMock:
    """The ASGI app. `requests` are the operations asked for, `violations` what broke the document.

    Both in the order in which they came; `resources` are what is there, by path.
    """

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.violations: list[str] = []
        self.resources: dict[str, dict[str, Any]] = {}

    def put(self, path: str, **fields: Any) -> None:
        """Have a resource from the start: what a POST of these fields would have made."""
        self.resources[path] = {"name": path.rpartition("/")[2], **fields}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        response = self._answer(request, await request.body())
        await response(scope, receive, send)

    def _answer(self, request: Request, content: bytes) -> Response:
        faults = check_request(request.method, str(request.url), request.headers, content)
        self.violations += faults
        operation = find_operation(request.method, request.url.path)
        if operation is None:
            return JSONResponse({"message": "no such operation"}, 404)
        self.requests.append(operation.id)
        path, status = request.url.path, _BAD_REQUEST
        if not faults:
            path, status = self._act(operation, path, json.loads(content) if content else {})
        schema = operation.schema_of(status)
        if schema is None:
            return Response(status_code=int(status))
        response = JSONResponse(self._example(schema, path), int(status))
        self.violations += check_response(
            request.method, request.url.path, int(status), response.headers, bytes(response.body)
        )
        return response

    def _act(self, operation: Operation, path: str, body: dict[str, Any]) -> tuple[str, str]:
        """Do what the method means in HTTP; return the path of the resource, and the status."""
        done = next(status for status in operation.responses if status.startswith("2"))
        if operation.method == "post" and "name" in body:
            path = f"{path}/{body['name']}"
            self.put(path, **body)
        elif operation.path.endswith("}") and path not in self.resources:
            return path, _NOT_FOUND
        elif operation.method == "patch":
            self.resources[path] |= body
        elif operation.method == "delete":
            del self.resources[path]
        return path, done

    def _example(self, schema: Schema, path: str) -> Any:
        """Return a value of the schema: what the resource has, otherwise the least it allows."""
        reference = schema.get("$ref", "").rpartition("/")[2]
        schema = DOCUMENT["components"]["schemas"][reference] if reference else schema
        if "default" in schema:
            return schema["default"]
        match schema.get("type"):
            case "object":
                properties: Mapping[str, Schema] = schema.get("properties", {})
                known = self.resources.get(path, {}) if reference else {}
                return {
                    name: known[name] if name in known else self._example(one, path)
                    for name, one in properties.items()
                }
            case "array":
                # A list's path is the plural of its resources' paths.
                rows = [one for one in self.resources if one.rpartition("/")[0] + "s" == path]
                return [self._example(schema["items"], row) for row in rows]
            case "integer" | "number":
                return schema.get("minimum", 1)
            case "boolean":
                return True
        return schema.get("enum", ["text"])[0]

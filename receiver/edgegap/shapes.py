"""Checks that a successful response is the requested object: Edgegap's documented required fields.

A proxy, a login page or another server may also return 200 with a JSON object: `{}`, or a message.
If such an object were read as a version, a channel would seem to have no variables, and the next
PATCH would erase them.
"""

from collections.abc import Callable, Mapping
from typing import Any

Shape = Callable[[Mapping[str, Any]], str]
"""Returns why a JSON object is not the requested object; empty if it is."""

IMAGE_FIELDS = ("docker_repository", "docker_image", "docker_tag")


def any_object(body: Mapping[str, Any]) -> str:  # noqa: ARG001 - the shape of answers that are only confirmed
    """Accept every JSON object."""
    return ""


def version_named(name: str) -> Shape:
    """Expect the version of this name. Which optional fields it has is decided elsewhere."""

    def fault(body: Mapping[str, Any]) -> str:
        if not _is_named(body, name):
            return f"the answer is not the version {name}"
        lacking = [field for field in IMAGE_FIELDS if not isinstance(body.get(field), str)]
        return f"the answer is a version without {', '.join(lacking)}" if lacking else ""

    return fault


def app_named(name: str) -> Shape:
    """Expect the app of this name."""
    return lambda body: "" if _is_named(body, name) else f"the answer is not the app {name}"


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


def is_row(row: Any, id_field: str = "name") -> bool:
    """Return whether a row of a list can be identified."""
    return isinstance(row, dict) and isinstance(row.get(id_field), str)


def count_of(value: Any) -> int | None:
    """Return a count, however it is written: numbers may come as text or as 2.0."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value[:18])
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if type(value) is int else None


def _is_named(body: Mapping[str, Any], name: str) -> bool:
    """Compare without case: whether Edgegap's names depend on it is not documented."""
    found = body.get("name")
    return isinstance(found, str) and found.casefold() == name.casefold()

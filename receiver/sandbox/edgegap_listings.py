"""Edgegap's paging of lists and its filters for deployments."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.exceptions import HTTPException

Row = TypeVar("Row")

_FILTERED = frozenset({"application", "version", "tags", "request_id", "status"})
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda value, operand: value == operand,
    "neq": lambda value, operand: value != operand,
    "in": lambda value, operand: value in operand,
    "nin": lambda value, operand: value not in operand,
}


@dataclass(frozen=True, slots=True)
class ListQuirks:
    """Ways in which a list may be unexpected.

    - `ignores_page`: the first page is returned regardless of `page` and `limit`
    - `always_next`: `has_next` is true on every page
    - `first_number`: the number of the first page; the document allows 0
    - `total_count`: the value of that field, if it is wrong
    - `left_out`: the missing keys, which may include that of the rows
    - `nulls`: the keys that are null
    """

    ignores_page: bool = False
    always_next: bool = False
    first_number: int = 1
    total_count: int | None = None
    left_out: Sequence[str] = ()
    nulls: Sequence[str] = ()


def page_of(
    key: str,
    rows: Sequence[dict[str, Any]],
    query: Mapping[str, str],
    *,
    size: int,
    quirks: ListQuirks,
) -> dict[str, Any]:
    """Return one page of a list. `total_count` counts the rows of all pages."""
    if quirks.ignores_page:
        query = {}
    number = _at_least_one("page", query.get("page", "1"))
    limit = _at_least_one("limit", query.get("limit", str(size)))
    pages = max(1, -(-len(rows) // limit))
    has_next = number < pages or quirks.always_next
    page = {
        key: list(rows[(number - 1) * limit : number * limit]),
        "total_count": len(rows) if quirks.total_count is None else quirks.total_count,
        "pagination": {
            "number": number - 1 + quirks.first_number,
            "next_page_number": number + quirks.first_number if has_next else None,
            "previous_page_number": number - 2 + quirks.first_number if number > 1 else None,
            "paginator": {"num_pages": pages},
            "has_next": has_next,
            "has_previous": number > 1,
        },
    }
    page |= dict.fromkeys(quirks.nulls)
    return {name: value for name, value in page.items() if name not in quirks.left_out}


def filtered(
    rows: Sequence[tuple[Row, Mapping[str, Any]]], query: str | None, ignored: frozenset[str]
) -> tuple[list[Row], list[str]]:
    """Return the rows whose fields match the `query` filters, and messages about the query.

    A field of several values, such as the tags, matches if one of them does.
    """
    filters = _filters(query)
    messages = [
        f"The field {field} is not supported" for field, _, _ in filters if field in ignored
    ]
    used = [one for one in filters if one[0] not in ignored]
    found = [
        row
        for row, fields in rows
        if all(_matches(fields[field], operator, value) for field, operator, value in used)
    ]
    return found, messages


def _matches(value: Any, operator: str, operand: Any) -> bool:
    match = _OPERATORS[operator]
    if not isinstance(value, tuple):
        return match(value, operand)
    check = all if operator in {"neq", "nin"} else any
    return check(match(one, operand) for one in value)


def _filters(query: str | None) -> list[tuple[str, str, Any]]:
    if query is None:
        return []
    try:
        body = json.loads(query)
        filters = [(item["field"], item["operator"], item["value"]) for item in body["filters"]]
    except (ValueError, TypeError, KeyError) as error:
        raise HTTPException(400, "query: must be JSON text with a list of filters") from error
    fields = [field for field, _, _ in filters]
    if len(fields) != len(set(fields)):
        raise HTTPException(400, "query: at most one filter per field")
    for field, operator, value in filters:
        # Edgegap has more fields; accepting them without effect would mislead.
        if field not in _FILTERED:
            raise HTTPException(400, f"query: no filter for the field {field} in the sandbox")
        if operator not in _OPERATORS or (operator in {"in", "nin"}) != isinstance(value, list):
            raise HTTPException(400, f"query: cannot {operator} {value!r}")
    return filters


def _at_least_one(name: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise HTTPException(400, f"{name}: must be a number of at least 1")
    return int(text)

"""Edgegap's paging of lists and its filters for deployments."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException

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


def deployment_rows(running: Sequence[tuple[str, str]], query: str | None) -> list[dict[str, Any]]:
    """Return the running deployments (app, version) that match the `query` filters.

    As at Edgegap, a row does not contain its app and version, so clients must filter.
    """
    filters = _filters(query)
    return [
        {
            "request_id": f"{number:012x}",
            "fqdn": f"{number:012x}.pr.edgegap.net",
            "ready": True,
            "start_time": "2026-04-22 12:00:46.444265",
            "public_ip": "192.0.2.1",
            "ports": {},
            "tags": [],
        }
        for number, (app, version) in enumerate(running, start=1)
        if all(
            _OPERATORS[operator]({"application": app, "version": version}[field], value)
            for field, operator, value in filters
        )
    ]


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
        if field not in {"application", "version"}:
            raise HTTPException(400, f"query: no filter for the field {field} in the sandbox")
        if operator not in _OPERATORS or (operator in {"in", "nin"}) != isinstance(value, list):
            raise HTTPException(400, f"query: cannot {operator} {value!r}")
    return filters


def _at_least_one(name: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise HTTPException(400, f"{name}: must be a number of at least 1")
    return int(text)

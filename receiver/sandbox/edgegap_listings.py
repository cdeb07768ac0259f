"""How Edgegap pages its lists and filters its deployments."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda held, asked: held == asked,
    "neq": lambda held, asked: held != asked,
    "in": lambda held, asked: held in asked,
    "nin": lambda held, asked: held not in asked,
}


@dataclass(frozen=True, slots=True)
class ListQuirks:
    """Ways in which a list may be other than one expects.

    - `ignores_page`: the first page comes whatever `page` and `limit` ask for
    - `always_next`: `has_next` is true on every page
    - `first_number`: the number of the first page; the document allows 0
    - `total_count`: what it says, whatever is true
    - `left_out`: the keys that are missing, among them the rows' own
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
    """Answer one page of a list. `total_count` counts the rows of all pages."""
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
    """List the running deployments (app, version) that the `query` filters leave.

    As at Edgegap, a row does not tell its app and version: only the filter does.
    """
    filters = _filters(query)
    return [
        {
            "request_id": f"{place:012x}",
            "fqdn": f"{place:012x}.pr.edgegap.net",
            "ready": True,
            "start_time": "2026-04-22 12:00:46.444265",
            "public_ip": "192.0.2.1",
            "ports": {},
            "tags": [],
        }
        for place, (app, version) in enumerate(running, start=1)
        if all(
            _OPERATORS[operator]({"application": app, "version": version}[field], value)
            for field, operator, value in filters
        )
    ]


def _filters(query: str | None) -> list[tuple[str, str, Any]]:
    if query is None:
        return []
    try:
        asked = json.loads(query)
        filters = [(one["field"], one["operator"], one["value"]) for one in asked["filters"]]
    except (ValueError, TypeError, KeyError) as error:
        raise HTTPException(400, "query: must be JSON text with a list of filters") from error
    fields = [field for field, _, _ in filters]
    if len(fields) != len(set(fields)):
        raise HTTPException(400, "query: at most one filter a field")
    for field, operator, value in filters:
        # Edgegap knows more fields; a stand-in that took them and did nothing would mislead.
        if field not in {"application", "version"}:
            raise HTTPException(400, f"query: no filter for the field {field} in the sandbox")
        if operator not in _OPERATORS or (operator in {"in", "nin"}) != isinstance(value, list):
            raise HTTPException(400, f"query: cannot {operator} {value!r}")
    return filters


def _at_least_one(name: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise HTTPException(400, f"{name}: must be a number from 1 on")
    return int(text)

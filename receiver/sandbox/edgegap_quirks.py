"""Undocumented behavior of Edgegap: how it stores and returns versions, and pages its lists."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar, get_args

from starlette.exceptions import HTTPException

PLACEHOLDER = "This value is set and encrypted"

TokenShown = Literal["clear", "placeholder", "absent"]
Numbers = Literal["integer", "text", "float"]


@dataclass(slots=True)
class Quirks:
    """How an account's versions are stored and returned; may be changed at any time.

    - `hidden_value`: replaces the value of a hidden variable; None omits the key
    - `reveals_hidden`: values of hidden variables are shown in clear
    - `tokens`: how `private_token` is shown, by the version's name; `*` is for all others
    - `protocols`: how a protocol is shown, by its documented spelling
    - `also_accepted`: protocols that are accepted although they are not documented
    - `numbers`: how whole numbers are shown
    - `stores`: fields that are stored with these values, regardless of the request
    - `leaves_out`: optional fields that no response shows
    - `sanitizes_keys`: characters of a variable's key that a shell does not allow become `_`
    """

    hidden_value: str | None = ""
    reveals_hidden: bool = False
    tokens: dict[str, TokenShown] = field(default_factory=dict)
    protocols: dict[str, str] = field(default_factory=lambda: {"WS": "Websocket"})
    also_accepted: frozenset[str] = frozenset()
    numbers: Numbers = "integer"
    stores: dict[str, Any] = field(default_factory=dict)
    leaves_out: frozenset[str] = frozenset()
    sanitizes_keys: bool = False

    def __post_init__(self) -> None:
        """Refuse unknown values."""
        unknown = {*self.tokens.values()} - {*get_args(TokenShown)}
        if unknown or self.numbers not in get_args(Numbers):
            raise ValueError(f"no such quirk: {', '.join(unknown) or self.numbers}")
        self.also_accepted = frozenset(self.also_accepted)
        self.leaves_out = frozenset(self.leaves_out)

    def changed(self, changes: Mapping[str, Any]) -> "Quirks":
        """Return these quirks with some of them changed."""
        return replace(self, **changes)

    def stored(self, version: Mapping[str, Any]) -> dict[str, Any]:
        """Return a requested version as it is stored."""
        kept = {**version, **self.stores}
        if self.sanitizes_keys:
            kept["envs"] = [{**env, "key": _sanitized(env["key"])} for env in kept["envs"]]
        return kept

    def shown(self, version: Mapping[str, Any]) -> dict[str, Any]:
        """Return a version as a response shows it: other spellings, secrets perhaps hidden."""
        response = dict(version)
        token = self.tokens.get(str(version.get("name")), self.tokens.get("*", "clear"))
        if token == "placeholder" and version.get("private_token"):  # noqa: S105 - a word
            response["private_token"] = PLACEHOLDER
        elif token == "absent":  # noqa: S105 - a word
            response.pop("private_token", None)
        # A test may have stored null, which is returned as it is.
        if isinstance(version.get("ports"), list | tuple):
            response["ports"] = [self._port(port) for port in version["ports"]]
        if isinstance(version.get("envs"), list | tuple):
            response["envs"] = [self._env(env) for env in version["envs"]]
        shown = {name: self._value(value) for name, value in response.items()}
        return {name: value for name, value in shown.items() if name not in self.leaves_out}

    def _port(self, port: Any) -> Any:
        if not isinstance(port, dict):
            return port
        protocol = port.get("protocol")
        shown = {**port, "protocol": self.protocols.get(str(protocol), protocol)}
        return {name: self._value(value) for name, value in shown.items()}

    def _env(self, env: Any) -> Any:
        if self.reveals_hidden or not isinstance(env, dict) or not env.get("is_hidden"):
            return env
        rest = {key: value for key, value in env.items() if key != "value"}
        return rest if self.hidden_value is None else {**rest, "value": self.hidden_value}

    def _value(self, value: Any) -> Any:
        if type(value) is not int or self.numbers == "integer":
            return value
        return str(value) if self.numbers == "text" else float(value)


def _sanitized(key: str) -> str:
    return re.sub(r"\W", "_", key, flags=re.ASCII)


# Edgegap's paging of lists and its filters for deployments.

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
    messages = [f"The field {name} is not supported" for name, _, _ in filters if name in ignored]
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
    for name, operator, value in filters:
        # Edgegap has more fields; accepting them without effect would mislead.
        if name not in _FILTERED:
            raise HTTPException(400, f"query: no filter for the field {name} in the sandbox")
        if operator not in _OPERATORS or (operator in {"in", "nin"}) != isinstance(value, list):
            raise HTTPException(400, f"query: cannot {operator} {value!r}")
    return filters


def _at_least_one(name: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise HTTPException(400, f"{name}: must be a number of at least 1")
    return int(text)

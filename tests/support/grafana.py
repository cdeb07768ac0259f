"""A dashboard compared with Grafana's own types, as Grafana Labs publishes them for Python."""

import json
from collections.abc import Iterator
from enum import Enum
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest


def faults_of(dashboard: dict[str, Any]) -> list[str]:
    """Return each field that Grafana does not know, and each value that is not of its type."""
    package = "grafana_foundation_sdk"
    why = f"{package} is not installed: it is in requirements-dev.txt"
    models = pytest.importorskip(f"{package}.models.dashboard", reason=why)
    pytest.importorskip(f"{package}.cog.plugins").register_default_plugins()
    encoder = pytest.importorskip(f"{package}.cog.encoder").JSONEncoder
    read = models.Dashboard.from_json(dashboard)
    known = json.loads(json.dumps(read, cls=encoder))
    return [*_unknown(dashboard, known, "dashboard"), *_wrong(read, "dashboard")]


def _unknown(given: object, known: object, path: str) -> Iterator[str]:
    """Yield what was given and is lost: the types read only the fields that they have."""
    if isinstance(given, dict):
        for name, value in given.items():
            if not isinstance(known, dict) or name not in known:
                yield f"{path}.{name}"
            else:
                yield from _unknown(value, known[name], f"{path}.{name}")
    elif isinstance(given, list):
        for number, (one, other) in enumerate(zip(given, known, strict=True)):  # type: ignore[call-overload]
            yield from _unknown(one, other, f"{path}[{number}]")


def _wrong(read: object, path: str) -> Iterator[str]:
    hints = get_type_hints(type(read))
    for name, value in vars(read).items():
        if value is not None:
            yield from _wrong_value(value, hints[name], f"{path}.{name}")


def _wrong_value(value: object, hint: Any, path: str) -> Iterator[str]:
    kinds = get_args(hint) if get_origin(hint) in {Union, UnionType} else (hint,)
    fitting = [kind for kind in kinds if _fits(value, kind)]
    if not fitting:
        yield f"{path} = {value!r}"
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield from _wrong_value(one, get_args(fitting[0])[0], f"{path}[{number}]")
    elif hasattr(value, "to_json"):
        yield from _wrong(value, path)


def _fits(value: object, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if isinstance(value, bool):
        return kind in {bool, object}
    if kind is float:
        return isinstance(value, int | float)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return value in {one.value for one in kind}
    kind = get_origin(kind) or kind
    return not isinstance(kind, type) or isinstance(value, kind)

"""Read the tables of a TOML file as a model declares them; report every error, with a fix.

A wrong value is replaced by its default, so that reading continues.
"""

from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import NODEFAULT, inspect

from receiver.config.model import Table
from receiver.config.text import strip
from receiver.config.values import did_you_mean
from receiver.errors import ConfigIssue

INVALID_VALUE = "?"  # for a required text that could not be read; no real name contains it
T = TypeVar("T", bound=Table)


class Key(NamedTuple):
    """One key of a table, and the model's attribute for it.

    `inner` is the table that it holds, or of which it holds a list.
    """

    attribute: str
    declared: Any
    default: Any
    kind: inspect.Type
    required: bool
    inner: type[Table] | None
    says: Mapping[str, Any]

    @property
    def is_list(self) -> bool:
        """Whether the key holds a list."""
        return isinstance(self.kind, inspect.VarTupleType)


@lru_cache(maxsize=32)
def keys_of(model: type[Table]) -> Mapping[str, Key]:
    """Return the keys of a table, in the order of their declaration."""
    shape = inspect.type_info(model)
    assert isinstance(shape, inspect.StructType)  # noqa: S101 - for the type
    declared = msgspec.structs.fields(model)
    return {
        field.encode_name: _key(info, field.type)
        for info, field in zip(declared, shape.fields, strict=True)
    }


def _key(info: msgspec.structs.FieldInfo, kind: inspect.Type) -> Key:
    default = info.default if info.default_factory is NODEFAULT else info.default_factory()
    if isinstance(kind, inspect.Metadata) and kind.extra is not None:
        return Key(info.name, info.type, default, kind.type, info.required, None, kind.extra)
    one = kind.item_type if isinstance(kind, inspect.VarTupleType) else kind
    inner = one.cls if isinstance(one, inspect.StructType) and issubclass(one.cls, Table) else None
    return Key(info.name, info.type, default, kind, info.required, inner, {})


def read_table(model: type[T], table: Mapping[str, Any], faults: list[ConfigIssue]) -> T:
    """Read a whole file; its errors go to `faults`."""
    found = _Reader(model, faults).read(table)
    assert isinstance(found, model)  # noqa: S101 - for the type
    return found


def line_of(above: str, name: str, key: Key) -> str:
    """Return the line that precedes a table in the file; `above` is that of the table around it."""
    path = f"{above.strip('[]')}.{name}".lstrip(".")
    return f"[[{path}]]" if key.is_list else f"[{path}]"


def titled(kind: str, number: int, name: object) -> str:
    """Return how an error names a table of a list."""
    return f"{kind} {number}" + (f" ({name})" if isinstance(name, str) else "")


class _Reader:
    """Reads one table. `line` is the line above it in the file, `prefix` precedes its keys."""

    def __init__(
        self,
        model: type[Table],
        faults: list[ConfigIssue],
        above: "_Reader | None" = None,
        line: str = "",
        prefix: str = "",
    ) -> None:
        self._model, self.keys = model, keys_of(model)
        self._faults, self.above, self.line, self._prefix = faults, above, line, prefix

    def read(self, table: Mapping[str, Any]) -> Table:
        for key in table:
            if key not in self.keys:
                self._fault(key, "there is no such key", self._place_of(key))
        return self._model(
            **{
                key.attribute: value
                for name, key in self.keys.items()
                for value in self._values(name, key, table)
            }
        )

    def _fault(self, key: str, what: str, fix: str) -> None:
        self._faults.append(ConfigIssue(f"{self._prefix}{key}", what, fix))

    def _values(self, name: str, key: Key, table: Mapping[str, Any]) -> list[Any]:
        """Return the value in a list; an empty list stands for the default."""
        value = table.get(name)
        if name in table and not (key.required and value is None):
            found = self._tables(name, key, value) if key.inner else self._value(name, key, value)
        else:
            found = []
            if key.required:
                self._fault(name, "it is missing", _fix_of(name, key))
        return found or ([INVALID_VALUE] if key.required else [])

    def _tables(self, name: str, key: Key, value: object) -> list[Any]:
        assert key.inner is not None  # noqa: S101 - for the type
        line = line_of(self.line, name, key)
        if not key.is_list:
            if isinstance(value, dict):
                return [self._inner(key.inner, line, f"{name}.").read(value)]
            self._fault(name, "it is not a table", f"Write it under a line {line}")
        elif isinstance(value, list):
            tables = [table if isinstance(table, dict) else {} for table in value]
            titles = [titled(name, n, table.get("name")) for n, table in enumerate(tables, start=1)]
            readers = [self._inner(key.inner, line, f"{title}, ") for title in titles]
            return [tuple(map(_Reader.read, readers, tables))]
        else:
            self._fault(name, "it is not a list of tables", f"Write each under a line {line}")
        return []

    def _inner(self, model: type[Table], line: str, prefix: str) -> "_Reader":
        return _Reader(model, self._faults, self, line, self._prefix + prefix)

    def _value(self, name: str, key: Key, value: object) -> list[Any]:
        if isinstance(key.kind, inspect.StrType) and isinstance(value, str):
            value = strip(value)
        check = key.says.get("check")
        what = None if check is None else check(value)
        if what is None and (not isinstance(value, str) or (value and value.isprintable())):
            with suppress(msgspec.ValidationError):  # its message may have a secret
                return [msgspec.convert(value, key.declared)]
        self._fault(name, what or _what_of(key).format(value), _fix_of(name, key))
        return []

    def _place_of(self, key: str) -> str:
        """Return the fix for an unknown key: the table it belongs to, or the right name.

        In TOML a key belongs to the last [table] above it, which is easily overlooked.
        """
        below, above = self, self.above
        while above is not None:
            if key in above.keys:
                where = f"the line {below.line}"
                if above.above is None:
                    is_list = below.line.startswith("[[")
                    where = f"the first {below.line}" if is_list else "the first line with [ ]"
                return f"Write it above {where}: a key belongs to the table above it"
            below, above = above, above.above
        lines = [
            line_of(self.line, name, one)
            for name, one in self.keys.items()
            if one.inner is not None and key in keys_of(one.inner)
        ]
        near = did_you_mean(key, self.keys)
        if lines and not (self.above is None and near is not None):
            return f"Write it under a line {' or '.join(lines)}"
        if near is not None:
            return f"Did you mean {near}?"
        return f"The keys are {', '.join(self.keys)}"


def _what_of(key: Key) -> str:
    if key.says.get("what") is not None:
        return str(key.says["what"])
    match key.kind:
        case inspect.BoolType():
            return "it is neither true nor false"
        case inspect.EnumType():
            return "{!r} is not one of its values"
        case inspect.VarTupleType():
            return "it is not a list of texts"
    return "it is not text"


def _fix_of(name: str, key: Key) -> str:
    if key.says.get("fix") is not None:
        return str(key.says["fix"])
    match key.kind:
        case inspect.BoolType():
            return f"Write {name} = true"
        case inspect.EnumType():
            return f"Write {name} = " + " or ".join(f'"{member}"' for member in key.kind.cls)
        case inspect.VarTupleType():
            return f'Write {name} = ["…"]'
    return f'Write {name} = "…"'

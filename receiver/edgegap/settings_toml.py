"""The settings of a version as a `[rule.settings]` table. Pure.

Values of variables are not known here: each is read from a variable of the receiver, as
`value_from`. What the configuration would not accept is written as a comment.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from receiver.edgegap.fields import field_fault, resource_faults
from receiver.edgegap.sent_settings import SentSettings, Variable

PREFIX = "GAME_"
_NO_NAME = re.compile(r"[^A-Z0-9_]")


def settings_toml(settings: SentSettings, title: str) -> str:
    """Return the table; `title` is the comment above it."""
    variables = tuple({one.key: one for one in settings.variables if one.key}.values())
    names = variable_names([one.key for one in variables])
    lines = [f"# {_printable(title)}"]
    if settings.pull_profiles:
        listed = _list([_text(name) for name in settings.pull_profiles])
        lines.append(f"# In the table [[rule]]: pull_profiles = {listed}")
    if names:
        lines.append(f"# Set for the receiver: {', '.join(names.values())}")
    lines.append("[rule.settings]")
    resources = "; ".join(resource_faults(settings.settings))
    for name, value in settings.settings.items():
        if (name, value) == ("is_active", True):
            continue
        fault = _fault(name, value) or (resources if name.startswith("req_") else "")
        lines.append(f"# {name}: {_printable(fault)}" if fault else f"{name} = {_value(value)}")
    if settings.ports:
        lines += _table("ports", [dict(port) for port in settings.ports], [])
    if variables:
        envs = [{"key": one.key, "value": "?"} for one in variables]
        lines += _table("envs", envs, [_variable(one, names[one.key]) for one in variables])
    return "\n".join(lines) + "\n"


def variable_names(keys: Sequence[str]) -> dict[str, str]:
    """Return a name for the receiver's variable that holds the value of each of the game's.

    They begin with GAME_: some names, such as PORT and DATABASE_URL, are the receiver's own.
    """
    names: dict[str, str] = {}
    for key in keys:
        plain = _NO_NAME.sub("_", key.upper())
        name = first = plain if plain.startswith(PREFIX) else PREFIX + plain
        number = 1
        while name in names.values():
            number += 1
            name = f"{first}_{number}"
        names[key] = name
    return names


def _fault(name: str, value: Any) -> str | None:
    if isinstance(value, str) and not (value == value.strip() and value.isprintable()):
        return "its text has characters that the configuration does not accept"
    return field_fault(name, value)


def _table(name: str, entries: list[dict[str, Any]], shown: list[str]) -> list[str]:
    """Return the lines of a list of tables, or a comment if Edgegap would not accept it."""
    fault = field_fault(name, entries)
    if fault is not None:
        return [f"# {name}: {_printable(fault)}"]
    rows = shown or [_inline(entry) for entry in entries]
    return [f"{name} = [", *(f"  {row}," for row in rows), "]"]


def _variable(variable: Variable, name: str) -> str:
    hidden = {"is_hidden": True} if variable.is_hidden else {}
    return _inline({"key": variable.key, "value_from": name, **hidden})


def _inline(entry: Mapping[str, Any]) -> str:
    return "{ " + ", ".join(f"{key} = {_value(value)}" for key, value in entry.items()) + " }"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else _text(str(value))


def _text(text: str) -> str:
    """Return a text as TOML writes it, which is as JSON does, but for one character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def _list(texts: Sequence[str]) -> str:
    return f"[{', '.join(texts)}]"


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)

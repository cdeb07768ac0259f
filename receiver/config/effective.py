"""The configuration in force as text: each variable, and the file with all defaults, as TOML.

A comment says where a value is from. No secret is in it.
"""

import json
from collections.abc import Iterator, Mapping

import msgspec
from msgspec import UNSET
from msgspec.structs import replace
from sqlalchemy.engine import URL

from receiver.config.environment import VARIABLES, Variable, read_variable
from receiver.config.load import Loaded
from receiver.config.model import RuleTable, Table
from receiver.config.settings import Settings
from receiver.config.tables import keys_of, line_of
from receiver.config.variables import Variables
from receiver.secret import MASK

OF_A_DEFAULT = "   # default"


def effective(loaded: Loaded, environ: Variables) -> str:
    """Return the whole configuration; the part after the variables is a valid `receiver.toml`."""
    settings, file = loaded
    lines = [_variable_line(variable, settings, environ) for variable in VARIABLES]
    named = zip(file.rule, settings.rules, strict=True)
    shown = replace(
        file,
        public_url=UNSET if settings.public_url is None else settings.public_url,
        rule=tuple(_shown(table, rule.name) for table, rule in named),
    )
    return "\n".join([*lines, "", *_table_lines(shown, "")])


def _variable_line(variable: Variable, settings: Settings, environ: Variables) -> str:
    value = getattr(settings, variable.setting, None)
    text = read_variable(environ, variable.name) or variable.default
    if isinstance(value, URL):
        text = value.render_as_string(hide_password=True)
    elif isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, int | float):
        text = f"{value:g}"
    elif text and variable.secret:
        text = MASK
    elif isinstance(value, str):
        text = value
    origin = environ.origin(variable.name) or ("default" if text else "")
    shown = text if text.isprintable() else repr(text)
    return f"# {variable.name}: {shown or 'not set'}" + (f"   ({origin})" if origin else "")


def _shown(table: RuleTable, name: str) -> RuleTable:
    """Return the rule with its name, without the values of its variables."""
    settings, envs = table.settings, getattr(table.settings, "envs", UNSET)
    if envs is not UNSET:
        masked = [replace(env, value=MASK) if isinstance(env.value, str) else env for env in envs]
        settings = replace(settings, envs=tuple(masked))
    return replace(table, name=name, settings=settings)


def _table_lines(table: Table, line: str) -> Iterator[str]:
    keys = keys_of(type(table))
    if line:
        yield line
    for name, key in keys.items():
        value = getattr(table, key.attribute)
        if key.inner is None and value is not UNSET:
            yield f"{name} = {_toml(msgspec.to_builtins(value))}" + (
                OF_A_DEFAULT if value == key.default else ""
            )
    for name, key in keys.items():
        value = getattr(table, key.attribute)
        if key.inner is not None and value is not UNSET:
            for one in value if key.is_list else (value,):
                yield ""
                yield from _table_lines(one, line_of(line, name, key))


def _toml(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, Mapping):
        pairs = (f"{_key(key)} = {_toml(item)}" for key, item in value.items())
        return f"{{ {', '.join(pairs)} }}" if value else "{}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(key: str) -> str:
    return key if key.isidentifier() and key.isascii() else json.dumps(key)

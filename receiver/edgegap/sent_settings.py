"""What a version was sent: stored, compared with another version, written as TOML. Pure.

No value of a variable is kept, hidden or not: `is_hidden` may have been forgotten, so nothing here
could decide which values are secrets. A keyed hash shows whether two values are the same.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from receiver.edgegap.copied_settings import LOGIN, describe_port, read_ports
from receiver.edgegap.fields import (
    SETTINGS,
    as_sent,
    field_fault,
    is_hidden,
    is_masked,
    is_text,
    resource_faults,
    shortened,
)
from receiver.edgegap.plans import image_of
from receiver.edgegap.responses import Body
from receiver.secret import Secret, hash_of, stretched

_ELSEWHERE = frozenset({"ports", "envs", "verify_image"})  # the last applies to one call only
Hashing = Callable[[str, str], str]
_REGISTRY_LOGIN = "registry login"
_NONE = "none"
PREFIX = "GAME_"
_NO_NAME = re.compile(r"[^A-Z0-9_]")


class Variable(msgspec.Struct, frozen=True, omit_defaults=True):
    """A variable; `hash` is of its value, empty if the value is not known."""

    key: str
    is_hidden: bool = False
    hash: str = ""


class SentSettings(msgspec.Struct, frozen=True, omit_defaults=True):
    """The settings of a version, apart from secrets.

    `login` is the hash of the registry login, and `size` that of the image in bytes. `hashed_by`
    identifies the key of all hashes: those of another key cannot be compared.
    """

    image: str
    settings: dict[str, Any] = {}
    ports: tuple[dict[str, Any], ...] = ()
    variables: tuple[Variable, ...] = ()
    login: str = ""
    pull_profiles: tuple[str, ...] = ()
    size: int | None = None
    hashed_by: str = ""

    @property
    def tag(self) -> str:
        """The tag of the image."""
        return self.image.rpartition(":")[2]


def sent_settings(
    body: Body,
    keys: Sequence[Secret],
    *,
    before: Body | None = None,
    pull_profiles: Sequence[str] = (),
    size: int | None = None,
) -> SentSettings:
    """Return what a request sent, and the rest as `before` has it.

    `before` is the version as Edgegap shows it: before a PATCH, or after the request.
    """
    hashing = _hashing(keys)
    sent = _read(body, hashing, hidden_too=True)
    if before is not None:
        had = _read(before, hashing, hidden_too=False)
        sent = replace(
            sent,
            settings=had.settings | sent.settings,
            ports=sent.ports if "ports" in body else had.ports,
            variables=sent.variables if "envs" in body else had.variables,
            login=sent.login or had.login,
        )
    return replace(sent, pull_profiles=tuple(pull_profiles), size=size)


def shown_settings(version: Body, keys: Sequence[Secret]) -> SentSettings:
    """Return the settings of a version that Edgegap shows; hidden values are not known."""
    return _read(version, _hashing(keys), hidden_too=False)


def encode(settings: SentSettings) -> str:
    """Return the settings as JSON."""
    return msgspec.json.encode(settings).decode()


def decode(text: str) -> SentSettings | None:
    """Read stored settings; None if they are not readable, as those of a newer program may be."""
    try:
        return msgspec.json.decode(text, type=SentSettings)
    except msgspec.DecodeError:
        return None


def _hashing(keys: Sequence[Secret]) -> Hashing:
    """Return what hashes a value with its name, by the newest key.

    A value may be easy to guess, and must not help to guess the key: so that key is stretched.
    """
    slow = [stretched(keys[-1])] if keys else []
    return lambda name, value: hash_of(json.dumps([name, value]), slow)


def _read(version: Body, hashing: Hashing, *, hidden_too: bool) -> SentSettings:
    login, envs = [version.get(name) for name in LOGIN], version.get("envs")
    known = all(is_text(part) and part and not is_masked(part) for part in login)
    entries = envs if isinstance(envs, list) else []
    return SentSettings(
        image=image if is_text(image := image_of(version)) else "?",
        settings={
            name: value
            for name in SETTINGS
            if name not in _ELSEWHERE and _is_kept(value := as_sent(name, version.get(name)))
        },
        ports=read_ports(version.get("ports")).ports,
        variables=tuple(
            _variable(env, hashing, hidden_too=hidden_too)
            for env in entries
            if isinstance(env, Mapping) and is_text(env.get("key"))
        ),
        login=hashing("", json.dumps(login)) if known else "",
        hashed_by=hashing("", ""),
    )


def _variable(env: Mapping[str, Any], hashing: Hashing, *, hidden_too: bool) -> Variable:
    key, hidden, value = str(env["key"]), is_hidden(env), env.get("value")
    known = value is not None and (hidden_too or not hidden)
    return Variable(key, hidden, hashing(key, str(value)) if known else "")


def _is_kept(value: Any) -> bool:
    if isinstance(value, str):
        return is_text(value) and value != "" and not is_masked(value)
    return isinstance(value, bool | int)


class Difference(msgspec.Struct, frozen=True):
    """One setting, port or variable that differs between two versions, `a` and `b`."""

    name: Annotated[str, Meta(description="What differs.", examples=["max_duration", "port game"])]
    a: Annotated[str, Meta(description="What the first version has.", examples=["60"])]
    b: Annotated[str, Meta(description="What the second version has.", examples=["30"])]


class Seen(msgspec.Struct, frozen=True):
    """The settings of a version: those it was `sent`, or those that Edgegap shows."""

    settings: SentSettings
    sent: bool

    @property
    def login(self) -> str | None:
        """The hash of the login, empty if there is none, None if it is not known."""
        return self.settings.login if self.sent else self.settings.login or None


def differences(a: Seen, b: Seen) -> tuple[tuple[Difference, ...], tuple[str, ...]]:
    """Return what differs, and the names of what cannot be compared."""
    found = [*_compared("image", a.settings.image, b.settings.image)]
    for name, one, other in _paired(a.settings.settings, b.settings.settings):
        found += _compared(name, _shown(one), _shown(other))
    for name, one, other in _paired(_ports(a.settings), _ports(b.settings)):
        found += _compared(f"port {name}", _port_text(one), _port_text(other))
    unknown: list[str] = []
    same_key = a.settings.hashed_by == b.settings.hashed_by != ""
    for name, one, other in _paired(_variables(a.settings), _variables(b.settings)):
        found += _compared(f"variable {name}", _kind(one), _kind(other))
        if one is None or other is None or one.is_hidden != other.is_hidden:
            continue
        if not (one.hash and other.hash and same_key):
            unknown.append(f"variable {name}")
        elif one.hash != other.hash:
            found.append(Difference(f"variable {name}", "a value", "another value"))
    logins = a.login, b.login
    if None in logins or (all(logins) and not same_key):
        unknown += [_REGISTRY_LOGIN] if any(logins) else []
    elif logins[0] != logins[1]:
        words = ["a login" if login else _NONE for login in logins]
        found.append(
            Difference(_REGISTRY_LOGIN, words[0], "another login" if all(logins) else words[1])
        )
    if a.sent and b.sent:
        profiles = (", ".join(one.settings.pull_profiles) or _NONE for one in (a, b))
        found += _compared("pull profiles", *profiles)
    elif a.settings.pull_profiles or b.settings.pull_profiles:
        unknown.append("pull profiles")
    return tuple(found), tuple(unknown)


def changes(
    patch: Body,
    current: Body,
    keys: Sequence[Secret],
    *,
    known: SentSettings | None,
    profiles: Sequence[str],
) -> tuple[Difference, ...]:
    """Return what a PATCH changes in a version as Edgegap shows it, as far as that is known.

    `known` is what the version was sent last, for what Edgegap does not show: hidden values, the
    registry login and the pull profiles, of which a move only adds its rule's `profiles`.
    """
    had = shown_settings(current, keys)
    if known is not None and known.hashed_by == had.hashed_by:
        hashes = {one.key: one.hash for one in known.variables if one.is_hidden}
        variables = tuple(
            replace(one, hash=one.hash or hashes.get(one.key, "")) for one in had.variables
        )
        had = replace(had, variables=variables, login=had.login or known.login)
    linked = () if known is None else known.pull_profiles
    had = replace(had, pull_profiles=linked)
    then = sent_settings(
        patch, keys, before=current, pull_profiles=tuple(dict.fromkeys((*linked, *profiles)))
    )
    if "envs" not in patch:
        then = replace(then, variables=had.variables)
    then = replace(then, login=then.login or had.login)
    found, _ = differences(Seen(had, known is not None), Seen(then, known is not None))
    return found


def _ports(settings: SentSettings) -> dict[str, Mapping[str, Any]]:
    return {
        shortened(port.get("name") or f"{port.get('port')}/{port.get('protocol')}"): port
        for port in settings.ports
    }


def _port_text(port: Mapping[str, Any] | None) -> str:
    if port is None:
        return _NONE
    checked = "" if port.get("to_check", True) else ", not checked"
    return f"{describe_port(port)}{checked}"


def _variables(settings: SentSettings) -> dict[str, Variable]:
    return {shortened(variable.key): variable for variable in settings.variables}


def _kind(variable: Variable | None) -> str:
    if variable is None:
        return _NONE
    return "hidden" if variable.is_hidden else "not hidden"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "not set" if value is None else shortened(value)


def _compared(name: str, one: str, other: str) -> Iterator[Difference]:
    if one != other:
        yield Difference(name, one, other)


def _paired(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in dict.fromkeys([*one, *other]):
        yield name, one.get(name), other.get(name)


def settings_toml(settings: SentSettings, title: str) -> str:
    """Return the table; `title` is the comment above it."""
    variables = tuple({one.key: one for one in settings.variables if one.key}.values())
    names = variable_names([one.key for one in variables])
    lines = [f"# {_printable(title)}"]
    if settings.pull_profiles:
        listed = ", ".join(map(_quoted, settings.pull_profiles))
        lines.append(f"# In the table [[rule]]: pull_profiles = [{listed}]")
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
        lines += _table("envs", envs, [_variable_line(one, names[one.key]) for one in variables])
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


def _variable_line(variable: Variable, name: str) -> str:
    hidden = {"is_hidden": True} if variable.is_hidden else {}
    return _inline({"key": variable.key, "value_from": name, **hidden})


def _inline(entry: Mapping[str, Any]) -> str:
    return "{ " + ", ".join(f"{key} = {_value(value)}" for key, value in entry.items()) + " }"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else _quoted(str(value))


def _quoted(text: str) -> str:
    """Return a text as TOML writes it, which is as JSON does, but for one character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007F")


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)

"""What differs between two versions, by name: settings, ports, variables. Pure.

No value of a variable is part of it; a keyed hash shows whether two values are the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from receiver.edgegap.copied_settings import describe_port
from receiver.edgegap.fields import brief
from receiver.edgegap.responses import Body
from receiver.edgegap.sent_settings import SentSettings, Variable, sent_settings, shown_settings
from receiver.secret import Secret

LOGIN = "registry login"
_NONE = "none"


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
    found = [
        *_compared("image", a.settings.image, b.settings.image),
        *_settings(a.settings, b.settings),
        *_ports(a.settings, b.settings),
    ]
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
        unknown += [LOGIN] if any(logins) else []
    elif logins[0] != logins[1]:
        words = ["a login" if login else _NONE for login in logins]
        found.append(Difference(LOGIN, words[0], "another login" if all(logins) else words[1]))
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


def _settings(a: SentSettings, b: SentSettings) -> Iterator[Difference]:
    for name, one, other in _paired(a.settings, b.settings):
        yield from _compared(name, _text(one), _text(other))


def _ports(a: SentSettings, b: SentSettings) -> Iterator[Difference]:
    for name, one, other in _paired(_by_name(a), _by_name(b)):
        yield from _compared(f"port {name}", _port_text(one), _port_text(other))


def _by_name(settings: SentSettings) -> dict[str, Mapping[str, Any]]:
    return {
        brief(port.get("name") or f"{port.get('port')}/{port.get('protocol')}"): port
        for port in settings.ports
    }


def _port_text(port: Mapping[str, Any] | None) -> str:
    if port is None:
        return _NONE
    checked = "" if port.get("to_check", True) else ", not checked"
    return f"{describe_port(port)}{checked}"


def _variables(settings: SentSettings) -> dict[str, Variable]:
    return {brief(variable.key): variable for variable in settings.variables}


def _kind(variable: Variable | None) -> str:
    if variable is None:
        return _NONE
    return "hidden" if variable.is_hidden else "not hidden"


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "not set" if value is None else brief(value)


def _compared(name: str, one: str, other: str) -> Iterator[Difference]:
    if one != other:
        yield Difference(name, one, other)


def _paired(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in dict.fromkeys([*one, *other]):
        yield name, one.get(name), other.get(name)

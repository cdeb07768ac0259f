"""The settings that a new version copies. Ports and variables are copied completely or not at all.

Edgegap's API has no call that copies a version. A GET returns more fields than a POST accepts, and
may omit secrets; this module lists all settings that cannot be copied exactly.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from receiver.edgegap.fields import (
    MAX_ENV_VALUE,
    MAX_PORT,
    NEVER_COPIED,
    RESOURCES,
    SETTINGS,
    as_sent,
    field_fault,
    flag,
    holds_something,
    is_hidden,
    is_masked,
    is_text,
    number,
    protocol,
    shortened,
)
from receiver.edgegap.responses import Body
from receiver.images import is_docker_hub

Settings = dict[str, Any]

LOGIN = ("private_username", "private_token")
TOKEN = "private_token"  # noqa: S105 - a field's name
WHITELISTING = "whitelisting_active"
DEFAULT_TIME_TO_DEPLOY = 10  # Edgegap's documented default, though its documented minimum is 15
MAX_NAMED = 20
_NAMES_AND_IMAGE = frozenset({"name", "docker_repository", "docker_image", "docker_tag"})
_READ_ONLY = frozenset({"create_time", "last_updated", "caching_percent", "id"})
_KNOWN = frozenset(SETTINGS) | _NAMES_AND_IMAGE | _READ_ONLY | frozenset(LOGIN)
_PORT_KEYS = ("port", "protocol", "to_check", "tls_upgrade", "name")
_ENV_KEYS = ("key", "value", "is_hidden", "is_secret")


class Ports(msgspec.Struct, frozen=True):
    """The ports of a version that can be sent, and what is wrong with the others.

    `unknown`: keys of ports that are set and that Edgegap's API does not accept.
    """

    ports: tuple[Settings, ...] = ()
    unfit: tuple[str, ...] = ()
    unknown: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Variables:
    """The variables of a version that can be sent, and those that cannot.

    `hidden`: keys whose values Edgegap does not return. `unfit`: sentences without values.
    """

    sent: tuple[Settings, ...] = field(default=(), repr=False)
    hidden: frozenset[str] = frozenset()
    unfit: tuple[str, ...] = ()
    unknown: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Copied:
    """What was read from a version for a new one.

    `unfit`: what cannot be copied although players would notice its loss. `unknown`: fields that
    hold something and that Edgegap's API does not accept. `invalid`: settings that it would refuse.
    """

    settings: Settings = field(default_factory=dict, repr=False)
    login: Settings = field(default_factory=dict, repr=False)
    login_hidden: bool = False
    hidden: frozenset[str] = frozenset()
    whitelisting: bool = False
    unfit: tuple[str, ...] = ()
    invalid: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def copied(source: Body, own: Mapping[str, Any], leave_out: Collection[str]) -> Copied:
    """Read from `source` what a new version takes over, except what `own` settings override.

    `leave_out` names fields whose loss the rule accepts.
    """
    settings: Settings = {}
    unfit: list[str] = []
    invalid: list[str] = []
    unknown: set[str] = set()
    variables = read_variables(source.get("envs"), keys_of(own.get("envs")))
    unfit += variables.unfit
    if source and "envs" not in {*source, *leave_out}:
        unfit.append(missing_field_fault("envs"))
    unknown |= variables.unknown
    if "ports" not in own:
        if source and "ports" not in {*source, *leave_out}:
            unfit.append(missing_field_fault("ports"))
        ports = read_ports(source.get("ports"))
        settings["ports"] = list(ports.ports)
        unfit += ports.unfit
        unknown |= ports.unknown
    for name in SETTINGS:
        if name in NEVER_COPIED or name in own or name in {"ports", "envs"}:
            continue
        value = as_sent(name, source.get(name))
        if value is None or value == "":
            continue
        if is_masked(value):
            unfit.append(f"Edgegap does not return the value of {name}")
        elif (fault := field_fault(name, value)) is None:
            settings[name] = value
        elif name in RESOURCES:
            unfit.append(fault)
        elif (name, value) != ("time_to_deploy", DEFAULT_TIME_TO_DEPLOY):
            invalid.append(fault)
    settings["envs"] = list(variables.sent)
    login, login_hidden = _login(source)
    unknown |= {name for name in source if name not in _KNOWN and holds_something(source[name])}
    whitelisting = WHITELISTING in unknown - set(leave_out)
    return Copied(
        settings={
            name: settings[name] for name in SETTINGS if settings.get(name) not in (None, [])
        },
        login=login,
        login_hidden=login_hidden and TOKEN not in leave_out,
        hidden=variables.hidden,
        whitelisting=whitelisting,
        unfit=tuple(unfit),
        invalid=tuple(invalid),
        unknown=tuple(sorted(unknown - set(leave_out) - {WHITELISTING})),
    )


def read_ports(shown: Any) -> Ports:
    """Return the ports of a version as they are sent, and what is wrong with any of them."""
    if shown is None:
        return Ports()
    if not isinstance(shown, list):
        return Ports(unfit=("ports is not a list",))
    ports: list[Settings] = []
    unfit: list[str] = []
    unknown: set[str] = set()
    for entry in shown:
        if not isinstance(entry, Mapping):
            unfit.append(f"{shortened(entry)} in ports is not a port")
            continue
        port = _port(entry)
        fault = _port_fault(port)
        if fault is None and "name" in port and port["name"] in {one.get("name") for one in ports}:
            fault = "another port has the same name"
        if fault is None:
            ports.append(port)
        else:
            unfit.append(f"the port {describe_port(port)}: {fault}")
        unknown |= _unknown_keys("ports", entry, _PORT_KEYS)
    return Ports(tuple(ports), tuple(unfit), frozenset(unknown))


def describe_port(port: Mapping[str, Any]) -> str:
    """Return a port for a message: `7777/UDP "gameport"`."""
    name = f' "{shortened(port["name"])}"' if "name" in port else ""
    tls = " with tls_upgrade" if port.get("tls_upgrade") is True else ""
    return f"{shortened(port.get('port', '?'))}/{shortened(port.get('protocol', '?'))}{name}{tls}"


def read_variables(shown: Any, given: Collection[str]) -> Variables:
    """Return the variables of a version as they are sent, without those `given` otherwise."""
    if shown is None:
        return Variables()
    if not isinstance(shown, list):
        return Variables(unfit=("envs is not a list",))
    sent: dict[str, Settings] = {}
    hidden: set[str] = set()
    unfit: list[str] = []
    unknown: set[str] = set()
    for place, entry in enumerate(shown, start=1):
        key = entry.get("key") if isinstance(entry, Mapping) else None
        if not is_text(key) or not key or is_masked(key):
            unfit.append(f"variable {place} has no key")
            continue
        if key in given:
            continue
        unknown |= _unknown_keys("envs", entry, _ENV_KEYS)
        if is_hidden(entry):
            hidden.add(key)
            continue
        env = _variable(entry)
        fault = _variable_fault(env)
        if fault is None and sent.get(key, env) != env:
            fault = "is listed twice, with different values"
        if fault is not None:
            unfit.append(f"the variable {shortened(key)} {fault}")
        sent[key] = env
    return Variables(tuple(sent.values()), frozenset(hidden), tuple(unfit), frozenset(unknown))


def hidden_keys(shown: Any) -> frozenset[str]:
    """Return the keys of the variables whose values Edgegap hides."""
    entries = [one for one in shown if isinstance(one, Mapping)] if isinstance(shown, list) else []
    return frozenset(
        str(one.get("key"))
        for one in entries
        if is_masked(one.get("value"))
        or any(flag(one.get(name)) is True for name in ("is_hidden", "is_secret"))
    )


def left_out(name: str) -> str:
    """Return what is wrong if a response lacks a version's ports or variables.

    They are optional in the API document: their absence does not mean that there are none.
    """
    return f"Edgegap's answer leaves out its {name}, so they may be lost"


def missing_field_fault(name: str) -> str:
    """Return what is wrong if a version to copy lacks them, and how to accept it."""
    return f'{left_out(name)} (if it has none, add leave_out = ["{name}"] to the rule)'


def listed(names: Sequence[str]) -> str:
    """Return names that come from outside for a message: short, and not too many."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(shortened(name) for name in names[:MAX_NAMED]) + more


def _port(entry: Mapping[str, Any]) -> Settings:
    name = entry.get("name")
    read = {
        "port": number(entry.get("port")),
        "protocol": protocol(entry.get("protocol")),
        "to_check": flag(entry.get("to_check")),
        "tls_upgrade": flag(entry.get("tls_upgrade")),
        "name": str(name) if type(name) is int else name,
    }
    return {key: value for key, value in read.items() if value is not None and value != ""}


def _port_fault(port: Settings) -> str | None:
    number_, name = port.get("port"), port.get("name", "")
    if number_ is None:
        return "its number is missing"
    if type(number_) is not int:
        return "its number is not a whole number"
    if not 0 <= number_ <= MAX_PORT:
        return f"its number is not between 0 and {MAX_PORT}"
    if not is_text(port.get("protocol")) or is_masked(port["protocol"]):
        return "its protocol is missing"
    if not is_text(name) or is_masked(name):
        return "its name cannot be read"
    if number_ == 0 and not name:
        return "port 0 needs a name"
    for key in ("to_check", "tls_upgrade"):
        if not isinstance(port.get(key, False), bool):
            return f"{key} is neither true nor false"
    return None


def _variable(entry: Mapping[str, Any]) -> Settings:
    value = number(entry["value"]) if isinstance(entry["value"], float) else entry["value"]
    if type(value) in {int, float}:
        value = str(value)
    env = {"key": entry["key"], "value": value}
    return env if entry.get("is_hidden") is None else {**env, "is_hidden": False}


def _variable_fault(env: Settings) -> str | None:
    value = env["value"]
    if not is_text(value):
        return "has a value that is not text"
    if len(value.encode()) > MAX_ENV_VALUE:
        return f"has a value of over {MAX_ENV_VALUE} bytes"
    return None


def _unknown_keys(name: str, entry: Mapping[str, Any], known: Sequence[str]) -> set[str]:
    return {
        f"{name}.{key}"
        for key, value in entry.items()
        if key not in known and key not in _READ_ONLY and holds_something(value)
    }


def _login(source: Body) -> tuple[Settings, bool]:
    """Return the login of an image on Docker Hub; and whether Edgegap has one but hides it."""
    if not is_docker_hub(source.get("docker_repository")):
        return {}, False
    login = {name: source.get(name) for name in LOGIN}
    if not any(holds_something(value) for value in login.values()):
        return {}, False
    readable = all(is_text(value) and value and not is_masked(value) for value in login.values())
    return (login, False) if readable else ({}, True)


def keys_of(envs: Any) -> set[str]:
    """Return the keys of variables, none if there is no list of them."""
    return {str(env["key"]) for env in envs} if isinstance(envs, list) else set()

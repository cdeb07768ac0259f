"""The fields that Edgegap accepts in a version: the documented writable fields and their bounds.

Source: the OpenAPI document of github.com/edgegap/openapi-specification (version 2026.04.24);
the checks it leaves out are those its own tools make before sending.

A GET does not show what a POST sent: protocols are spelled differently, numbers may be text, and a
secret may be replaced by a fixed text. Such values are read back into what a request may hold.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

import msgspec

RESOURCES = frozenset({"req_cpu", "req_memory", "req_video"})
MEMORY_PER_CPU = 2
MAX_PORT = 59_999
MAX_ENV_VALUE = 4096
PROTOCOLS = ("UDP", "TCP", "TCP/UDP", "HTTP", "HTTPS", "WS", "WSS")
TLS_UPGRADABLE = frozenset({"WS", "HTTP"})
PLACEHOLDER = "This value is set and encrypted"
"""The text that Edgegap shows instead of a secret (from its own MCP server's tools)."""
_PLACEHOLDER = re.compile(r"\bvalue is set (?:and|&) encrypted\b", re.IGNORECASE)
NO_VALUE = "the text that Edgegap shows in place of a secret"

_PORT_KEYS = {"port": int, "protocol": str, "to_check": bool, "tls_upgrade": bool, "name": str}
_ENV_KEYS = {"key": str, "value": str, "is_hidden": bool}
OFTEN_NONE = frozenset({"ports", "envs"})  # optional in an answer, whether there are any or not
NEVER_COPIED = frozenset({"is_active", "verify_image"})
_KINDS = {
    bool: "true or false",
    int: "a whole number",
    str: "text",
    list: "a list of tables",
}
_SAYS_SO = r"(?:hidden|masked|redacted|encrypted|secret|set|sensitive|private|protected|filtered)"
# What a masked value looks like, apart from Edgegap's own text: only stars or dots, stars with
# a few characters before or after them, a word or two in brackets or stars, or a word that says so.
_MASKED = re.compile(
    r"[*•●]{3,}|[\w-]{0,12}[*•●]{4,}[\w-]{0,4}"
    r"|(?:(?:this |the )?value is )?(?:set (?:and|&) )?(?:masked|redacted|encrypted)\.?"
    r"|(?:this |the )?value is (?:set|hidden|secret)\.?"
    rf"|(?:[<(\[{{*•●]+|_{{2,}}|%{{2,}})\s?(?:(?:value|is|not|shown|displayed|omitted|{_SAYS_SO})[\s_-]?){{1,4}}"
    r"[>)\]}*•●_%]+|[*•●]{3,} ?\(\w+\)",
    re.IGNORECASE,
)
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,18}(?:\.0{1,18})?", re.ASCII)
_FLAGS: Mapping[str, bool] = {"true": True, "1": True, "false": False, "0": False}
_BETWEEN = re.compile(r"[\s/_+&,|-]+")
_PROTOCOLS: Mapping[str, str] = {
    **{_BETWEEN.sub("", name).casefold(): name for name in PROTOCOLS},
    "udptcp": "TCP/UDP",
    "websocket": "WS",  # a GET shows Websocket for the WS that was sent
    "websocketsecure": "WSS",
    "securewebsocket": "WSS",
}
_MAX_SHOWN = 60


class Field(msgspec.Struct, frozen=True):
    """One field's type, meaning and bounds; `low` and `high` are inclusive, for numbers."""

    kind: type
    meaning: str
    low: int | None = None
    high: int | None = None
    choices: tuple[str, ...] = ()


# The order is the order they are sent in.
SETTINGS: Mapping[str, Field] = {
    "is_active": Field(bool, "deployments of the version are allowed"),
    "req_cpu": Field(int, "vCPU units: 1024 = 1 vCPU", low=100),
    "req_memory": Field(int, "MB, at most twice req_cpu", low=100),
    "req_video": Field(int, "GPU units: 1024 = 1 GPU", low=0),
    "verify_image": Field(bool, "Edgegap checks that it can pull the image"),
    "force_cache": Field(bool, "Edgegap loads the image everywhere beforehand"),
    "time_to_deploy": Field(int, "seconds that the image's download may take", low=15),
    "max_duration": Field(int, "minutes that a deployment may run", low=-1, high=1440),
    "restart_policy": Field(
        str, "when the container starts again", choices=("always", "never", "on_failure")
    ),
    "termination_grace_period_seconds": Field(
        int, "seconds between SIGTERM and SIGKILL", low=5, high=3600
    ),
    "will_deploy_in_mainland_china": Field(bool, "deployments may be in mainland China"),
    "dns_config": Field(str, "the DNS policy of the container"),
    "endpoint_storage": Field(str, "the name of the endpoint storage that is linked"),
    "ports": Field(list, "the ports of the game server"),
    "envs": Field(list, "variables of the game server, added to the copied ones by key"),
}


def is_placeholder(text: str) -> bool:
    """Return whether a text is or contains the text that Edgegap shows instead of a secret."""
    return _PLACEHOLDER.search(" ".join(text.split())) is not None


def field_fault(name: str, value: object) -> str | None:
    """Return the error in one setting's value; None if Edgegap accepts it."""
    field = SETTINGS[name]
    if type(value) is not field.kind:
        return f"{name} is not {_KINDS[field.kind]}"
    if isinstance(value, int):
        return _bounds_fault(name, value, field)
    if field.kind is str:
        if not value:
            return f"{name} is empty"
        if is_placeholder(str(value)):
            return f"{name} is {NO_VALUE}"
        if field.choices and value not in field.choices:
            return f"{name} is none of {', '.join(field.choices)}"
    if name == "ports" and isinstance(value, list):
        return _ports_fault(value)
    if name == "envs" and isinstance(value, list):
        return _envs_fault(value)
    return None


def settings_faults(settings: Mapping[str, object]) -> list[str]:
    """Return all that is wrong with a set of settings, values against each other included."""
    faults = [
        fault for name, value in settings.items() if (fault := field_fault(name, value)) is not None
    ]
    return faults + resource_faults(settings)


def resource_faults(settings: Mapping[str, object]) -> list[str]:
    """Return what is wrong with the resources of a set of settings against each other."""
    cpu, memory = settings.get("req_cpu"), settings.get("req_memory")
    if isinstance(cpu, int) and isinstance(memory, int) and memory > MEMORY_PER_CPU * cpu:
        return [f"req_memory {memory} is over twice req_cpu {cpu}, which Edgegap refuses"]
    return []


def _bounds_fault(name: str, value: int, field: Field) -> str | None:
    if field.low is not None and value < field.low:
        return f"{name} {value} is under {field.low}"
    if field.high is not None and value > field.high:
        return f"{name} {value} is over {field.high}"
    return None


def _keys_fault(name: str, item: object, keys: Mapping[str, type]) -> str | None:
    if not isinstance(item, Mapping):
        return f"{name} holds something that is no table"
    for key, value in item.items():
        if key not in keys:
            return f"{name} has the unknown key {key!r}; there are {', '.join(keys)}"
        if type(value) is not keys[key]:
            shown = f"{key} = {value!r}" if name == "ports" else key  # a variable may be secret
            return f"{shown} in {name} is not {_KINDS[keys[key]]}"
    return None


def _ports_fault(ports: Sequence[object]) -> str | None:
    """Return what is wrong with all of the ports, in one sentence."""
    numbers: set[object] = set()
    names: set[object] = set()
    faults: list[str] = []
    for port in ports:
        fault = _keys_fault("ports", port, _PORT_KEYS) or _port_fault(port)
        if fault is not None or not isinstance(port, Mapping):
            faults.append(fault or "")
            continue
        number, name = port["port"], port.get("name")
        if number != 0 and number in numbers:
            faults.append(f"port {number} is twice in ports")
        if name is not None and name in names:
            faults.append(f"the name {name!r} is twice in ports")
        numbers.add(number)
        names.add(name)
    return "; ".join(faults) or None


def _port_fault(port: object) -> str | None:
    assert isinstance(port, Mapping)  # noqa: S101 - _keys_fault said so
    number, protocol = port.get("port"), port.get("protocol")
    if not isinstance(number, int):
        return "an entry of ports has no port"
    if not 0 <= number <= MAX_PORT:
        return f"port {number} is not between 0 and {MAX_PORT}"
    if protocol not in PROTOCOLS:
        return f"the protocol {protocol!r} of port {number} is none of {', '.join(PROTOCOLS)}"
    if is_placeholder(str(port.get("name"))):
        return f"the name of port {number} is {NO_VALUE}"
    if port.get("name") == "" or (number == 0 and "name" not in port):
        return f"port {number} needs a name"
    if port.get("tls_upgrade") and protocol not in TLS_UPGRADABLE:
        return f"tls_upgrade of port {number} goes only with WS and HTTP"
    return None


def _envs_fault(envs: Sequence[object]) -> str | None:
    keys: set[object] = set()
    for env in envs:
        fault = _keys_fault("envs", env, _ENV_KEYS)
        if fault is not None:
            return fault
        assert isinstance(env, Mapping)  # noqa: S101 - _keys_fault said so
        key, value = env.get("key"), env.get("value")
        if not key or not isinstance(value, str):
            return "an entry of envs lacks its key or value"
        if is_placeholder(value):
            return f"the value of {key} in envs is {NO_VALUE}"
        if len(value.encode()) > MAX_ENV_VALUE:
            return f"the value of {key} in envs is over {MAX_ENV_VALUE} bytes"
        if key in keys:
            return f"the key {key} appears twice in envs"
        keys.add(key)
    return None


def number(value: Any) -> Any:
    """Return a whole number that is shown as text or float as an int; anything else unchanged."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value.strip()):
        return int(value.strip().partition(".")[0])
    return value


def flag(value: Any) -> Any:
    """Return a bool that is shown as text or as 0 or 1 as a bool; anything else unchanged."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return value
    return _FLAGS.get(str(number(value)).strip().casefold(), value)


def protocol(value: Any) -> Any:
    """Return the documented spelling of a protocol; an unknown protocol unchanged."""
    if not isinstance(value, str):
        return value
    return _PROTOCOLS.get(_BETWEEN.sub("", value).casefold(), value)


def as_sent(name: str, value: Any) -> Any:
    """Return a setting, ports and variables aside, as it is sent."""
    kind = SETTINGS[name].kind
    if kind is int:
        return number(value)
    if kind is bool:
        return flag(value)
    if SETTINGS[name].choices and isinstance(value, str):
        plain = _BETWEEN.sub("", value).casefold()
        spelled = {_BETWEEN.sub("", choice): choice for choice in SETTINGS[name].choices}
        return spelled.get(plain, value)
    return value


def is_text(value: Any) -> TypeGuard[str]:
    """Return whether a value is text that can be sent: JSON may hold halves of characters."""
    try:
        return isinstance(value, str) and value.encode() is not None
    except UnicodeEncodeError:
        return False


def is_masked(value: Any) -> bool:
    """Return whether a text is a placeholder for a value that Edgegap does not return."""
    if not isinstance(value, str):
        return False
    return is_placeholder(value) or _MASKED.fullmatch(value.strip()) is not None


def is_hidden(env: Mapping[str, Any]) -> bool:
    """Return whether the value of a variable cannot be read: it is hidden, masked, or left out.

    `is_secret` is the name that `is_hidden` had before 2026.
    """
    flags = (flag(env.get(name)) for name in ("is_hidden", "is_secret"))
    value = env.get("value")
    return any(flags) or value is None or is_masked(value)


def holds_something(value: Any) -> bool:
    """Return whether a value is set: not null, off, zero, empty, or made of nothing else."""
    if isinstance(value, Mapping):
        return any(holds_something(held) for held in value.values())
    if isinstance(value, list):
        return any(holds_something(held) for held in value)
    if isinstance(value, str):
        return bool(value.strip()) and flag(value) is not False
    return bool(value)


def shortened(value: Any) -> str:
    """Return a value for a message: printable and short."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(value))
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}…"

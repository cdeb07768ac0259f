"""What Edgegap holds, compared with what was requested: setting by setting, without the image.

No message contains the value of a variable, not even of one that is not hidden.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from receiver.edgegap.copied_settings import describe_port, left_out, listed, read_ports
from receiver.edgegap.fields import (
    RESOURCES,
    SETTINGS,
    as_sent,
    flag,
    is_hidden,
    is_masked,
    number,
    shortened,
)
from receiver.edgegap.responses import Body

Table = Mapping[str, Any]

NOTICED = RESOURCES | {
    "is_active",
    "max_duration",  # a match ends early
    "restart_policy",  # a crash ends the match, or a server that ended comes back
    "termination_grace_period_seconds",  # too short to end a match
    "will_deploy_in_mainland_china",
    "dns_config",
}
"""Settings, ports and variables aside, of which players would notice a difference.

Settings of caching and deploying are not included: Edgegap returns some of them changed.
"""
_ASKED, _HAD = "asked for", "before it had"
_NOT_STORED = frozenset({"verify_image"})  # applies to one call only: a GET may show false
_ANSWERED_ANYWAY = {"time_to_deploy": 10}  # the documented default, in every sample


class Comparison(msgspec.Struct, frozen=True):
    """How a version differs from what was requested, as sentences without secrets.

    `noticed`: players would notice it. `noted`: they would not. `readable`: the keys of hidden
    variables whose values Edgegap returns although they are hidden.
    """

    noticed: tuple[str, ...] = ()
    noted: tuple[str, ...] = ()
    readable: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should know although no registration is parked."""
        if not self.readable:
            return self.noted
        warning = (
            f"Edgegap returns the values of the hidden variables {listed(self.readable)} in clear: "
            "everyone with access to the Edgegap account can read them"
        )
        return (*self.noted, warning)


def compare(asked: Mapping[str, Any], held: Body, before: Body | None = None) -> Comparison:
    """Compare the settings in a request with the version that Edgegap shows.

    After a PATCH, `before` is the version before it: other settings must be unchanged.
    """
    parts = [
        Comparison(noticed=(left_out(name),))
        if name in {"ports", "envs"} and asked[name] and name not in held
        else _compare_one(name, asked[name], held.get(name))
        for name in asked
        if name in SETTINGS
    ]
    for name, value in (before or {}).items():
        if name in SETTINGS and name not in asked and value is not None:
            parts.append(_compare_kept(name, value, held.get(name)))
    return Comparison(
        tuple(one for part in parts for one in part.noticed),
        tuple(one for part in parts for one in part.noted),
        tuple(one for part in parts for one in part.readable),
    )


def differences(asked: Mapping[str, Any], held: Body) -> list[str]:
    """Return all differences between Edgegap's version and the request, without secrets."""
    found = compare(asked, held)
    return [*found.noticed, *found.notes]


def same_setting(name: str, asked: Any, held: Any) -> bool:
    """Return whether a setting, or a part of the login, is as requested, as far as it is shown."""
    if name == "ports":
        found = _compare_ports(asked, held)
        return not found.noticed and not found.noted
    if name == "envs":
        return not _compare_variables(asked, held).noticed
    return bool((as_sent(name, held) if name in SETTINGS else held) == asked)


def _compare_kept(name: str, before: Any, held: Any) -> Comparison:
    """Compare a setting with what it was before a PATCH that does not name it."""
    if name == "envs":
        return _compare_kept_variables(before, held)
    had = read_ports(before).ports if name == "ports" else as_sent(name, before)
    return _compare_one(name, had, held, _HAD)


def _compare_one(name: str, asked: Any, held: Any, verb: str = _ASKED) -> Comparison:
    if name == "ports":
        return _compare_ports(asked, held, verb)
    if name == "envs":
        return _compare_variables(asked, held)
    shown = as_sent(name, held)
    tolerated = name in _NOT_STORED or shown == _ANSWERED_ANYWAY.get(name, asked)
    if tolerated or shown == asked or (held in (None, "") and not asked):
        return Comparison()
    holds = "nothing" if held is None else shortened(held)
    difference = f"{verb} {name} {shortened(asked)}, Edgegap holds {holds}"
    if name in NOTICED and held is not None:
        return Comparison(noticed=(difference,))
    return Comparison(noted=(difference,))


def _compare_ports(asked: Sequence[Table], held: Any, verb: str = _ASKED) -> Comparison:
    there = read_ports(held).ports
    left: list[Table] = [*there]
    others_notice, noted = False, []
    for port in asked:
        found = _find(port, left)
        if found is None:
            others_notice = True
            continue
        left.remove(found)
        if port.get("tls_upgrade", False) != found.get("tls_upgrade", False):
            others_notice = True
        if "name" in port and found.get("name", port["name"]) != port["name"]:
            others_notice = True
        if "name" in port and "name" not in found:
            noted.append(f"Edgegap holds the port {describe_port(port)} without a name")
        if port.get("to_check", True) != found.get("to_check", True):
            checked = "not checked" if port.get("to_check", True) else "checked"
            noted.append(f"the port {describe_port(port)} is {checked} by Edgegap, unlike asked")
    if others_notice:
        return Comparison(
            noticed=(f"{verb} {_listed(asked)}, Edgegap holds {_listed(there)}",),
            noted=tuple(noted),
        )
    if left:
        noted.append(f"Edgegap also holds {_listed(left)}")
    return Comparison(noted=tuple(noted))


def _find(port: Table, among: Sequence[Table]) -> Table | None:
    """Return the port with this number and protocol, preferably with this name too."""
    same = [one for one in among if _end(one) == _end(port)]
    named = [one for one in same if one.get("name") == port.get("name")]
    return next(iter(named or same), None)


def _end(port: Table) -> tuple[Any, str]:
    return port.get("port"), str(port.get("protocol")).casefold()


def _listed(ports: Sequence[Table]) -> str:
    if not ports:
        return "no port"
    return f"the ports {', '.join(describe_port(port) for port in ports)}"


def _compare_variables(asked: Sequence[Table], held: Any) -> Comparison:
    there = _by_key(held)
    noticed: list[str] = []
    unread, readable = [], []
    for env in asked:
        key, found = env["key"], there.get(env["key"])
        if found is None:
            continue
        secret, value = env.get("is_hidden") is True, _value(found)
        unset = value == "" and found.get("is_hidden") is None
        if secret and _is_readable(found, env):
            readable.append(key)
        if value == env["value"] or (secret and unset):
            continue
        if not is_hidden(found):
            sizes = "" if secret else f" ({len(env['value'])} characters sent, {len(value)} held)"
            noticed.append(f"the variable {shortened(key)} has another value than sent{sizes}")
        elif not secret:
            unread.append(key)
    missing = [env["key"] for env in asked if env["key"] not in there]
    if missing:
        keys = {env["key"] for env in asked}
        others = [key for key in there if key not in keys]
        instead = f"; it holds {listed(others)}, which was not sent" if others else ""
        noticed.append(f"Edgegap does not hold the variables {listed(missing)}{instead}")
    noted = (f"Edgegap does not return the values of {listed(unread)}",) if unread else ()
    return Comparison(tuple(noticed), noted, tuple(readable))


def _compare_kept_variables(before: Any, held: Any) -> Comparison:
    """Compare all variables with those before a PATCH that names none; values as far as shown."""
    had, there = _by_key(before), _by_key(held)
    noticed = []
    lost = [key for key in had if key not in there]
    if lost:
        noticed.append(f"Edgegap no longer holds the variables {listed(lost)}")
    changed = [
        key
        for key, env in had.items()
        if key in there
        and not (is_hidden(env) or is_hidden(there[key]))
        and _value(env) != _value(there[key])
    ]
    if changed:
        noticed.append(f"the variables {listed(changed)} have other values than before")
    return Comparison(tuple(noticed))


def _by_key(envs: Any) -> dict[str, Table]:
    entries = [one for one in envs if isinstance(one, Mapping)] if isinstance(envs, list) else []
    return {str(one.get("key")): one for one in entries}


def _is_readable(found: Table, env: Table) -> bool:
    """Return whether the value of a variable that was sent as hidden is in the answer."""
    value = _value(found)
    flagged = any(flag(found.get(name)) is True for name in ("is_hidden", "is_secret"))
    return value == env["value"] or not (flagged or value == "" or is_masked(value))


def _value(found: Table) -> str:
    value = found.get("value")
    value = number(value) if isinstance(value, float) else value
    return "" if value is None else str(value)

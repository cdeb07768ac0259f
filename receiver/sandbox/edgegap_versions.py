"""The fields that Edgegap accepts for an app version, and their defaults."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from starlette.exceptions import HTTPException


@dataclass(frozen=True, slots=True)
class _Field:
    """A field's type and bounds: of a number's value, or a text's length."""

    kind: type
    low: int | None = None
    high: int | None = None
    one_of: frozenset[str] | None = None
    default: Any = None
    required: bool = False
    patchable: bool = True


_RESTART_POLICIES = frozenset({"always", "never", "on_failure"})
_PROTOCOLS = frozenset({"UDP", "TCP", "TCP/UDP", "HTTP", "HTTPS", "WS", "WSS"})
_READ_ONLY = {"create_time", "last_updated", "caching_percent"}
_TLS_UPGRADABLE = {"WS", "HTTP"}
_IMAGE = re.compile(r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*")

VERSION_FIELDS: Mapping[str, _Field] = {
    "name": _Field(str, 1, 64, required=True),
    "is_active": _Field(bool, default=True),
    # Resources are set once: a PATCH that names them is refused, whatever older documents say.
    "req_cpu": _Field(int, 100, required=True, patchable=False),
    "req_memory": _Field(int, 100, required=True, patchable=False),
    "req_video": _Field(int, 0, default=0, patchable=False),
    "docker_repository": _Field(str, 1, required=True),
    "private_username": _Field(str),
    "private_token": _Field(str),
    "docker_image": _Field(str, 1, required=True),
    "docker_tag": _Field(str, 1, 128, required=True),
    "verify_image": _Field(bool, default=False),
    "force_cache": _Field(bool, default=False),
    # Edgegap's document has a default of 10 and a minimum of 15; its samples show 30.
    "time_to_deploy": _Field(int, 15, default=30),
    "max_duration": _Field(int, -1, 1440, default=1440),
    "restart_policy": _Field(str, one_of=_RESTART_POLICIES, default="always"),
    "termination_grace_period_seconds": _Field(int, 5, 3600, default=5),
    "will_deploy_in_mainland_china": _Field(bool, default=False),
    "dns_config": _Field(str),
    "ports": _Field(list, default=()),
    "envs": _Field(list, default=()),
    "endpoint_storage": _Field(str, 1),
}
_PORT_FIELDS: Mapping[str, _Field] = {
    "port": _Field(int, 0, 59999, required=True),
    "protocol": _Field(str, one_of=_PROTOCOLS, required=True),
    "to_check": _Field(bool, default=True),
    "tls_upgrade": _Field(bool, default=False),
    "name": _Field(str, 1),
}
_ENV_FIELDS: Mapping[str, _Field] = {
    "key": _Field(str, 1, required=True),
    "value": _Field(str, high=4096, required=True),
    "is_hidden": _Field(bool, default=False),
}


def created(body: Any, also_accepted: Collection[str] = ()) -> dict[str, Any]:
    """Return the version for a POST body, with defaults; raise 400 if it is invalid.

    `also_accepted` are protocols in addition to the documented ones.
    """
    fields = _checked(body, VERSION_FIELDS)
    if fields["req_memory"] > 2 * fields["req_cpu"]:
        raise HTTPException(400, "req_memory: must be at most twice req_cpu")
    now = timestamp()
    return {
        **_defaults(VERSION_FIELDS),
        **_checked_deeper(fields, also_accepted),
        "create_time": now,
        "last_updated": now,
        "caching_percent": 0.0,
    }


def patched(
    version: Mapping[str, Any], body: Any, also_accepted: Collection[str] = ()
) -> dict[str, Any]:
    """Return a version changed by a PATCH body; arrays are replaced, not merged."""
    patchable = {name: field for name, field in VERSION_FIELDS.items() if field.patchable}
    fields = _checked_deeper(_checked(body, patchable, partial=True), also_accepted)
    return {**version, **fields, "last_updated": timestamp()}


def is_documented(version: Mapping[str, Any]) -> bool:
    """Return whether a returned version matches the API document."""
    writable = {name: version[name] for name in version.keys() - _READ_ONLY}
    if not _is_valid(writable, VERSION_FIELDS):
        return False
    port_fields = {**_PORT_FIELDS, "protocol": _Field(str, required=True)}
    parts = {"ports": port_fields, "envs": _ENV_FIELDS}
    return all(
        isinstance(part, dict) and _is_valid(part, fields)
        for name, fields in parts.items()
        for part in version.get(name, ())
    )


def _is_valid(part: Mapping[str, Any], fields: Mapping[str, _Field]) -> bool:
    required = {name for name, field in fields.items() if field.required}
    known = required <= part.keys() <= fields.keys()
    return known and not any(_wrong(part[name], fields[name]) for name in part)


def timestamp() -> str:
    """Return the time in Edgegap's format: no zone, a space, microseconds."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def _defaults(fields: Mapping[str, _Field]) -> dict[str, Any]:
    filled_in = {name: field.default for name, field in fields.items() if field.default is not None}
    return {name: [] if value == () else value for name, value in filled_in.items()}


def _checked(
    body: Any, fields: Mapping[str, _Field], prefix: str = "", *, partial: bool = False
) -> dict[str, Any]:
    """Check an object against its fields; raise 400 with the first error."""
    if not isinstance(body, dict):
        raise HTTPException(400, f"{prefix or 'body'}: must be an object")
    if body.keys() - fields.keys():
        raise HTTPException(400, "Unknown Args")
    if body.get("endpoint_storage") == "":
        # Edgegap's server fails on this value.
        raise HTTPException(500, "Internal Server Error")
    for name, field in fields.items():
        if name in body:
            wrong = _wrong(body[name], field)
            if wrong:
                raise HTTPException(400, f"{prefix}{name}: {wrong}")
        elif field.required and not partial:
            raise HTTPException(400, f"{prefix}{name}: is required")
    return body


def _wrong(value: Any, field: _Field) -> str | None:
    """Return the error of a value, if any. A bool is not an integer, and null is not allowed."""
    if type(value) is not field.kind:
        return f"must be of type {field.kind.__name__}"
    size: Any = len(value) if isinstance(value, str) else value
    if field.low is not None and size < field.low:
        return f"must be at least {field.low}"
    if field.high is not None and size > field.high:
        return f"must be at most {field.high}"
    if field.one_of is not None and value not in field.one_of:
        return f"must be one of {', '.join(sorted(field.one_of))}"
    return None


def _checked_deeper(fields: dict[str, Any], also_accepted: Collection[str]) -> dict[str, Any]:
    """Check the image and the arrays, and fill in the defaults of the arrays' elements."""
    image = fields.get("docker_image", "a")
    first, _, rest = image.partition("/")
    if not _IMAGE.fullmatch(image) or (rest and "." in first):
        raise HTTPException(
            400, "docker_image: must be group/project in lower case, without registry or tag"
        )
    protocol = replace(_PORT_FIELDS["protocol"], one_of=_PROTOCOLS.union(also_accepted))
    each: Mapping[str, tuple[Mapping[str, _Field], Callable[[dict[str, Any]], None]]] = {
        "ports": ({**_PORT_FIELDS, "protocol": protocol}, _check_port),
        "envs": (_ENV_FIELDS, lambda _: None),
    }
    checked = dict(fields)
    for name, (element_fields, check) in each.items():
        if name in fields:
            elements = [
                {**_defaults(element_fields), **_checked(element, element_fields, f"{name}: ")}
                for element in fields[name]
            ]
            for element in elements:
                check(element)
            checked[name] = elements
    names = [port["name"] for port in checked.get("ports", ()) if "name" in port]
    if len(names) != len(set(names)):
        raise HTTPException(400, "ports: names must be unique")
    return checked


def _check_port(port: dict[str, Any]) -> None:
    if port["tls_upgrade"] and port["protocol"] not in _TLS_UPGRADABLE:
        raise HTTPException(400, "ports: tls_upgrade is for WS and HTTP only")
    if port["port"] == 0 and "name" not in port:
        raise HTTPException(400, "ports: port 0 needs a name")

"""The checks of keys of `receiver.toml` whose values are more than their types say. Pure.

Each returns the error of a value, None if it is valid; a type is checked elsewhere.
"""

import re
from collections.abc import Mapping

from receiver.config.values import UNITS, duration_fault
from receiver.edgegap.deployment_answers import read_near
from receiver.edgegap.fields import OFTEN_NONE, SETTINGS, field_fault, protocol
from receiver.errors import BadTagPattern
from receiver.images import is_repository, read_size
from receiver.rules.rule import version_name_fault
from receiver.rules.tag_patterns import parse_tag_pattern

CATCH_UP_BOUNDS = (UNITS["m"], 7 * UNITS["d"])  # Docker Hub allows 180 calls a minute
OFF = "off"
PULL_PROFILE = r"[^/\s]+/[^/\s]+"
_PROFILE = re.compile(PULL_PROFILE)


def tags_fault(value: object) -> str | None:
    """Return the error of a filter of tags."""
    try:
        parse_tag_pattern(value)
    except BadTagPattern as error:
        return str(error)
    return None


def channels_fault(values: object) -> str | None:
    """Return the error of the names of channels."""
    names = values if isinstance(values, list) else []
    faults = (version_name_fault(name) for name in names if isinstance(name, str) and name)
    return next((fault for fault in faults if fault is not None), None)


def leave_out_fault(values: object) -> str | None:
    """Return the error of fields to leave out: a setting is not one of them."""
    names = values if isinstance(values, list) else []
    own = SETTINGS.keys() - OFTEN_NONE
    settings = (name for name in names if isinstance(name, str) and name in own)
    return next((f"{name} is a setting, which the rule can give" for name in settings), None)


def near_fault(value: object) -> str | None:
    """Return the error of a location."""
    try:
        read_near(str(value))
    except ValueError as error:
        return str(error)
    return None


def links_fault(table: object) -> str | None:
    """Return the error of the repositories and their link numbers."""
    if not isinstance(table, Mapping):
        return "it is not a table"
    wrong = [
        f"{repository} = {number!r} is not a repository and its link number"
        for repository, number in table.items()
        if not is_repository(repository) or type(number) is not int or number < 1
    ]
    return "; ".join(wrong) or None


def every_fault(value: object) -> str | None:
    """Return the error of the time between two runs of catch-up."""
    return None if value == OFF else duration_fault(value, *CATCH_UP_BOUNDS)


def ports_fault(ports: object) -> str | None:
    """Return the error of ports, however their protocols are spelled."""
    return field_fault("ports", spelled(ports))


def max_image_fault(value: object) -> str | None:
    """Return the error of the size of an image."""
    return None if read_size(value) else f"{value!r} is not a size in MB or GB"


def pull_profiles_fault(values: object) -> str | None:
    """Return the error of names of pull profiles."""
    names = values if isinstance(values, list) else []
    wrong = (name for name in names if isinstance(name, str) and not _PROFILE.fullmatch(name))
    return next((f"{name!r} is not endpoint/profile" for name in wrong), None)


def envs_fault(envs: object) -> str | None:
    """Return the error of the variables, apart from the values that others hold."""
    if not isinstance(envs, list):
        return field_fault("envs", envs)
    return field_fault("envs", [with_value(env, "?") for env in envs])


def spelled(ports: object) -> object:
    """Return the ports with their protocols as Edgegap's documentation spells them."""
    if not isinstance(ports, list):
        return ports
    return [
        {**port, "protocol": protocol(port["protocol"])}
        if isinstance(port, dict) and "protocol" in port
        else port
        for port in ports
    ]


def with_value(env: object, value: str) -> object:
    """Return an entry of `envs` with this value instead of the variable that holds it."""
    if not isinstance(env, dict) or "value_from" not in env:
        return env
    return {**{key: env[key] for key in env if key != "value_from"}, "value": value}

"""What a version was sent, in a form that may be stored and shown. Pure.

No value of a variable is kept, hidden or not: `is_hidden` may have been forgotten, so nothing here
could decide which values are secrets. A keyed hash shows whether two values are the same.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from receiver.edgegap.copied_settings import LOGIN, read_ports
from receiver.edgegap.fields import SETTINGS, as_sent, is_hidden, is_masked, is_text
from receiver.edgegap.plans import image_of
from receiver.edgegap.responses import Body
from receiver.secret import Secret, hash_of, stretched

_ELSEWHERE = frozenset({"ports", "envs", "verify_image"})  # the last applies to one call only
Hashing = Callable[[str, str], str]


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
    sent = _read(body, hashing, body.get("envs"), hidden_too=True)
    if before is not None:
        had = _read(before, hashing, before.get("envs"), hidden_too=False)
        sent = msgspec.structs.replace(
            sent,
            settings=had.settings | sent.settings,
            ports=sent.ports if "ports" in body else had.ports,
            variables=sent.variables if "envs" in body else had.variables,
            login=sent.login or had.login,
        )
    return msgspec.structs.replace(sent, pull_profiles=tuple(pull_profiles), size=size)


def shown_settings(version: Body, keys: Sequence[Secret]) -> SentSettings:
    """Return the settings of a version that Edgegap shows; hidden values are not known."""
    return _read(version, _hashing(keys), version.get("envs"), hidden_too=False)


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


def _read(version: Body, hashing: Hashing, envs: Any, *, hidden_too: bool) -> SentSettings:
    login = [version.get(name) for name in LOGIN]
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

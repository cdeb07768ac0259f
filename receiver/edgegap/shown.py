"""Values as Edgegap's answers show them, read back into what a request may hold.

A GET does not show what a POST sent: protocols are spelled otherwise, numbers may be text, and a
secret may be replaced by a fixed text.
"""

import re
from collections.abc import Mapping
from typing import Any, TypeGuard

from receiver.edgegap.fields import PROTOCOLS, SETTINGS, is_placeholder

# What a masked value looks like, apart from Edgegap's own text: only stars or dots, stars with
# a few characters before or after them, one word in brackets or stars, or a word that says so.
_MASKED = re.compile(
    r"[*•●]{3,}|[\w-]{0,12}[*•●]{4,}[\w-]{0,4}"
    r"|(?:(?:this |the )?value is )?(?:set (?:and|&) )?(?:masked|redacted|encrypted)\.?"
    r"|(?:this |the )?value is (?:set|hidden|secret)\.?"
    r"|[<(\[{*•●]+(?:hidden|masked|redacted|encrypted|secret|set)[>)\]}*•●]+",
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


def brief(value: Any) -> str:
    """Return a value for a message: printable and short."""
    text = "".join(letter if letter.isprintable() else " " for letter in str(value))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


_LONGEST = 60

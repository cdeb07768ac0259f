"""Undocumented behavior of Edgegap: how it stores and returns versions."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

PLACEHOLDER = "This value is set and encrypted"

TokenShown = Literal["clear", "placeholder", "absent"]
Numbers = Literal["integer", "text", "float"]


@dataclass(slots=True)
class Quirks:
    """How an account's versions are stored and returned; may be changed at any time.

    - `hidden_value`: replaces the value of a hidden variable; None omits the key
    - `reveals_hidden`: values of hidden variables are shown in clear
    - `tokens`: how `private_token` is shown, by the version's name; `*` is for all others
    - `protocols`: how a protocol is shown, by its documented spelling
    - `also_accepted`: protocols that are accepted although they are not documented
    - `numbers`: how whole numbers are shown
    - `stores`: fields that are stored with these values, regardless of the request
    - `leaves_out`: optional fields that no response shows
    - `sanitizes_keys`: characters of a variable's key that a shell does not allow become `_`
    """

    hidden_value: str | None = ""
    reveals_hidden: bool = False
    tokens: dict[str, TokenShown] = field(default_factory=dict)
    protocols: dict[str, str] = field(default_factory=lambda: {"WS": "Websocket"})
    also_accepted: frozenset[str] = frozenset()
    numbers: Numbers = "integer"
    stores: dict[str, Any] = field(default_factory=dict)
    leaves_out: frozenset[str] = frozenset()
    sanitizes_keys: bool = False

    def __post_init__(self) -> None:
        """Refuse unknown values: quirks also arrive as JSON."""
        unknown = {*self.tokens.values()} - {*get_args(TokenShown)}
        if unknown or self.numbers not in get_args(Numbers):
            raise ValueError(f"no such quirk: {', '.join(unknown) or self.numbers}")
        self.also_accepted = frozenset(self.also_accepted)
        self.leaves_out = frozenset(self.leaves_out)

    def changed(self, changes: Mapping[str, Any]) -> "Quirks":
        """Return these quirks with some of them changed."""
        return replace(self, **changes)

    def stored(self, version: Mapping[str, Any]) -> dict[str, Any]:
        """Return a requested version as it is stored."""
        kept = {**version, **self.stores}
        if self.sanitizes_keys:
            kept["envs"] = [{**env, "key": _sanitized(env["key"])} for env in kept["envs"]]
        return kept

    def shown(self, version: Mapping[str, Any]) -> dict[str, Any]:
        """Return a version as a response shows it: other spellings, secrets perhaps hidden."""
        response = dict(version)
        token = self.tokens.get(str(version.get("name")), self.tokens.get("*", "clear"))
        if token == "placeholder" and version.get("private_token"):  # noqa: S105 - a word
            response["private_token"] = PLACEHOLDER
        elif token == "absent":  # noqa: S105 - a word
            response.pop("private_token", None)
        # A test may have stored null, which is returned as it is.
        if isinstance(version.get("ports"), list | tuple):
            response["ports"] = [self._port(port) for port in version["ports"]]
        if isinstance(version.get("envs"), list | tuple):
            response["envs"] = [self._env(env) for env in version["envs"]]
        shown = {name: self._value(value) for name, value in response.items()}
        return {name: value for name, value in shown.items() if name not in self.leaves_out}

    def _port(self, port: Any) -> Any:
        if not isinstance(port, dict):
            return port
        protocol = port.get("protocol")
        shown = {**port, "protocol": self.protocols.get(str(protocol), protocol)}
        return {name: self._value(value) for name, value in shown.items()}

    def _env(self, env: Any) -> Any:
        if self.reveals_hidden or not isinstance(env, dict) or not env.get("is_hidden"):
            return env
        rest = {key: value for key, value in env.items() if key != "value"}
        return rest if self.hidden_value is None else {**rest, "value": self.hidden_value}

    def _value(self, value: Any) -> Any:
        if type(value) is not int or self.numbers == "integer":
            return value
        return str(value) if self.numbers == "text" else float(value)


def _sanitized(key: str) -> str:
    return re.sub(r"\W", "_", key, flags=re.ASCII)

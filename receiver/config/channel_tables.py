"""Read the `[[channel]]` tables of the configuration into the rules that move the channels.

A channel is moved by the rules that list it in `channels`; a channel that no rule lists is moved by
every rule of its app.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from receiver.errors import BadTagPattern, Fault
from receiver.rules.channel_order import Channel, Follow
from receiver.rules.rule import Rule, is_version_name
from receiver.rules.tag_patterns import TagPattern, parse_tag_pattern

KEYS = ("app", "name", "follow", "tags", "restore")
NAME = "Write name with 1 to 64 letters, digits, . _ or -, a letter or digit first"


def read_channels(tables: object, rules: Sequence[Rule]) -> tuple[tuple[Rule, ...], list[Fault]]:
    """Read the list of `[[channel]]` tables; return the rules with the channels that they move."""
    if not isinstance(tables, Sequence) or isinstance(tables, str):
        return tuple(rules), [
            Fault("channel", "it is not a list of tables", "Write each under a line [[channel]]")
        ]
    faults: list[Fault] = []
    channels: dict[tuple[str, str], Channel] = {}
    for number, table in enumerate(tables, start=1):
        where = f"channel {number}"
        channel = _Reader(table if isinstance(table, dict) else {}, where, faults).channel(rules)
        if channel is None:
            continue
        if (channel.app, channel.name) in channels:
            what = f"{channel.app}/{channel.name} has a table already"
            faults.append(Fault(where, what, "Keep one of the two"))
        channels[channel.app, channel.name] = channel
    return tuple(_with_channels(rule, rules, list(channels.values())) for rule in rules), faults


def _with_channels(rule: Rule, rules: Sequence[Rule], channels: Sequence[Channel]) -> Rule:
    own = [channel for channel in channels if channel.app == rule.app]
    listed = {name for other in rules if other.app == rule.app for name in other.channels}
    names = (*rule.channels, *(channel.name for channel in own if channel.name not in listed))
    options = tuple(channel for channel in own if channel.name in names)
    return replace(rule, channels=names, options=options)


class _Reader:
    """Reads one table; its errors go to `faults`."""

    def __init__(self, table: Mapping[str, Any], where: str, faults: list[Fault]) -> None:
        self._table = table
        self._faults = faults
        name = table.get("name")
        self._where = where + (f" ({name})" if isinstance(name, str) else "")

    def channel(self, rules: Sequence[Rule]) -> Channel | None:
        """Return the channel, None if its app or name cannot be read."""
        for key in self._table:
            if key not in KEYS:
                self._fault(key, "there is no such key", f"The keys are {', '.join(KEYS)}")
        app, name = self._app(rules), self._name()
        follow, tags, restore = self._follow(), self._tags(), self._restore()
        if app is None or name is None:
            return None
        return Channel(app, name, follow, tags, restore)

    def _fault(self, key: str, what: str, fix: str) -> None:
        self._faults.append(Fault(f"{self._where}, {key}", what, fix))

    def _app(self, rules: Sequence[Rule]) -> str | None:
        app, known = self._table.get("app"), sorted({rule.app for rule in rules})
        if isinstance(app, str) and app in known:
            return app
        what = "it is missing" if app is None else f"no rule has app = {app!r}"
        apps = " or ".join(f'"{name}"' for name in known) or '"…"'
        self._fault("app", what, f"Write app = {apps}, as in the rule that moves the channel")
        return None

    def _name(self) -> str | None:
        name = self._table.get("name")
        if isinstance(name, str) and is_version_name(name):
            return name
        what = "it is missing" if name is None else f"Edgegap accepts no version named {name!r}"
        self._fault("name", what, NAME)
        return None

    def _follow(self) -> Follow:
        value = self._table.get("follow", Follow.AUTO.value)
        if isinstance(value, str) and value in set(Follow):
            return Follow(value)
        known = " or ".join(f'"{member}"' for member in Follow)
        self._fault("follow", f"{value!r} is not one of its values", f"Write follow = {known}")
        return Follow.AUTO

    def _tags(self) -> TagPattern | None:
        if "tags" not in self._table:
            return None
        try:
            return parse_tag_pattern(self._table["tags"])
        except BadTagPattern as error:
            self._fault("tags", str(error), 'Write tags = { semver = "1.x" } or tags = ["v*"]')
            return None

    def _restore(self) -> bool:
        value = self._table.get("restore", False)
        if isinstance(value, bool):
            return value
        self._fault("restore", "it is neither true nor false", "Write restore = true")
        return False

"""Immutable tags: which tags of a repository can be neither overwritten nor deleted. Pure.

Source: docs.docker.com/reference/api/hub; a beta feature. The rules are regular expressions, which
Docker Hub evaluates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ImmutableTags:
    """The settings. Without rules they apply to all tags, `latest` too."""

    enabled: bool
    rules: tuple[str, ...] = ()

    def with_rules(self, added: Sequence[str]) -> "ImmutableTags":
        """Return the settings with these rules, too; what is immutable already stays so."""
        if self.enabled and not self.rules:
            return self
        return ImmutableTags(enabled=True, rules=tuple(dict.fromkeys([*self.rules, *added])))

    def body(self) -> dict[str, Any]:
        """Return the body that sets them."""
        return {"immutable_tags": self.enabled, "immutable_tags_rules": list(self.rules)}


def read_immutable_tags(record: Mapping[str, Any]) -> ImmutableTags | None:
    """Read the settings from the record of a repository; None if it does not have them."""
    match record.get("immutable_tags_settings"):
        case {"enabled": bool(enabled), "rules": list(rules)} if all(
            isinstance(rule, str) for rule in rules
        ):
            return ImmutableTags(enabled=enabled, rules=tuple(rules))
    return None

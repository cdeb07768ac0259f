"""Which versions retention lets go: a pure decision over what the ledger knows.

Only versions that this receiver made; never the newest N, a channel's, one that a channel holds,
one that is pinned. Whether anything of it runs is asked of Edgegap just before.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from receiver.rules import Mode, Rule, names_target


@dataclass(frozen=True, slots=True)
class Made:
    """A version as retention sees it. Times in epoch ms; `made_at` None where it is not known."""

    version: str
    mode: str
    repository: str
    tag: str
    made_here: bool
    made_at: int | None
    pushed_at: int
    retired: bool = False


def to_retire(made: Iterable[Made], rules: Sequence[Rule], keep: int | None = None) -> list[Made]:
    """Return the versions beyond the newest, the oldest push first.

    With `keep`, an app's versions count all together. Without, each rule's own `keep` counts the
    versions that this rule makes; what no rule with a `keep` makes stays. At least one stays.
    """
    everything = [one for one in made if not one.retired]
    channels = {channel for rule in rules for channel in rule.channels}
    pins = [pin for rule in rules for pin in rule.pin]
    held = {
        (one.repository, one.tag)
        for one in everything
        if one.mode != Mode.CREATE or one.version in channels
    }
    own = sorted(
        (one for one in everything if one.made_here and one.mode == Mode.CREATE and one.made_at),
        key=_age,
    )
    groups = [(own, keep)] if keep is not None else _by_rule(own, rules)
    beyond = [one for group, kept in groups for one in group[: max(0, len(group) - max(1, kept))]]
    return [
        one
        for one in sorted(beyond, key=_age)
        if one.version not in channels
        and (one.repository, one.tag) not in held
        and not any(fnmatchcase(one.version, pin) for pin in pins)
    ]


def _age(one: Made) -> tuple[int, int, str]:
    """By push, not by when it was made: catch-up may bring in older tags later."""
    return one.pushed_at, one.made_at or 0, one.version


def _by_rule(own: Sequence[Made], rules: Sequence[Rule]) -> list[tuple[list[Made], int]]:
    groups: dict[str, list[Made]] = {}
    for one in own:
        rule = next((rule for rule in rules if _makes(rule, one)), None)
        if rule is not None:
            groups.setdefault(rule.name, []).append(one)
    return [(groups.get(rule.name, []), rule.keep) for rule in rules if rule.keep]


def _makes(rule: Rule, one: Made) -> bool:
    """Tell whether this version is what the rule, as it is now, makes of its tag."""
    return (
        rule.versions
        and rule.repository == one.repository
        and rule.tags.takes(one.tag)
        and names_target(rule, Mode.CREATE, one.tag, rule.app, one.version)
    )

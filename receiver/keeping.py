"""Which versions retention lets go: a pure decision over what the ledger knows.

Only versions that this receiver made; never the newest N, a channel's, one that a channel holds,
one that is pinned. Whether anything of it runs is asked of Edgegap just before.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from receiver.rules import Mode, Rule


@dataclass(frozen=True, slots=True)
class Made:
    """A version as retention sees it; `made_at` in epoch ms, None where it is not known."""

    version: str
    mode: str
    repository: str
    tag: str
    made_here: bool
    made_at: int | None
    retired: bool = False


def to_retire(made: Iterable[Made], rules: Iterable[Rule], keep: int) -> list[Made]:
    """Return the versions beyond the newest `keep`, the oldest first. `keep` is at least one."""
    everything = [one for one in made if not one.retired]
    theirs = list(rules)
    channels = {channel for rule in theirs for channel in rule.channels}
    pins = [pin for rule in theirs for pin in rule.pin]
    held = {
        (one.repository, one.tag)
        for one in everything
        if one.mode != Mode.CREATE or one.version in channels
    }
    own = sorted(
        (one for one in everything if one.made_here and one.mode == Mode.CREATE and one.made_at),
        key=lambda one: (one.made_at or 0, one.version),
    )
    return [
        one
        for one in own[: max(0, len(own) - max(1, keep))]
        if one.version not in channels
        and (one.repository, one.tag) not in held
        and not any(fnmatchcase(one.version, pin) for pin in pins)
    ]

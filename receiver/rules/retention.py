"""Which versions retention deletes: a pure decision from the ledger's records.

Only versions that this receiver created; never the newest N, the version reported last, a channel,
a version that a channel has, that the configuration names, or that a person requested. A check for
newer pushes and for deployments follows right before the DELETE.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase

import msgspec

from receiver.images import ImageReference
from receiver.rules.rule import Mode, Rule, names_target


class Target(msgspec.Struct, frozen=True):
    """A version or channel as the ledger knows it. Times in epoch ms; `made_at` None if unknown.

    `by_hand`: a person requested it although its push was not the newest. `registration` is the
    last registration of this target, empty if unknown; ids sort by time.
    """

    version: str
    mode: str
    repository: str
    tag: str
    created_here: bool
    made_at: int | None
    push_time: int
    deleted_at: int | None = None
    by_hand: bool = False
    registration: str = ""
    digest: str | None = None

    @property
    def image(self) -> ImageReference:
        """The image that the receiver put into it."""
        return ImageReference(repository=self.repository, tag=self.tag)


class Retention(StrEnum):
    """What retention does with a version, or why it keeps it."""

    BEYOND_KEEP = "beyond_keep"
    NEWEST = "newest"
    REPORTED_LAST = "reported_last"
    CHANNEL = "channel"
    PINNED = "pinned"
    NAMED = "named"
    NO_KEEP = "no_keep"


class Prunable(msgspec.Struct, frozen=True):
    """A version that may be deleted: it is beyond the newest `keep`."""

    target: Target
    keep: int

    @property
    def why(self) -> str:
        """Why it is deleted, in words."""
        return f"beyond keep = {self.keep}"


def prunable(
    targets: Iterable[Target], rules: Sequence[Rule], keep: int | None = None
) -> list[Prunable]:
    """Return the versions beyond the newest, the oldest push first.

    With `keep`, all versions of an app count together. Without, each rule's own `keep` counts the
    versions that this rule creates; versions of no rule with a `keep` are kept. At least one
    version is kept, and always the version reported last: no push deletes its own version.
    """
    own, kept = _own(targets, rules)
    groups = [(own, keep)] if keep is not None else _by_rule(own, rules)
    going = [
        Prunable(one, number)
        for group, number in groups
        for one, found in _judged(group, number, kept)
        if found is Retention.BEYOND_KEEP
    ]
    return sorted(going, key=lambda one: _age(one.target))


def why_kept(targets: Iterable[Target], rules: Sequence[Rule]) -> dict[str, Retention]:
    """Return why each counted version is kept, by name, or that it is beyond its rule's `keep`.

    It is the decision of `prunable` without `keep`, for all versions.
    """
    own, kept = _own(targets, rules)
    found = {one.version: kept(one) or Retention.NO_KEEP for one in own}
    for group, keep in _by_rule(own, rules):
        found |= {one.version: why for one, why in _judged(group, keep, kept)}
    return found


def _own(
    targets: Iterable[Target], rules: Sequence[Rule]
) -> tuple[list[Target], Callable[[Target], Retention | None]]:
    """Return the versions that count, by age, and what keeps one of them that is beyond `keep`."""
    everything = [one for one in targets if one.deleted_at is None]
    channels = channel_names(rules)
    held = {one.image for one in everything if one.mode != Mode.CREATE or one.version in channels}

    def kept(one: Target) -> Retention | None:
        return Retention.CHANNEL if one.image in held else _naming(one.version, rules)

    return sorted((one for one in everything if _counts(one)), key=_age), kept


def _judged(
    group: Sequence[Target], keep: int, kept: Callable[[Target], Retention | None]
) -> Iterator[tuple[Target, Retention]]:
    """Yield what retention does with each version of a group, which is sorted by age."""
    reported_last = max((one.registration for one in group), default="")
    beyond = max(0, len(group) - max(1, keep))
    for place, one in enumerate(group):
        if place >= beyond:
            yield one, Retention.NEWEST
        elif one.registration and one.registration == reported_last:
            yield one, Retention.REPORTED_LAST
        else:
            yield one, kept(one) or Retention.BEYOND_KEEP


def _naming(version: str, rules: Iterable[Rule]) -> Retention | None:
    """Return whether a rule of the app pins this version, or names it to copy or to move it."""
    named = None
    for rule in rules:
        if any(fnmatchcase(version, pin) for pin in rule.pin):
            return Retention.PINNED
        if version == rule.copy_from or version in rule.channels:
            named = Retention.NAMED
    return named


def channel_names(rules: Iterable[Rule]) -> set[str]:
    """Return the version names that are channels."""
    return {channel for rule in rules for channel in rule.channels}


def _counts(one: Target) -> bool:
    return one.created_here and one.mode == Mode.CREATE and bool(one.made_at) and not one.by_hand


def _age(one: Target) -> tuple[int, str, int, str]:
    """Sort by push time, not by creation time: catch-up may add older tags later.

    Docker Hub's times are whole seconds: within a second, the push recorded later is newer.
    """
    return one.push_time // 1000, one.registration, one.made_at or 0, one.version


def _by_rule(own: Sequence[Target], rules: Sequence[Rule]) -> list[tuple[list[Target], int]]:
    groups: dict[str, list[Target]] = {}
    for one in own:
        rule = next((rule for rule in rules if _makes(rule, one)), None)
        if rule is not None:
            groups.setdefault(rule.name, []).append(one)
    return [(groups.get(rule.name, []), rule.keep) for rule in rules if rule.keep]


def _makes(rule: Rule, one: Target) -> bool:
    """Return whether the current rule creates this version from its tag."""
    return (
        rule.versions
        and rule.repository == one.repository
        and rule.tags.takes(one.tag)
        and names_target(rule, Mode.CREATE, one.tag, rule.app, one.version)
    )

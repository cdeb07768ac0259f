"""Rules, and their evaluation: rule + push → the desired targets.

Every rule of the repository is evaluated; each match creates its own registration. For one target
the first rule in the file wins.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from string import Formatter
from typing import NamedTuple

import msgspec

from receiver.dockerhub.webhook import Push, named_as_artifact, skip_reason
from receiver.edgegap.plans import DesiredVersion
from receiver.errors import BadVersionName
from receiver.images import ImageReference, Login
from receiver.reasons import Reason, Verdict, explain
from receiver.rules.channel_order import Channel
from receiver.rules.tag_patterns import LATEST, Globs, TagPattern, may_overlap
from receiver.rules.trial import Trial
from receiver.secret import Secret

TEMPLATE_FIELDS = frozenset({"tag", "group", "project"})
MAX_VERSION_NAME = 64
KEPT_OF_LONG_NAME = 55
DIGITS_OF_LONG_NAME = 8
MAX_EXPLAINED = 5  # rules, in one sentence

VERSION_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*"
_VERSION_NAME = re.compile(VERSION_NAME, re.ASCII)


class TargetKey(NamedTuple):
    """An app, and the name of one of its versions or channels."""

    app: str
    name: str


class Mode(StrEnum):
    """What a registration does: create the version of a tag, move a channel, try a version."""

    CREATE = "create"
    CHANNEL = "channel"
    TRIAL = "trial"


class OnOverwrite(StrEnum):
    """What to do when a tag was overwritten with a new image; only MOVE lets it move channels."""

    WARN = "warn"
    PARK = "park"
    MOVE = "move"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: which pushes of a repository become which version of which app.

    `settings` holds Edgegap's own field names, read and checked; each overrides what is copied.
    `max_image` is in bytes.
    `leave_out` lists fields that need not be copied, and `pull_profiles` those that are linked to
    each version, as `endpoint/profile`. `versions` is False if no
    version is created and only `channels` are moved; these are names, and `options` holds the
    channels that have a `[[channel]]` table.
    """

    repository: str
    app: str
    name: str
    tags: TagPattern = field(default_factory=Globs)
    version: str = "{tag}"
    versions: bool = True
    copy_from: str = "newest"
    on_overwrite: OnOverwrite = OnOverwrite.WARN
    preflight: bool = True
    max_image: int | None = None
    channels: tuple[str, ...] = ()
    trial: Trial | None = None
    pull_profiles: tuple[str, ...] = ()
    keep: int | None = None
    pin: tuple[str, ...] = ()
    make_room: bool = False
    leave_out: tuple[str, ...] = ()
    login: Login | None = None
    settings: Mapping[str, object] = field(default_factory=dict, repr=False)
    options: tuple[Channel, ...] = ()

    def channel(self, name: str) -> Channel:
        """Return one of the rule's channels with its options."""
        found = (channel for channel in self.options if channel.name == name)
        return next(found, Channel(self.app, name))

    def wanted(
        self, app: str, version: str, image: ImageReference, api_token: Secret | None
    ) -> DesiredVersion:
        """Return the version or the channel that the rule requests of Edgegap for an image."""
        return DesiredVersion(
            app=app,
            version=version,
            rule=self.name,
            image=image,
            settings=self.settings,
            leave_out=self.leave_out,
            login=self.login,
            api_token=api_token,
        )


class Match(msgspec.Struct, frozen=True):
    """One rule that matches a push, and its target.

    `invalid` is the error if Edgegap would not accept the version name, or if it is a channel's.
    `to_try`: the rule tries its versions.
    """

    rule: str
    app: str
    version: str
    mode: Mode = Mode.CREATE
    invalid: str | None = None
    to_try: bool = False


class Decision(msgspec.Struct, frozen=True):
    """The decision of the rules on a push: the verdict, the reason, and the matches if accepted."""

    verdict: Verdict
    reason: Reason | None = None
    sentence: str = ""
    matches: tuple[Match, ...] = ()


def rule_on(push: Push, rules: Iterable[Rule]) -> Decision:
    """Evaluate the rules for a push: accepted with its matches, or ignored with the reason."""
    reason = skip_reason(push)
    if reason is not None or push.tag is None:
        return _ignored(reason or Reason.NO_TAG, push)
    rules = tuple(rules)
    own = [rule for rule in rules if rule.repository == push.repository]
    if not own:
        return _ignored(named_as_artifact(push.tag) or Reason.NO_RULE, push)
    matches: dict[TargetKey, Match] = {}
    for rule in own:
        if takes(rule, push.tag):
            version = (_no_channel(match_of(rule, push.tag), rules),)
            for match in version if rule.versions else channels_of(rule, push.tag):
                first = matches.get(TargetKey(match.app, match.version), match)
                if first is match or (first.invalid and not match.invalid):
                    matches[TargetKey(match.app, match.version)] = match
    if not matches:
        if push.tag == LATEST:
            return _ignored(Reason.LATEST_NOT_NAMED, push)
        artifact = named_as_artifact(push.tag)
        if artifact is not None:
            return _ignored(artifact, push)
        return _ignored(Reason.NO_RULE_MATCHES, push, _why_none_matches(own, push.tag))
    return Decision(verdict=Verdict.ACCEPTED, matches=tuple(matches.values()))


def takes(rule: Rule, tag: str) -> bool:
    """Return whether the rule matches the tag.

    A tag named as a build cache or a signature must be listed in `tags`; preflight then reads its
    content.
    """
    if named_as_artifact(tag) is not None and not (
        isinstance(rule.tags, Globs) and rule.tags.lists(tag)
    ):
        return False
    return rule.tags.takes(tag)


def match_of(rule: Rule, tag: str) -> Match:
    """Return the version that the rule creates for a tag that it matches."""
    try:
        name, invalid = version_name(rule, tag), None
    except BadVersionName as error:
        name, invalid = error.name, str(error)
    to_try = rule.trial is not None
    return Match(rule=rule.name, app=rule.app, version=name, invalid=invalid, to_try=to_try)


def _no_channel(match: Match, rules: Sequence[Rule]) -> Match:
    """Return the match as invalid if its version is a channel: a push under that tag moves none."""
    names = {name.casefold() for name in moving_versions(rules, match.app)}
    if match.invalid is not None or match.version.casefold() not in names:
        return match
    sentence = (
        f"The rule {match.rule} gives this tag the version name {match.version!r}, which is a "
        f"channel of the app {match.app}. Push under another tag, or change `version` in the rule "
        "and reload; with versions = false a push moves the rule's channels only."
    )
    return msgspec.structs.replace(match, invalid=sentence)


def channels_of(rule: Rule, tag: str, source: str | None = None) -> tuple[Match, ...]:
    """Return the rule's channels that a push of the tag may move, once `source` has moved to it."""
    found = (rule.channel(name) for name in rule.channels)
    return tuple(
        Match(rule.name, rule.app, channel.name, Mode.CHANNEL)
        for channel in found
        if channel.source == source and channel.takes(tag)
    )


def moving_versions(rules: Iterable[Rule], app: str) -> frozenset[str]:
    """Return the names of an app's channels: no settings are copied from them by default.

    A channel may have the settings of any of its pushes, so they are copied only by name.
    """
    return frozenset(name for rule in rules if rule.app == app for name in rule.channels)


def rules_moving(rules: Iterable[Rule], app: str, channel: str, repository: str) -> list[Rule]:
    """Return the rules that move the channel to images of the repository."""
    of_app = (rule for rule in rules if rule.app == app and channel in rule.channels)
    return [rule for rule in of_app if rule.repository == repository]


def names_target(rule: Rule, mode: Mode, tag: str, app: str, version: str) -> bool:
    """Return whether the present rule maps this tag to this target."""
    if mode is Mode.CHANNEL:
        return rule.app == app and version in rule.channels
    if mode is Mode.TRIAL:  # also of a version that a person names
        return rule.app == app
    match = match_of(rule, tag)
    return rule.versions and (match.app, match.version) == (app, version)


def successor(rules: Iterable[Rule], match: Match, repository: str, tag: str) -> Rule | None:
    """Return the first rule that maps the tag to the same target, None if there is none.

    A rule that was renamed has itself as its successor.
    """
    return next(
        (
            rule
            for rule in rules
            if rule.repository == repository
            and takes(rule, tag)
            and names_target(rule, match.mode, tag, match.app, match.version)
        ),
        None,
    )


def version_name(rule: Rule, tag: str) -> str:
    """Return the version name for a tag under a rule.

    Edgegap accepts 1 to 64 characters; a longer name keeps its first 55, a dash and 8 hex digits of
    its SHA-256. Raises BadVersionName if the name contains characters that Edgegap does not accept.
    """
    group, _, project = rule.repository.partition("/")
    name = rule.version.format(tag=tag, group=group, project=project)
    if _VERSION_NAME.fullmatch(name) is None:
        sentence = explain(Reason.VERSION_NAME_INVALID, rule=rule.name, version=name)
        raise BadVersionName(name, sentence)
    if len(name) <= MAX_VERSION_NAME:
        return name
    digits = hashlib.sha256(name.encode()).hexdigest()[:DIGITS_OF_LONG_NAME]
    return f"{name[:KEPT_OF_LONG_NAME]}-{digits}"


def version_name_fault(name: str) -> str | None:
    """Return why Edgegap does not accept a version name; None if it does."""
    if _VERSION_NAME.fullmatch(name) is None:
        return f"{name!r} is not a version name: letters, digits and . _ - only, not . _ - first"
    if len(name) > MAX_VERSION_NAME:
        return f"{name!r} is over {MAX_VERSION_NAME} characters long"
    return None


def template_fault(template: str) -> str | None:
    """Return the error of a version template; None if it is valid.

    Only plain `{tag}`, `{group}` and `{project}`: no attributes, indexes, widths or conversions.
    """
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        return str(error)
    for literal, name, spec, conversion in parts:
        if name is not None and (name not in TEMPLATE_FIELDS or spec or conversion):
            return f"{{{name}}} is not one of {{tag}}, {{group}} and {{project}}, written plainly"
        if literal and re.fullmatch(r"[A-Za-z0-9._-]+", literal, re.ASCII) is None:
            return f"{literal!r} contains characters that Edgegap does not accept in a version name"
    return None if template else "it is empty"


def _pairs(rules: Sequence[Rule]) -> Iterator[tuple[Rule, Rule]]:
    """Yield each two rules, the one that is first in the file before the other."""
    return ((first, later) for place, later in enumerate(rules) for first in rules[:place])


def shadowed(rules: Sequence[Rule]) -> list[tuple[Rule, Rule]]:
    """Return pairs (first, later) of rules that map every tag to the same target."""
    return [
        (first, later)
        for first, later in _pairs(rules)
        if first.versions
        and later.versions
        and (first.repository, first.app, first.version)
        == (later.repository, later.app, later.version)
    ]


def may_collide(rules: Sequence[Rule]) -> list[tuple[Rule, Rule]]:
    """Return pairs of rules of two repositories that give equal tags one version name in one app.

    Pairs whose tag patterns cannot match the same tag are left out.
    """
    return [
        (first, later)
        for first, later in _pairs(rules)
        if first.repository != later.repository
        and first.app == later.app
        and _name_of_any_tag(first) == _name_of_any_tag(later)
        and may_overlap(first.tags, later.tags)
    ]


def channels_of_two_repositories(rules: Sequence[Rule]) -> list[tuple[Rule, Rule, str]]:
    """Return pairs of rules of two repositories that move one channel, with its name."""
    return [
        (first, later, channel)
        for first, later in _pairs(rules)
        if first.repository != later.repository and first.app == later.app
        for channel in first.channels
        if channel in later.channels
    ]


def colliding_names(rules: Sequence[Rule]) -> list[tuple[str, str, str]]:
    """Return (app, name, other name) of versions that Edgegap may treat as the same version.

    Whether Edgegap's names are case-sensitive (`Staging`, `staging`) is not documented. Only
    literal names in the rules are compared: channels, and version names without the tag. A version
    with exactly the name of another rule's channel is returned as (app, name, name).
    """
    known: dict[tuple[str, str], tuple[str, bool]] = {}
    found: list[tuple[str, str, str]] = []
    for rule in rules:
        literal = _name_of_any_tag(rule)
        names: list[tuple[str, bool]] = [(name, True) for name in rule.channels]
        if rule.versions and "{tag}" not in literal and literal not in rule.channels:
            names.append((literal, False))
        for name in names:
            first = known.setdefault((rule.app, name[0].casefold()), name)
            if first != name:
                found.append((rule.app, first[0], name[0]))
    return found


def _name_of_any_tag(rule: Rule) -> str:
    group, _, project = rule.repository.partition("/")
    return rule.version.format(tag="{tag}", group=group, project=project)


def _why_none_matches(rules: Iterable[Rule], tag: str) -> str:
    whys = [f"{rule.name}: {rule.tags.why_not(tag)}" for rule in rules]
    more = f"; and {len(whys) - MAX_EXPLAINED} more" if len(whys) > MAX_EXPLAINED else ""
    return "; ".join(whys[:MAX_EXPLAINED]) + more


def _ignored(reason: Reason, push: Push, detail: str = "") -> Decision:
    sentence = explain(
        reason,
        repository=push.repository,
        tag=push.tag,
        media_type=push.media_type,
        detail=detail,
    )
    return Decision(verdict=Verdict.IGNORED, reason=reason, sentence=sentence)

"""The rules as the API and the page show them, and what they do with an image."""

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from receiver.dockerhub.webhook import Push, named_as_artifact
from receiver.images import parse_image_reference
from receiver.ledger.gates import ALL, paused
from receiver.ledger.views import (
    App,
    ReasonWord,
    Repository,
    Sentence,
    Tag,
    VersionName,
    Why,
    described,
)
from receiver.reasons import Verdict
from receiver.rules.channel_order import Follow, Need
from receiver.rules.rule import (
    Match,
    OnOverwrite,
    Rule,
    TargetKey,
    channels_of,
    match_of,
    rule_on,
    takes,
)
from receiver.rules.tag_patterns import Globs, TagPattern
from receiver.rules.trial import OnFailure
from receiver.service import Service
from receiver.timestamps import Time
from receiver.web.bodies import CheckQuery
from receiver.web.messages import json_response
from receiver.web.operation import Group, api, returns

TagsInWords = Annotated[
    str, described("The tags that it matches.", "versions 1.x, no pre-releases")
]


class RuleChannel(msgspec.Struct, frozen=True):
    """A channel that a rule moves."""

    name: Annotated[str, described("The version name that moves.", "staging")]
    follow: Annotated[Follow, described("In which order pushes move it.")]
    tags: Annotated[TagsInWords | None, described("Null if every tag of the rule may move it.")]
    source: Annotated[
        str | None, described("The channel whose image it takes; null for every push.", "staging")
    ]
    needs: Annotated[tuple[Need, ...], described("What a move waits for.")]


class ShownRule(msgspec.Struct, frozen=True):
    """A rule: which pushes it matches, and what it does with them."""

    rule: Annotated[str, described("Its name.", "releases")]
    repository: Repository
    app: App
    tags: TagsInWords
    version: Annotated[
        str | None,
        described("The version name it creates; null if it only moves channels.", "{tag}"),
    ]
    channels: tuple[RuleChannel, ...]
    keep: Annotated[int | None, described("The number of versions kept; null for all.", 10)]
    pin: Annotated[tuple[str, ...], described("Versions that are never deleted.")]
    on_overwrite: Annotated[OnOverwrite, described("What happens if a tag is overwritten.")]
    preflight: Annotated[bool, described("Whether the image is checked in the registry first.")]
    trial: Annotated[
        OnFailure | None, described("What a failed trial does; null if versions are not tried.")
    ]
    paused_at: Annotated[Time | None, described("Null if its registrations are not paused.")]


class RuleList(msgspec.Struct, frozen=True):
    """All rules, in the order of the configuration: for one target, the first one wins."""

    rules: tuple[ShownRule, ...]


class TriedRule(msgspec.Struct, frozen=True):
    """What a rule of the repository does with the tag."""

    rule: Annotated[str, described("Its name.", "releases")]
    app: App
    version: Annotated[VersionName | None, described("The version; null if it creates none.")] = (
        None
    )
    channels: Annotated[tuple[str, ...], described("The channels that may move to it.")] = ()
    why_not: Annotated[str, described("Why it does not match; empty if it does.")] = ""
    invalid: Annotated[str, described("Why the version would be parked; empty if not.")] = ""


class CheckedImage(msgspec.Struct, frozen=True):
    """The decision of the rules on an image; Docker Hub and Edgegap are not asked."""

    repository: Repository
    tag: Tag
    verdict: Verdict
    reason: Why
    sentence: Sentence
    rules: Annotated[tuple[TriedRule, ...], described("Each rule of the repository.")]


@api(
    "GET /api/rules", Group.RULES,
    returns(RuleList, "All rules, in the order of the configuration."),
)  # fmt: skip
async def list_rules(service: Service, _: Request) -> Response:
    """List the rules: what each matches, and what it does."""
    since = await service.ledger.read(paused)
    return json_response(RuleList(shown_rules(service.settings.rules, since)))


@api(
    "GET /api/check", Group.RULES,
    returns(CheckedImage, "The verdict, and what each rule of the repository does."),
)  # fmt: skip
async def check_image(service: Service, _: Request, query: CheckQuery) -> Response:
    """Check which rules match an image.

    Only the rules decide: nothing is recorded, and neither Docker Hub nor Edgegap is asked.
    """
    image = parse_image_reference(query.image)
    return json_response(checked(image.repository, image.tag, service.settings.rules))


def shown_rules(rules: Sequence[Rule], paused: Mapping[str, Time]) -> tuple[ShownRule, ...]:
    """Return the rules; `paused`: since when, by repository."""
    everything = paused.get(ALL)
    return tuple(_shown(rule, everything or paused.get(rule.repository)) for rule in rules)


def _shown(rule: Rule, paused_at: Time | None) -> ShownRule:
    return ShownRule(
        rule=rule.name,
        repository=rule.repository,
        app=rule.app,
        tags=_in_words(rule.tags),
        version=rule.version if rule.versions else None,
        channels=tuple(_channel(rule, name) for name in rule.channels),
        keep=rule.keep,
        pin=rule.pin,
        on_overwrite=rule.on_overwrite,
        preflight=rule.preflight,
        trial=None if rule.trial is None else rule.trial.on_failure,
        paused_at=paused_at,
    )


def _channel(rule: Rule, name: str) -> RuleChannel:
    channel = rule.channel(name)
    tags = None if channel.tags is None else _in_words(channel.tags)
    needs = tuple(need for need in Need if need in channel.needs)
    return RuleChannel(name, channel.follow, tags, channel.source, needs)


def _in_words(pattern: TagPattern) -> str:
    if not isinstance(pattern, Globs):
        also = " and pre-releases" if pattern.prerelease else ", no pre-releases"
        return f"versions {pattern.text}{also}"
    matches = ", ".join(pattern.positive) or "all tags but latest"
    return f"{matches}, except {', '.join(pattern.negative)}" if pattern.negative else matches


def checked(repository: str, tag: str, rules: Sequence[Rule]) -> CheckedImage:
    """Return which rules match an image, as which version, or why not."""
    decision = rule_on(Push(repository, tag), rules)
    first = {TargetKey(one.app, one.version): one for one in decision.matches}
    own = [rule for rule in rules if rule.repository == repository]
    reason = None if decision.reason is None else ReasonWord(decision.reason)
    tried = tuple(_tried(rule, tag, first) for rule in own)
    return CheckedImage(repository, tag, decision.verdict, reason, decision.sentence, tried)


def _tried(rule: Rule, tag: str, first: Mapping[TargetKey, Match]) -> TriedRule:
    if not takes(rule, tag):
        artifact = named_as_artifact(tag)
        named = f"a tag of this name usually is no image ({artifact})" if artifact else ""
        return TriedRule(rule.name, rule.app, why_not=rule.tags.why_not(tag) or named)
    channels = tuple(match.version for match in channels_of(rule, tag))
    if not rule.versions:
        return TriedRule(rule.name, rule.app, channels=channels)
    version = match_of(rule, tag).version
    match = first.get(TargetKey(rule.app, version))
    if match is not None and match.rule != rule.name:
        why_not = f"the rule {match.rule} comes first and creates this version"
        return TriedRule(rule.name, rule.app, why_not=why_not)
    invalid = "" if match is None else match.invalid or ""
    return TriedRule(rule.name, rule.app, version, channels, invalid=invalid)

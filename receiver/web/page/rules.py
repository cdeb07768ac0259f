"""The page of the rules: what each matches, its link, and what would happen with a tag."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from starlette.requests import Request
from starlette.responses import Response

from receiver.dockerhub.webhook import Push, named_as_artifact
from receiver.ledger.views import RepositoryOverview
from receiver.rules.rule import Match, Rule, channels_of, match_of, rule_on, takes
from receiver.rules.tag_patterns import Globs, TagPattern
from receiver.service import Service
from receiver.web.overview import overview_of
from receiver.web.page.answers import answer_page, short_text
from receiver.web.page.sessions import Session


@dataclass(frozen=True, slots=True)
class Tried:
    """What a rule does with a tag: the version and the channels, or why it does not match."""

    rule: Rule
    match: Match | None
    channels: tuple[str, ...]
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class RepositoryRules:
    """A repository with its link and its rules, each with the tags that it matches."""

    repository: RepositoryOverview
    link: str
    rules: tuple[tuple[Rule, str], ...]
    tried: tuple[Tried, ...]
    verdict: str = ""
    sentence: str = ""


async def show_rules(service: Service, request: Request, session: Session) -> Response:
    """Show the rules by repository, and the result of a tag if one is given."""
    settings = service.settings
    tag = short_text(request.query_params.get("tag", ""))
    overview = await overview_of(service)
    base = settings.public_url or str(request.base_url)
    known = {one.repository: one for one in overview.repositories}
    ordered = sorted(settings.rules, key=lambda rule: rule.repository)
    shown = [
        repository_rules(
            known[name], service.links.link(base, name), list(rules), settings.rules, tag
        )
        for name, rules in groupby(ordered, key=lambda rule: rule.repository)
        if name in known
    ]
    return answer_page(
        request, session, "rules.html",
        repositories=shown, tag=tag, pauses=overview.pauses,
        catching_up=settings.catch_up_every is not None,
    )  # fmt: skip


def repository_rules(
    repository: RepositoryOverview, link: str, own: Sequence[Rule], rules: Sequence[Rule], tag: str
) -> RepositoryRules:
    """Return a repository's rules, and what they do with the tag, if there is one."""
    with_tags = tuple((rule, tags_in_words(rule.tags)) for rule in own)
    if not tag:
        return RepositoryRules(repository, link, with_tags, ())
    decision = rule_on(Push(repository.repository, tag), rules)
    tried = tuple(try_tag(rule, tag) for rule in own)
    verdict, sentence = decision.verdict.value, decision.sentence
    return RepositoryRules(repository, link, with_tags, tried, verdict, sentence)


def try_tag(rule: Rule, tag: str) -> Tried:
    """Return what the rule does with the tag."""
    if not takes(rule, tag):
        artifact = named_as_artifact(tag)
        named = f"a tag of this name usually is no image ({artifact})" if artifact else ""
        return Tried(rule, None, (), rule.tags.why_not(tag) or named)
    channels = tuple(match.version for match in channels_of(rule, tag))
    return Tried(rule, match_of(rule, tag) if rule.versions else None, channels)


def tags_in_words(pattern: TagPattern) -> str:
    """Return which tags a filter matches."""
    if not isinstance(pattern, Globs):
        also = " and pre-releases" if pattern.prerelease else ", no pre-releases"
        return f"versions {pattern.text}{also}"
    matches = ", ".join(pattern.positive) or "all tags but latest"
    return f"{matches}, except {', '.join(pattern.negative)}" if pattern.negative else matches

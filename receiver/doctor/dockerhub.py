"""The checks of Docker Hub: logins, repositories, newest images, pull limits, webhooks.

Only doctor requests more than read access, to check whether the login may push; a push never does.
"""

from collections.abc import AsyncIterator, Sequence

from receiver.config.settings import Settings
from receiver.dockerhub.api import Hub, HubForbidden, RepositoryAdmin
from receiver.dockerhub.http import DockerHubUnavailable
from receiver.dockerhub.records import Tag
from receiver.dockerhub.registry import Pulls
from receiver.dockerhub.webhook import Push, skip_reason
from receiver.doctor.finding import Finding, failed, passed, warned
from receiver.images import ImageReference, Login
from receiver.pipeline.preflight import DockerHubOut, ImageOk, ImageRejected, Preflight, too_large
from receiver.rules.rule import OnOverwrite, Rule, takes
from receiver.signing import LinkSigner
from receiver.upkeep.connect import OurWebhooks, our_webhooks

PERSONAL_LIMIT, ANONYMOUS_LIMIT = 200, 100  # per 6 hours: docs.docker.com/docker-hub/usage/pulls
NOT_FOUND = 404
MAX_PAGES = 10  # of a repository's tags


async def examine_docker_hub(rules: Sequence[Rule], preflight: Preflight) -> AsyncIterator[Finding]:
    """Check each login, each repository with its newest tag, and each login's pull limit."""
    logins: dict[Login, str] = {}
    for rule in rules:
        if rule.login is not None:
            logins.setdefault(rule.login, rule.repository)
    if not logins:
        hint = "For private repositories set DOCKERHUB_USERNAME and DOCKERHUB_TOKEN"
        yield warned("Docker Hub login", "none: public repositories only", hint)
    for login, repository in logins.items():
        yield await _login(preflight, login, repository)
    asked = {(rule.repository, rule.tags, rule.login, rule.max_image): rule for rule in rules}
    for rule in asked.values():
        async for finding in _repository(preflight, rule):
            yield finding
    for asking, pulls in preflight.registry.limits.by_login.items():
        yield _pull_limit(asking, pulls)


async def _login(preflight: Preflight, login: Login, repository: str) -> Finding:
    what = f"Docker Hub login {login.username}"
    try:
        may_push = await preflight.registry.may_push(repository, login)
    except DockerHubUnavailable as error:
        return warned(what, f"Docker Hub could not be asked: {error}", "Try again later")
    if may_push is None:
        hint = f"Check {login.variables}: make a read-only access token on Docker Hub and set it"
        return failed(what, "refused", hint)
    if may_push:
        hint = "Make a read-only access token: Edgegap keeps it, and needs no more"
        return warned(what, "accepted, but it may push", hint)
    return passed(what, "accepted, and read-only")


async def _repository(preflight: Preflight, rule: Rule) -> AsyncIterator[Finding]:
    what = f"repository {rule.repository}"
    try:
        tag = await _newest_tag(preflight, rule)
    except HubForbidden as refused:
        yield failed(what, str(refused), _fix_for(refused, rule))
        return
    except DockerHubUnavailable as error:
        hint = "Run `receiver doctor` again in some minutes"
        yield warned(what, f"Docker Hub could not be asked now: {error}", hint)
        return
    if tag is None:
        yield warned(what, "reached; it has no tag that the rule takes yet", "Push one")
        return
    yield passed(what, f"reached; the newest tag that the rule takes is {tag}")
    newest = ImageReference(rule.repository, tag)
    findings = await preflight.check(newest, rule)
    image = f"image {rule.repository}:{tag}"
    match findings:
        case ImageOk():
            parking = too_large(newest, rule, findings.size)
            if parking is None:
                yield passed(image, "; ".join(findings.notes))
            else:
                yield failed(image, parking.reason.value, parking.sentence)
        case ImageRejected():
            yield failed(image, findings.parking.reason.value, findings.parking.sentence)
        case DockerHubOut():
            yield warned(image, findings.detail, "Try again later")
        case _:
            yield failed(image, "the registry has no such tag", "Push it again")


def _fix_for(refused: HubForbidden, rule: Rule) -> str:
    if refused.status == NOT_FOUND:
        may = "that its login may read it" if rule.login else "give it a login if it is private"
        return f"Check the name in the rule, and {may}"
    if rule.login is None:
        return "Give the rule a login that may read it: DOCKERHUB_USERNAME and DOCKERHUB_TOKEN"
    return f"Check {rule.login.variables}: the token must be valid, and may read the repository"


async def _newest_tag(preflight: Preflight, rule: Rule) -> str | None:
    """Return the newest tag that the rule matches, independent of Docker Hub's sort order."""
    newest: Tag | None = None
    pages = 0
    async for page in preflight.hub.pages(rule.repository, rule.login):
        taken = [tag for tag in page.tags if _takes(rule, tag)]
        newest = max([*([newest] if newest else []), *taken], key=_pushed_at, default=None)
        times = [_pushed_at(tag) for tag in page.tags]
        pages += 1
        if pages == MAX_PAGES or (newest is not None and times == sorted(times, reverse=True)):
            break
    return None if newest is None else newest.tag


def _takes(rule: Rule, tag: Tag) -> bool:
    push = Push(rule.repository, tag.tag, media_type=tag.media_type)
    return skip_reason(push) is None and takes(rule, tag.tag)


def _pushed_at(tag: Tag) -> int:
    return tag.pushed_at or 0


def _pull_limit(login: Login | None, pulls: Pulls) -> Finding:
    limit, whose = pulls.limit, "without a login" if login is None else f"of {login.username}"
    what = f"Docker Hub pull limit {whose}"
    hint = "Edgegap's own pulls meet the same kind of limit: a paid Docker Hub plan lifts it"
    if pulls.met:
        return warned(what, "used up: Docker Hub answers 429", hint)
    if limit is None:
        return passed(what, "none reported: a paid plan, or no image was seen")
    plan = {ANONYMOUS_LIMIT: "no login", PERSONAL_LIMIT: "a Personal account"}
    hours = limit.window_seconds / 3600
    found = f"{limit.remaining} of {limit.limit} left in {hours:g} h"
    return warned(what, f"{found} ({plan.get(limit.limit, 'a limited plan')})", hint)


async def examine_webhooks(settings: Settings, hub: Hub) -> AsyncIterator[Finding]:
    """Check for each repository that its webhook has the present link, and its tags stay.

    The login is that which pulls images. Docker does not document how webhooks are listed, nor
    which tokens may list them: if it is refused, nothing is wrong.
    """
    by_repository: dict[str, list[Rule]] = {}
    for rule in settings.rules:
        by_repository.setdefault(rule.repository, []).append(rule)
    links = settings.link_signer()
    for repository, rules in by_repository.items():
        login = next((rule.login for rule in rules if rule.login is not None), None)
        admin = RepositoryAdmin(hub, repository, login)
        if settings.public_url is not None and login is not None:
            yield await _webhook(admin, links, settings.public_url)
        finding = await _immutable_tags(admin, rules)
        if finding is not None:
            yield finding


async def _webhook(admin: RepositoryAdmin, links: LinkSigner, public_url: str) -> Finding:
    what = f"webhook of {admin.repository}"
    try:
        listed = await admin.webhooks()
    except DockerHubUnavailable as error:
        return passed(what, f"not checked, which needs more than a read-only token: {error}")
    return _judged(what, our_webhooks(listed, links, public_url, admin.repository), admin)


def _judged(what: str, found: OurWebhooks, admin: RepositoryAdmin) -> Finding:
    fix = f"Run `receiver connect {admin.repository}`"
    if found.outdated:
        named = _named([webhook.name for webhook in found.outdated])
        return warned(what, f"{named} has a revoked or outdated link", f"{fix}, which replaces it")
    if found.dead:
        named = _named([webhook.name for webhook in found.dead])
        hint = fix if not found.current else "Delete it on Docker Hub if nobody needs it"
        return warned(what, f"{named} has a link that this receiver refuses", hint)
    if found.current:
        return passed(what, f"{_named([found.current[0].name])} has the present link")
    if found.elsewhere:
        named = _named([webhook.name for webhook in found.elsewhere])
        return warned(what, f"{named} leads to another address than public_url", fix)
    return warned(what, "Docker Hub has none with this receiver's link", fix)


def _named(names: Sequence[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


async def _immutable_tags(admin: RepositoryAdmin, rules: Sequence[Rule]) -> Finding | None:
    """Return what Docker Hub says about overwriting tags; None if it says nothing."""
    what = f"tags of {admin.repository}"
    try:
        settings = await admin.immutable_tags()
    except DockerHubUnavailable:  # the check of the repository reports it
        return None
    if settings is None:
        return None
    if settings.enabled:
        return passed(what, f"immutable on Docker Hub: {', '.join(settings.rules) or 'all'}")
    found = "they can be overwritten: immutable tags are off on Docker Hub"
    if any(rule.on_overwrite is OnOverwrite.MOVE for rule in rules):
        return passed(what, f'{found}, as on_overwrite = "move" needs it')
    fix = f"Turn them on: `receiver connect {admin.repository} --immutable 'v?[0-9].*'`"
    return warned(what, found, fix)

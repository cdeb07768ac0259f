"""The checks of webhooks and immutable tags on Docker Hub, with the login that pulls images.

Docker does not document how webhooks are listed, nor which tokens may list them: if it is refused,
nothing is wrong.
"""

from collections.abc import AsyncIterator, Sequence

from receiver.config.settings import Settings
from receiver.dockerhub.administration import RepositoryAdmin
from receiver.dockerhub.api import Hub
from receiver.dockerhub.http import DockerHubUnavailable
from receiver.doctor.finding import Finding, passed, warned
from receiver.rules.rule import OnOverwrite, Rule
from receiver.signing import LinkSigner
from receiver.upkeep.own_webhooks import OurWebhooks, our_webhooks


async def examine_webhooks(settings: Settings, hub: Hub) -> AsyncIterator[Finding]:
    """Check for each repository that its webhook has the present link, and its tags stay."""
    by_repository: dict[str, list[Rule]] = {}
    for rule in settings.rules:
        by_repository.setdefault(rule.repository, []).append(rule)
    links = LinkSigner([key.reveal() for key in settings.secret_keys], settings.links)
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

"""Connects a repository on Docker Hub to this receiver: creates its webhook, sets immutable tags.

Each change is read back. Nothing is sent twice: after a call without a response, the list shows
whether it had an effect.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from receiver.dockerhub.administration import RepositoryAdmin, UnexpectedResponse
from receiver.dockerhub.http import DockerHubUnavailable
from receiver.dockerhub.immutable_tags import ImmutableTags
from receiver.dockerhub.webhook_list import Webhook, unused_name
from receiver.errors import ReceiverError
from receiver.signing import LinkSigner
from receiver.upkeep.own_webhooks import OurWebhooks, our_webhooks


class NotConnected(ReceiverError):
    """A change that Docker Hub accepted, but that is not there when it is read back."""


@dataclass(frozen=True, slots=True)
class Connection:
    """The webhook of a repository, and the webhooks with outdated links that were deleted.

    `problems` are outdated webhooks that could not be deleted; `notes` are webhooks to look at.
    """

    name: str
    created: bool
    deleted: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Immutability:
    """The settings of immutable tags, and the present tags that each new rule matches."""

    settings: ImmutableTags
    changed: bool
    matching: Mapping[str, Sequence[str]]


async def connect_repository(
    admin: RepositoryAdmin, links: LinkSigner, public_url: str
) -> Connection:
    """Create the webhook with the present link unless it exists, then delete outdated ones.

    In this order, so that no push is lost. Raises DockerHubUnavailable and NotConnected.
    """
    repository = admin.repository
    listed = await admin.webhooks()
    before = our_webhooks(listed, links, public_url, repository)
    found = before
    if not before.current:
        name = unused_name({webhook.name for webhook in listed})
        unanswered = await _create(admin, name, links.link(public_url, repository))
        found = our_webhooks(await admin.webhooks(), links, public_url, repository)
        if not found.current:
            raise unanswered or NotConnected(
                f"Docker Hub reported that the webhook of {repository} was created, but its list "
                "does not contain it"
            )
    deleted, problems = await _delete(admin, found.outdated)
    if deleted:
        found = our_webhooks(await admin.webhooks(), links, public_url, repository)
        there = {webhook.slug for webhook in found.outdated}
        problems += [
            f'Docker Hub reported that the webhook "{webhook.name}" was deleted, but its list '
            "still contains it: delete it there"
            for webhook in deleted
            if webhook.slug in there
        ]
        if not found.current:
            raise NotConnected(f"the webhook of {repository} is no longer in Docker Hub's list")
    return Connection(
        name=found.current[0].name,
        created=not before.current,
        deleted=tuple(webhook.name for webhook in deleted),
        problems=tuple(problems),
        notes=tuple(_notes(found)),
    )


async def _create(admin: RepositoryAdmin, name: str, link: str) -> DockerHubUnavailable | None:
    """Create the webhook; return the error if there was no response: it may exist anyway."""
    try:
        await admin.create_webhook(name, link)
    except UnexpectedResponse:
        raise
    except DockerHubUnavailable as error:
        return error
    return None


async def _delete(
    admin: RepositoryAdmin, outdated: Sequence[Webhook]
) -> tuple[list[Webhook], list[str]]:
    deleted: list[Webhook] = []
    problems: list[str] = []
    for webhook in outdated:
        left = f'the webhook "{webhook.name}" has an outdated link: delete it on Docker Hub'
        if webhook.slug is None or len(webhook.urls) > 1:
            problems.append(left)
            continue
        try:
            await admin.delete_webhook(webhook.slug)
        except UnexpectedResponse as error:
            problems.append(f"{left}. {error}\n{error.exact}")
        except DockerHubUnavailable as error:
            problems.append(f"{left}. Docker Hub could not be asked to: {error}")
        else:
            deleted.append(webhook)
    return deleted, problems


def _notes(found: OurWebhooks) -> list[str]:
    return [
        *(
            f'the webhook "{webhook.name}" has a link that this receiver refuses: delete it on '
            "Docker Hub if nobody needs it"
            for webhook in found.dead
        ),
        *(
            f'the webhook "{webhook.name}" leads to another address, with a link of this '
            "receiver's key: delete it on Docker Hub if no receiver runs there"
            for webhook in found.elsewhere
        ),
        *(
            f'the webhook "{webhook.name}" has the same link again: delete it on Docker Hub'
            for webhook in found.current[1:]
        ),
    ]


async def make_immutable(admin: RepositoryAdmin, rules: Sequence[str]) -> Immutability:
    """Add rules to the immutable tags, and turn them on. Raises as `connect_repository` does."""
    repository = admin.repository
    before = await admin.immutable_tags()
    if before is None:
        raise NotConnected(f"Docker Hub returns no settings of immutable tags for {repository}")
    matching = {rule: await admin.matching_tags(rule) for rule in rules}
    wanted = before.with_rules(rules)
    if wanted != before:
        await admin.set_immutable_tags(wanted)
        after = await admin.immutable_tags()
        if after is None or not after.enabled or set(after.rules) != set(wanted.rules):
            raise NotConnected(
                f"Docker Hub accepted the immutable tags of {repository}, but returns other "
                "settings now"
            )
    return Immutability(wanted, wanted != before, matching)

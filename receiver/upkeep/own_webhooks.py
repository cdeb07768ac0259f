"""Which of a repository's webhooks on Docker Hub are this receiver's. No I/O.

The link identifies them: its token is signed by us, and names the repository and its number.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import urlsplit

from receiver.dockerhub.webhook_list import Webhook
from receiver.errors import BadLink
from receiver.signing import PATH, LinkFault, LinkSigner

PORTS = {"http": 80, "https": 443}


class WebhookKind(StrEnum):
    """What a webhook is to this receiver."""

    CURRENT = "current"  # the repository's present link
    OUTDATED = "outdated"  # a link of ours with another number, or signed with an older key
    DEAD = "dead"  # at our address, but no link of ours
    ELSEWHERE = "elsewhere"  # a link of ours at another address
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class OurWebhooks:
    """The webhooks of a repository that concern this receiver."""

    current: tuple[Webhook, ...] = ()
    outdated: tuple[Webhook, ...] = ()
    dead: tuple[Webhook, ...] = ()
    elsewhere: tuple[Webhook, ...] = ()


def our_webhooks(
    webhooks: Iterable[Webhook], links: LinkSigner, public_url: str, repository: str
) -> OurWebhooks:
    """Sort the webhooks of a repository by their links."""
    found: dict[WebhookKind, list[Webhook]] = {kind: [] for kind in WebhookKind}
    for webhook in webhooks:
        kinds = {kind_of(url, links, public_url, repository) for url in webhook.urls}
        for kind in WebhookKind:
            if kind in kinds:
                found[kind].append(webhook)
                break
    return OurWebhooks(
        current=tuple(found[WebhookKind.CURRENT]),
        outdated=tuple(found[WebhookKind.OUTDATED]),
        dead=tuple(found[WebhookKind.DEAD]),
        elsewhere=tuple(found[WebhookKind.ELSEWHERE]),
    )


def kind_of(url: str, links: LinkSigner, public_url: str, repository: str) -> WebhookKind:
    """Return what a webhook with this URL is to the receiver at `public_url`."""
    if url == links.link(public_url, repository):
        return WebhookKind.CURRENT
    address, is_link, token = url.partition(PATH)
    if not is_link:
        return WebhookKind.OTHER
    here = _origin(address) is not None and _origin(address) == _origin(public_url)
    if _is_signed(token.rstrip("/"), links, repository):
        return WebhookKind.OUTDATED if here else WebhookKind.ELSEWHERE
    return WebhookKind.DEAD if here else WebhookKind.OTHER


def _is_signed(token: str, links: LinkSigner, repository: str) -> bool:
    """Return whether the token is one that we signed for the repository, revoked or not."""
    try:
        return links.repository(token) == repository
    except BadLink as error:
        return error.reason == LinkFault.REVOKED and error.repository == repository


def _origin(url: str) -> tuple[str, str, int | None] | None:
    """Return scheme, host and port; None if there is more, or if it is not a URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme)
    except ValueError:
        return None
    if parts.path.strip("/") or parts.query or not parts.hostname:
        return None
    return parts.scheme, parts.hostname, port

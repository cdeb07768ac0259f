"""Connects a repository on Docker Hub: its webhook, immutable tags, and a test push as proof.

The link identifies our webhooks: its token is signed by us, and names the repository and its
number. Each change is read back. Nothing is sent twice: after a call without a response, the list
shows whether it had an effect.
"""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from http import HTTPStatus
from urllib.parse import urlsplit

import httpx
import msgspec

from receiver.dockerhub.api import RepositoryAdmin, UnexpectedResponse
from receiver.dockerhub.http import DockerHubUnavailable
from receiver.dockerhub.records import ImmutableTags, Webhook, unused_name
from receiver.dockerhub.webhook import body_of_test_push
from receiver.errors import BadLink, LedgerError, ReceiverError
from receiver.http.client import NO_ANSWER, ask
from receiver.ledger.ledger import Ledger
from receiver.ledger.queries import find_push
from receiver.reasons import Reason
from receiver.signing import PATH, LinkFault, LinkSigner

PORTS = {"http": 80, "https": 443}
TEST_PUSH_SECONDS = 15.0
MAX_RESPONSE_BYTES = 64 * 1024
RUN_IT = "Start `receiver serve`; check public_url, and the tunnel or proxy in front"


class WebhookKind(StrEnum):
    """What a webhook is to this receiver."""

    CURRENT = "current"  # the repository's present link
    OUTDATED = "outdated"  # a link of ours with another number, or signed with an older key
    DEAD = "dead"  # at our address, but no link of ours
    ELSEWHERE = "elsewhere"  # a link of ours at another address
    OTHER = "other"


class OurWebhooks(msgspec.Struct, frozen=True):
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
    ours = {kind.value: tuple(some) for kind, some in found.items()}
    ours.pop(WebhookKind.OTHER)
    return OurWebhooks(**ours)


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


class NotConnected(ReceiverError):
    """A change that Docker Hub accepted, but that is not there when it is read back.

    `exact` is the response in question, with masked secrets.
    """

    def __init__(self, sentence: str, exact: str | None) -> None:
        super().__init__(sentence)
        self.exact = exact


class Connection(msgspec.Struct, frozen=True):
    """The webhook of a repository, and the webhooks with outdated links that were deleted.

    `problems` are outdated webhooks that could not be deleted; `notes` are webhooks to look at.
    """

    name: str
    created: bool
    deleted: tuple[str, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]


class Immutability(msgspec.Struct, frozen=True):
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
        missing = await _create(admin, name, links.link(public_url, repository))
        found = our_webhooks(await admin.webhooks(), links, public_url, repository)
        if not found.current:
            raise missing
    deleted, problems = await _delete(admin, found.outdated)
    if deleted:
        found = our_webhooks(await admin.webhooks(), links, public_url, repository)
        there = {webhook.slug for webhook in found.outdated}
        problems += [
            f'Docker Hub reported that the webhook "{webhook.name}" was deleted, but its list '
            f"still contains it: delete it there. The response was {exact}"
            for webhook, exact in deleted
            if webhook.slug in there
        ]
        if not found.current:
            sentence = f"the webhook of {repository} is no longer in Docker Hub's list"
            raise NotConnected(sentence, admin.last_response)
    return Connection(
        name=found.current[0].name,
        created=not before.current,
        deleted=tuple(webhook.name for webhook, _ in deleted),
        problems=tuple(problems),
        notes=tuple(_notes(found)),
    )


async def _create(
    admin: RepositoryAdmin, name: str, link: str
) -> DockerHubUnavailable | NotConnected:
    """Create the webhook; return the error to raise if the list does not contain it afterwards.

    It may contain it even if there was no response.
    """
    try:
        await admin.create_webhook(name, link)
    except UnexpectedResponse:
        raise
    except DockerHubUnavailable as error:
        return error
    return NotConnected(
        f"Docker Hub reported that the webhook of {admin.repository} was created, but its list "
        "does not contain it",
        admin.last_response,
    )


async def _delete(
    admin: RepositoryAdmin, outdated: Sequence[Webhook]
) -> tuple[list[tuple[Webhook, str | None]], list[str]]:
    """Delete the webhooks; return those with the responses, and what could not be deleted."""
    deleted: list[tuple[Webhook, str | None]] = []
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
            deleted.append((webhook, admin.last_response))
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
        sentence = f"Docker Hub returns no settings of immutable tags for {repository}"
        raise NotConnected(sentence, admin.last_response)
    matching = {rule: await admin.matching_tags(rule) for rule in rules}
    wanted = before.with_rules(rules)
    if wanted != before:
        await admin.set_immutable_tags(wanted)
        after = await admin.immutable_tags()
        if after is None or not after.enabled or set(after.rules) != set(wanted.rules):
            raise NotConnected(
                f"Docker Hub accepted the immutable tags of {repository}, but returns other "
                "settings now",
                admin.last_response,
            )
    return Immutability(wanted, wanted != before, matching)


class NotProven(ReceiverError):
    """A test push that did not reach this receiver."""


async def send_test_push(http: httpx.AsyncClient, link: str, repository: str) -> str:
    """Send a test push, and return the id of the delivery that it was recorded as.

    It is Docker Hub's documented body, sent to the link through the public URL. It registers
    nothing: its media type is not an image's, and every receiver ignores that. That it reaches this
    receiver is shown by the ledger, which has the delivery. Raises NotProven.
    """
    where = f"the public URL {_origin_of(link)}"
    body = body_of_test_push(repository, int(time.time()))
    try:
        response, content = await ask(
            http, "POST", link, largest=MAX_RESPONSE_BYTES, seconds=TEST_PUSH_SECONDS, body=body
        )
    except NO_ANSWER:
        raise NotProven(f"nothing answers at {where} from this machine. {RUN_IT}") from None
    try:
        answer = json.loads(content)
    except ValueError:
        answer = None
    status = response.status_code
    if isinstance(answer, dict):
        if status == HTTPStatus.OK and answer.get("reason") == Reason.TEST_PUSH:
            return str(answer.get("delivery"))
        if status == HTTPStatus.NOT_FOUND and answer.get("code") == "not_found":
            raise NotProven(
                f"a receiver answers at {where}, but it does not accept the link: it runs with "
                "another RECEIVER_SECRET_KEY or other [links]. Reload or restart it"
            )
        if status in {HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS}:
            raise NotProven(
                f"the receiver at {where} did not accept the test (HTTP {status}): see its log, "
                "and try again"
            )
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        raise NotProven(
            f"{where} redirects (HTTP {status}), which Docker Hub may not follow. Set public_url "
            "to the address that it redirects to"
        )
    raise NotProven(f"what answers at {where} is not this receiver (HTTP {status}). {RUN_IT}")


async def check_recorded(ledger: Ledger, delivery: str, link: str) -> None:
    """Check that this ledger has the delivery; raises NotProven."""
    try:
        ledger.open_readonly()
        row = await ledger.read(lambda tx: find_push(tx, delivery))
    except LedgerError as error:
        raise NotProven(
            f"a receiver recorded the test as {delivery}, but the ledger here cannot be read: "
            f"{error}. Run this command where the receiver runs"
        ) from None
    if row is None or str(row.reason) != Reason.TEST_PUSH:
        raise NotProven(
            f"the receiver at the public URL {_origin_of(link)} recorded the test as {delivery}, "
            "and the ledger here does not have it: another receiver with the same key answers "
            "there, "
            "or DATABASE_URL differs"
        )


def _origin_of(link: str) -> str:
    parts = urlsplit(link)
    return f"{parts.scheme}://{parts.netloc}"

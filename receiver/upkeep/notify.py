"""Sends notifications from the ledger in the background, with retries; they delay no version."""

import asyncio
import random
from collections.abc import Sequence

from receiver.backoff import backoff
from receiver.config.settings import LiveSettings
from receiver.ledger.approvals import approvable
from receiver.ledger.ledger import Ledger
from receiver.ledger.outbox import OutboxEntry, forget, lease_due, reschedule
from receiver.ledger.queries import find_push
from receiver.ledger.transaction import Tx
from receiver.logs import get_logger
from receiver.notifications.apprise import SECONDS, DeliveryFailed, send
from receiver.notifications.destinations import Message, Notice, NotificationEvent, message_of
from receiver.periodic import PeriodicTask
from receiver.pipeline.retry import GIVE_UP_AFTER
from receiver.signing import APPROVAL_SECONDS, ApprovalSigner, ApprovalToken

TEST = Message(
    "Receiver: a test",
    "This is a test. The receiver sends its notifications to this destination.",
)
GROUP_SECONDS = 5.0  # events with shorter gaps than this are sent as one message

log = get_logger()


class NotificationSender:
    """Sends the notifications that are due, grouped by destination and event."""

    def __init__(self, ledger: Ledger, current: LiveSettings, *, seconds: float = SECONDS) -> None:
        self._ledger = ledger
        self._current = current
        self._seconds = seconds  # the timeout of a message to a destination
        self.background = PeriodicTask(
            self._once, every=lambda: GROUP_SECONDS, fault="notice_fault"
        )

    async def _once(self) -> None:
        if self._current.settings.notices:
            await self.send_due(GROUP_SECONDS)

    async def send_due(self, quiet: float = 0.0) -> int:
        """Send the groups that are due and got no entry for `quiet` s; return the number sent."""
        groups: dict[tuple[str, NotificationEvent], list[OutboxEntry]] = {}
        for pending in await self._ledger.write(lambda tx: lease_due(tx, int(quiet * 1000))):
            groups.setdefault((pending.notice, pending.event), []).append(pending)
        # Concurrently: a slow destination would outlast the lease, and messages be sent twice.
        sent = await asyncio.gather(*(self._send(*kind, group) for kind, group in groups.items()))
        return sum(sent)

    async def _send(self, name: str, event: NotificationEvent, group: list[OutboxEntry]) -> bool:
        notice = next((one for one in self._current.settings.notices if one.name == name), None)
        identities = [pending.id for pending in group]
        if notice is None:  # no longer configured
            await self._ledger.write(lambda tx: forget(tx, identities))
            return False
        message = message_of(event, [await self._text(pending) for pending in group])
        try:
            await send(notice.url, message, seconds=self._seconds)
        except DeliveryFailed as error:
            await self._again(name, group, str(error))
            return False
        await self._ledger.write(lambda tx: forget(tx, identities))
        log.info("notice_sent", notice=name, kind=event, count=len(group))
        return True

    async def _text(self, pending: OutboxEntry) -> str:
        """Return the text to send, with the delivery that it is about, and how to approve it."""
        about, settings = pending.about, self._current.settings
        text = await self._with_delivery(pending.text, about)
        if about is None or pending.event is not NotificationEvent.APPROVAL:
            return text
        move = await self._ledger.read(lambda tx: approvable(tx, about))
        if move is None:
            return f"{text}\nIt does not wait for an approval any more."
        if settings.public_url is None or not settings.secret_keys:
            command = f"receiver promote {move.app} {move.channel} --to {move.image.tag}"
            return f"{text}\nTo approve it: `{command}`. Set public_url to get a link here."
        signer = ApprovalSigner([key.reveal() for key in settings.secret_keys])
        token = ApprovalToken(move, pending.created_at // 1000 + APPROVAL_SECONDS)
        link = signer.link(settings.public_url, token)
        return f"{text}\nSee it and approve it, within 7 days: {link}"

    async def _with_delivery(self, text: str, about: str | None) -> str:
        """Return a text with the delivery's ID and link, or with the page's link without one.

        There is no delivery if the event concerns none, or if it was purged.
        """
        push = None
        if about is not None:
            push = await self._ledger.read(lambda tx: find_push(tx, about))
        base = self._current.settings.public_url
        page = None if base is None else base.rstrip("/")
        if push is None:
            return text if page is None else f"{text}\nSee {page}/"
        link = "" if page is None else f": {page}/deliveries/{push.id}"
        return f"{text}\nDelivery {push.id}{link}"

    async def _again(self, name: str, group: list[OutboxEntry], why: str) -> None:
        tries = max(pending.tries for pending in group) + 1
        delay = max(1000, backoff(tries, random.random()))  # noqa: S311 - spreads retries

        def write(tx: Tx) -> int:
            late = [one.id for one in group if tx.now - one.created_at >= GIVE_UP_AFTER]
            young = [one.id for one in group if one.id not in late]
            reschedule(tx, young, tx.now + delay, tries=tries)
            forget(tx, late)
            return len(late)

        given_up = await self._ledger.write(write)
        log.warning("notice_not_sent", notice=name, why=why, given_up=given_up)


async def send_tests(notices: Sequence[Notice]) -> dict[str, str]:
    """Send a test message to each destination; return, by name, why not, empty if it was sent."""

    async def test(notice: Notice) -> str:
        try:
            await send(notice.url, TEST)
        except DeliveryFailed as error:
            return str(error)
        return ""

    results = await asyncio.gather(*(test(notice) for notice in notices))
    return {notice.name: why for notice, why in zip(notices, results, strict=True)}

"""Compares channels with Edgegap: at each catch-up, and after a PATCH without a response.

If Edgegap carried out an old PATCH late, the channel is moved back. If Edgegap shows the image of
our newest request, that image is recorded, whatever the response was. A change made outside the
receiver is logged, notified and shown; it is reverted only if the channel has `restore = true`.
"""

from collections.abc import Callable
from functools import partial
from http import HTTPStatus

from receiver.config.settings import LiveSettings, Settings
from receiver.edgegap.client import EdgegapClient
from receiver.edgegap.plans import image_in, image_of, is_disabled, same_image
from receiver.edgegap.responses import Answer, Body
from receiver.images import ImageReference
from receiver.ledger import gates
from receiver.ledger.channels import order, read_channel_state
from receiver.ledger.claims import read_claimed
from receiver.ledger.comparisons import (
    DISABLED,
    disabled_sentence,
    has_open_push,
    is_comparable,
    is_parked,
    is_superseded,
    late_moves,
    next_check,
    note_compared,
    to_compare,
)
from receiver.ledger.deliveries import RESTORE, NewDelivery, record, set_digest
from receiver.ledger.ledger import Ledger
from receiver.ledger.outbox import enqueue
from receiver.ledger.results import record_late_move
from receiver.ledger.targets import read_target, rule_to_repeat
from receiver.ledger.transaction import Tx
from receiver.logs import get_logger
from receiver.notifications.destinations import NotificationEvent
from receiver.periodic import PeriodicTask
from receiver.pipeline.finishing import follow_late_move
from receiver.reasons import Verdict
from receiver.rules.channel_order import (
    Channel,
    ChannelState,
    ManualAction,
    Source,
    may_accept_late_move,
    with_image_at_edgegap,
)
from receiver.rules.rule import Decision, Match, Mode, Rule, TargetKey, rules_moving

LOOK_EVERY_SECONDS = 10.0
NO_VERSION = "no version of this name"

log = get_logger()


class Drift:
    """Finds channels whose image at Edgegap differs from the image that the receiver set."""

    def __init__(
        self, ledger: Ledger, current: LiveSettings, client: EdgegapClient, wake: Callable[[], None]
    ) -> None:
        self._ledger = ledger
        self._current = current
        self._client = client
        self._wake = wake
        self.background = PeriodicTask(
            self._once, every=lambda: LOOK_EVERY_SECONDS, fault="compare_fault"
        )

    async def _once(self) -> None:
        """Compare the channels whose PATCH should have been answered by now."""
        due, now = await self._ledger.read(lambda tx: (next_check(tx), tx.now))
        if due is not None and due <= now:
            await self.compare(None)

    async def compare(self, within: int | None) -> None:
        """Compare the channels that are due; also all not compared in the last `within` ms."""
        async with self._ledger.try_lock("channels") as mine:
            if not mine:
                return
            settings = self._current.settings
            places = settings.channels()
            due, closed = await self._ledger.read(
                lambda tx: (to_compare(tx, places, within), gates.closed_gates(tx))
            )
            for place, state in {} if closed else due.items():
                look = await self._client.get_version(*place)
                if look.says(HTTPStatus.TOO_MANY_REQUESTS):
                    await self._ledger.write(partial(gates.respect, retry_after=look.retry_after))
                    return
                if _what_is_there(look) is None:
                    continue
                judge = partial(_judge, settings=settings, place=place, state=state, look=look)
                if await self._ledger.write(judge):
                    self._wake()


def _judge(
    tx: Tx, settings: Settings, *, place: TargetKey, state: ChannelState, look: Answer
) -> bool:
    """Record the channel's image, and queue its restoration if needed; return whether queued."""
    app, name = place
    if not is_comparable(tx, app, name, state):
        return False
    image = ImageReference(repository=state.repository, tag=state.tag)
    there = _what_is_there(look) or ""
    shown = None if look.body is None else image_in(look.body)
    repository = state.repository or ("" if shown is None else shown.repository)
    able = rules_moving(settings.rules, app, name, repository)
    rule = rule_to_repeat(tx, able, state.registration)
    if look.body is not None and state.tag and same_image(look.body, image):
        _note_same(tx, settings, place, state, rule=rule, body=look.body)
        return False
    if shown is not None and has_open_push(tx, app, shown):
        return False
    channel = Channel(app, name) if rule is None else rule.channel(name)
    if _adopted(tx, settings, channel, state, rule=rule, there=shown):
        return True
    late = look.body is not None and any(
        same_image(look.body, one) for one in late_moves(tx, app, name)
    )
    if not state.tag and not late:  # the receiver never moved it
        note_compared(tx, app, name, "")
        return False
    fresh = note_compared(tx, app, name, there)
    facts = {"app": app, "channel": name, "put": state.tag, "found": there, "late": late}
    wanted = rule is not None and bool(state.tag) and (late or channel.restore)
    restored = wanted and not is_parked(tx, app, name, state)
    why = (
        "a request of the receiver was carried out late"
        if late
        else "it was changed outside the receiver"
    )
    if fresh:
        log.warning("channel_drifted", **facts)
    if fresh and not (late and restored):
        back = f"`receiver promote {app} {name} --to {state.tag or 'VERSION'}` moves it."
        text = f"{app}/{name} has {there} at Edgegap{f', not {image}' if state.tag else ''}: "
        text += f"{why}. {'It is moved back.' if restored else back}"
        of_rule = None if rule is None else rule.name
        event, about = NotificationEvent.DRIFTED, state.registration or None
        enqueue(tx, settings.notices, event, text, rule=of_rule, about=about)
    if rule is None or not restored:
        return False
    sentence = f"Edgegap has {there} in {app}/{name}: {why}. It is moved back to {image}."
    _restore(tx, Match(rule.name, app, name, Mode.CHANNEL), state, sentence)
    return True


def _note_same(
    tx: Tx,
    settings: Settings,
    place: TargetKey,
    state: ChannelState,
    *,
    rule: Rule | None,
    body: Body,
) -> None:
    """Note that the channel has its image; notify if it is disabled and should not be."""
    app, name = place
    intended = rule is not None and rule.settings.get("is_active") is False
    off = is_disabled(body) and not intended
    if note_compared(tx, app, name, DISABLED if off else ""):
        log.warning("channel_disabled", app=app, channel=name)
        text, of_rule = disabled_sentence(app, name), None if rule is None else rule.name
        event, about = NotificationEvent.DRIFTED, state.registration or None
        enqueue(tx, settings.notices, event, text, rule=of_rule, about=about)


def _adopted(
    tx: Tx,
    settings: Settings,
    channel: Channel,
    state: ChannelState,
    *,
    rule: Rule | None,
    there: ImageReference | None,
) -> bool:
    """Record the image if one of our requests set it and it may stay; return whether so."""
    if there is None:
        return False
    app, name = channel.app, channel.name
    shown = with_image_at_edgegap(channel, state, there.repository, there.tag)
    if shown is state:
        return False
    claimed = read_claimed(tx, shown.registration)
    if is_superseded(tx, claimed.id):
        source = None
        if rule is not None and channel.source is not None:
            has = read_channel_state(tx, app, channel.source)
            source = Source(rule.channel(channel.source), has)
        if not may_accept_late_move(channel, claimed.pushed, claimed.evidence.passed, source):
            return False
    record_late_move(tx, app, name, shown, seen=state)
    follow_late_move(tx, settings, claimed)
    log.warning("channel_moved_by_request", app=app, channel=name, had=state.tag, has=shown.tag)
    return True


def _restore(tx: Tx, match: Match, state: ChannelState, sentence: str) -> None:
    delivery = NewDelivery(
        source=RESTORE,
        repository=state.repository,
        tag=state.tag,
        pushed_at=state.push_time,
    )
    ruling = Decision(Verdict.ACCEPTED, sentence=sentence, matches=(match,))
    recorded = record(tx, delivery, ruling, push_time=state.push_time)
    (registration,) = recorded.registrations
    place = match.app, match.version
    there = read_target(tx, *place)
    set_digest(tx, registration, None if there is None else there.digest, overwritten=False)
    order(tx, *place, registration=registration, action=ManualAction.RESTORE, source=RESTORE)


def _what_is_there(look: Answer) -> str | None:
    """Return the channel's image at Edgegap as text; None if it is not known."""
    if look.says(HTTPStatus.NOT_FOUND):
        return NO_VERSION
    if not look.ok or look.body is None:
        return None
    image = image_in(look.body)
    return image_of(look.body) if image is None else f"{image.repository}:{image.tag}"

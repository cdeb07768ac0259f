"""The questions that the server asks before an action that is hard to undo.

A question adds to the form what it names: the version, the channel's present tag, the ids. The
action does only that. A confirmation counts only with these fields; without them, it is asked
again. What follows the first line of a question is a list.

The move of a channel is resolved for the question, and again when it was confirmed.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from receiver.images import ImageReference
from receiver.ledger.channels import before, read_channel_state
from receiver.ledger.deliveries import RecordedDelivery
from receiver.ledger.gates import ALL
from receiver.ledger.parked import ParkedGroup, parked_by_reason
from receiver.ledger.queries import delivery_detail
from receiver.ledger.targets import read_target, version_with
from receiver.ledger.transaction import Tx
from receiver.pipeline.prune import (
    MAX_BATCH,
    Scope,
    before_deletion,
    count_running,
    keep_count,
    plan,
    prune_preview,
)
from receiver.reasons import Reason, State
from receiver.rules.channel_order import ChannelState, ManualAction, version_number
from receiver.rules.rule import Rule, TargetKey
from receiver.service import Service
from receiver.upkeep import operations
from receiver.upkeep.channels import ChannelNotMoved, image_named, promote, rollback_channel
from receiver.upkeep.promotion import facts_of

NOTHING = "nothing"
Form = dict[str, str]
Question = Callable[[Service, Form], Awaitable[str]]

MAX_NAMED = 10
VERBS = {ManualAction.ROLLBACK: "Roll back", ManualAction.PROMOTE: "Promote"}


class Move(msgspec.Struct, frozen=True):
    """A move from the tag that the channel has; `previous`: to what a rollback restores."""

    action: ManualAction
    has: str
    image: ImageReference
    previous: bool


def _resolve_move(tx: Tx, rules: Sequence[Rule], app: str, channel: str, to: str) -> Move | None:
    """Return the move to a version or a tag, or to the previous image if `to` is empty.

    None if there is no such image or more than one: `rollback_channel` then says why.
    """
    state = read_channel_state(tx, app, channel)
    has = ImageReference(repository=state.repository, tag=state.tag)
    earlier = before(tx, app, channel, has) if state.tag else None
    if earlier is not None and to in {"", exactly(earlier.image)}:
        image = earlier.image
    else:
        try:
            image = image_named(tx, rules, app, channel, to)
        except ChannelNotMoved:
            return None
    previous = earlier is not None and earlier.image == image
    found = read_target(tx, app, version_with(tx, app, image) or "")
    pushed = None if found is None else found.push_time
    action = (
        ManualAction.PROMOTE if _is_later(state, image, pushed, previous) else ManualAction.ROLLBACK
    )
    return Move(action, state.tag, image, previous)


def exactly(image: ImageReference) -> str:
    """Return the name of exactly this image, whatever the versions of the app are called."""
    return f"{image.repository}:{image.tag}"


def _is_later(
    state: ChannelState, image: ImageReference, pushed: int | None, previous: bool
) -> bool:
    """Return whether the image is later than the channel's: as a version number, or by its push."""
    if not state.tag:
        return True
    has, other = version_number(state.tag), version_number(image.tag)
    if has is not None and other is not None and has != other:
        return other > has
    return not previous and pushed is not None and pushed > state.push_time


def do_move(
    tx: Tx, rules: Sequence[Rule], channel: TargetKey, form: Mapping[str, str], source: str
) -> tuple[ManualAction, RecordedDelivery]:
    """Make the move that was confirmed; raises ChannelNotMoved if it would be another one now."""
    to, tag = form.get("to", ""), form.get("tag", "")
    move = _resolve_move(tx, rules, *channel, to)
    if move is None:
        back = rollback_channel(tx, rules, *channel, to or None, source=source, by=source)
        return ManualAction.ROLLBACK, back
    check_channel(tx, channel, form)
    if move.image.tag != tag:
        raise ChannelNotMoved(
            f"{'/'.join(channel)} would get {move.image.tag} now, not {tag or NOTHING}: look at it "
            "again"
        )
    if move.action is ManualAction.PROMOTE:
        promoted = promote(
            tx,
            rules,
            *channel,
            to=exactly(move.image),
            from_channel=None,
            source=source,
            by=source,
        )
        return move.action, promoted
    named = None if move.previous else exactly(move.image)
    back = rollback_channel(tx, rules, *channel, named, source=source, by=source)
    return move.action, back


def check_channel(tx: Tx, channel: TargetKey, form: Mapping[str, str]) -> None:
    """Raise ChannelNotMoved if the channel has another tag than the form was shown with."""
    has, shown = read_channel_state(tx, *channel).tag, form.get("has")
    if shown is None:
        raise ChannelNotMoved(f"the form does not say what {'/'.join(channel)} has: send it again")
    if has != shown:
        raise ChannelNotMoved(
            f"{'/'.join(channel)} has {has or NOTHING} now, not {shown or NOTHING}: look at it "
            "again"
        )


async def before_move(service: Service, form: Form) -> str:
    """Ask before a channel is moved, with the versions and the direction."""
    if _is_confirmed(form, "tag"):
        return ""
    channel, to = channel_of(form), form.get("to", "")
    rules = service.settings.rules
    move = await service.ledger.read(lambda tx: _resolve_move(tx, rules, *channel, to))
    if move is None:
        return ""
    form.update(to=exactly(move.image), tag=move.image.tag, has=move.has)
    return "\n".join([_moving(*channel, move), *await _changed(service, channel, move)])


async def _changed(service: Service, channel: TargetKey, move: Move) -> list[str]:
    """Return what a move changes, or why it cannot be made."""
    to = exactly(move.image)
    try:
        if move.action is ManualAction.PROMOTE:
            proposed = await service.moves.promotion(channel, to=to, from_channel=None)
        else:
            proposed = await service.moves.rollback(channel, None if move.previous else to)
    except ChannelNotMoved as error:
        return [f"It cannot be moved: {error}."]
    return [f"{name.capitalize()}: {fact}" for name, fact in facts_of(proposed)]


async def before_release(service: Service, form: Form) -> str:
    """Ask before a hold ends, with the tag that the channel has."""
    if "has" in form and _is_confirmed(form):  # empty before the first move
        return ""
    form.pop("confirmed", None)
    app, channel = channel_of(form)
    state = await service.ledger.read(lambda tx: read_channel_state(tx, app, channel))
    if state.hold is None:
        return ""
    form["has"] = state.tag
    return f"Let pushes move {channel} of {app} again? It has {state.tag or NOTHING}."


async def before_pruning(service: Service, form: Form) -> str:
    """Ask before versions are deleted, with their names.

    The names are added to the form: no version is deleted that the question did not name.
    """
    if _is_confirmed(form, "versions"):
        return ""
    app, names, first = form.get("app", ""), form.get("versions", "").split(), ""
    if not names and keep_count(service.settings, app) is not None:
        scope = Scope(app, most=MAX_BATCH)
        old = await prune_preview(service.ledger, service.settings, scope)
        names = [one.target.version for one in old.planned]
        first = f"the oldest {len(names)}, " if old.more else ""
    form["versions"] = " ".join(names)
    if not names:
        return ""
    question = (
        f"Delete {first}{', '.join(names)} of {app} at Edgegap? This cannot be undone. A version "
        "with running deployments is kept."
    )
    return "\n".join([question, *await _running(service, app, names)])


async def _running(service: Service, app: str, versions: Sequence[str]) -> list[str]:
    counts = await count_running(service.ledger, service.client, app, versions)
    return [f"{version}: {before_deletion(count)}" for version, count in counts.items()]


async def before_making_room(service: Service, form: Form) -> str:
    """Ask before the oldest version is deleted, with its name and those that come next."""
    if _is_confirmed(form, "versions"):
        return ""
    app = form.get("app", "")
    await check_limit(service, app, form.get("delivery", ""))
    planned = await plan(service.ledger, service.settings, Scope(app, most=1, keep=1))
    names = [one.target.version for one in planned[:MAX_NAMED]]
    form["versions"] = " ".join(names)
    if not names:
        return ""
    others = f" If it has running deployments: the first of {', '.join(names[1:])} that has none."
    question = (
        f"Delete {names[0]} of {app} at Edgegap, and replay the push?"
        f"{others if names[1:] else ''} A deletion cannot be undone."
    )
    return "\n".join([question, *await _running(service, app, names)])


async def check_limit(service: Service, app: str, identity: str) -> None:
    """Raise ValueError unless this delivery is parked as the app has too many versions."""
    row = await service.ledger.read(lambda tx: delivery_detail(tx, identity))
    if row is None or row.id != identity:
        raise ValueError(f"there is no delivery {identity}")
    if not any(
        one.app == app and one.state is State.PARKED and one.reason == Reason.VERSION_LIMIT.value
        for one in row.registrations
    ):
        raise ValueError(
            f"the delivery {identity} is not parked for {Reason.VERSION_LIMIT.value} of the app "
            f"{app}, so nothing was deleted"
        )


async def before_replaying_all(service: Service, _: Form) -> str:
    """Ask before everything parked is replayed, with the targets by reason."""
    parked = await service.ledger.read(lambda tx: parked_by_reason(tx, MAX_NAMED))
    count = sum(alike.count for alike in parked)
    which = "the parked registration" if count == 1 else f"all {count} parked"
    if count > operations.MAX_IN_REQUEST:
        which = f"the oldest {operations.MAX_IN_REQUEST} of {count} parked"
    return "\n".join([f"Replay {which}?", *map(_alike, parked)])


def _alike(parked: ParkedGroup) -> str:
    more = parked.count - len(parked.targets)
    names = ", ".join(parked.targets) + (f", and {more} more" if more else "")
    return f"{parked.count} for {parked.reason}: {names}"


def before_each(verb: str) -> Question:
    """Ask before something is done with each of the registrations that the form names."""

    async def ask(service: Service, form: Form) -> str:
        if _is_confirmed(form, "registrations"):
            return ""
        ids, reason = form.get("registrations", "").split(), form.get("reason", "")
        if not ids:
            raise ValueError("name the registrations; nothing was changed")
        names = await service.ledger.read(lambda tx: [_name_of(tx, one) for one in ids])
        return f"{verb} {', '.join(names)}, parked for {reason}?"

    return ask


def _name_of(tx: Tx, identity: str) -> str:
    """Return the target of a registration, or the id itself if its deliveries were purged."""
    row = delivery_detail(tx, identity)
    own = [] if row is None else [one for one in row.registrations if one.id == identity]
    return f"{own[0].app}/{own[0].version}" if own else identity


async def before_pause(_: Service, form: Form) -> str:
    """Ask before everything is paused; one repository is paused without a question."""
    if form.get("repository") != ALL:
        return ""
    return "Pause everything? Pushes are recorded, and wait until you resume."


QUESTIONS: dict[str, Question] = {
    "move": before_move,
    "rollback": before_move,
    "release": before_release,
    "prune": before_pruning,
    "make-room": before_making_room,
    "replay-parked": before_replaying_all,
    "replay-reason": before_each("Replay"),
    "dismiss-reason": before_each("Dismiss"),
    "pause": before_pause,
}


def channel_of(form: Form) -> TargetKey:
    """Return the app and the channel that a form names; raises ValueError if it names none."""
    app, channel = form.get("app", ""), form.get("channel", "")
    if not app or not channel:
        raise ValueError("name the app and the channel; nothing was changed")
    return TargetKey(app, channel)


def _is_confirmed(form: Form, *shown: str) -> bool:
    """Return whether the form was confirmed with what the question showed; or else ask it again."""
    if form.get("confirmed") == "yes" and all(form.get(name) for name in shown):
        return True
    form.pop("confirmed", None)
    return False


def _moving(app: str, channel: str, move: Move) -> str:
    if move.has == move.image.tag:
        return f"Hold {channel} of {app} at {move.has}? Pushes do not move it until it is released."
    start = f" from {move.has}" if move.has else ""
    return (
        f"{VERBS[move.action]} {channel} of {app}{start} to {move.image.tag}? Players get the "
        "other version."
    )

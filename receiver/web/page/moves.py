"""The move of a channel that a form requests: back to an earlier version, or to a later one.

It is resolved twice: for the question, and again when it was confirmed; only what the question
showed is done.
"""

from collections.abc import Mapping, Sequence

import msgspec

from receiver.images import ImageReference
from receiver.ledger.channels import before, read_channel_state
from receiver.ledger.deliveries import RecordedDelivery
from receiver.ledger.targets import read_target, version_with
from receiver.ledger.transaction import Tx
from receiver.rules.channel_order import ByHand, ChannelState
from receiver.rules.rule import Rule
from receiver.rules.tag_order import version_number
from receiver.upkeep.channels import ChannelNotMoved, image_named, promote, rollback_channel

NOTHING = "nothing"


class Move(msgspec.Struct, frozen=True):
    """A move from the tag that the channel has; `previous`: to what a rollback restores."""

    action: ByHand
    has: str
    image: ImageReference
    previous: bool


def resolve_move(tx: Tx, rules: Sequence[Rule], app: str, channel: str, to: str) -> Move | None:
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
    action = ByHand.PROMOTE if _is_later(state, image, pushed, previous) else ByHand.ROLLBACK
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
    tx: Tx, rules: Sequence[Rule], channel: tuple[str, str], form: Mapping[str, str], source: str
) -> tuple[ByHand, RecordedDelivery]:
    """Make the move that was confirmed; raises ChannelNotMoved if it would be another one now."""
    to, tag = form.get("to", ""), form.get("tag", "")
    move = resolve_move(tx, rules, *channel, to)
    if move is None:
        return ByHand.ROLLBACK, rollback_channel(tx, rules, *channel, to or None, source=source)
    check_channel(tx, channel, form)
    if move.image.tag != tag:
        raise ChannelNotMoved(
            f"{'/'.join(channel)} would get {move.image.tag} now, not {tag or NOTHING}: look at it "
            "again"
        )
    if move.action is ByHand.PROMOTE:
        promoted = promote(
            tx, rules, *channel, to=exactly(move.image), from_channel=None, source=source
        )
        return move.action, promoted
    named = None if move.previous else exactly(move.image)
    return move.action, rollback_channel(tx, rules, *channel, named, source=source)


def check_channel(tx: Tx, channel: tuple[str, str], form: Mapping[str, str]) -> None:
    """Raise ChannelNotMoved if the channel has another tag than the form was shown with."""
    has, shown = read_channel_state(tx, *channel).tag, form.get("has")
    if shown is None:
        raise ChannelNotMoved(f"the form does not say what {'/'.join(channel)} has: send it again")
    if has != shown:
        raise ChannelNotMoved(
            f"{'/'.join(channel)} has {has or NOTHING} now, not {shown or NOTHING}: look at it "
            "again"
        )

"""What a channel's move waits for: its source, a trial, an approval. A pure decision."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from receiver.images import ImageReference
from receiver.rules.channel_order import Channel, ChannelState, Need, Pushed, why_not


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the ledger knows of an image that is to move a channel.

    `passed` is the verdict of its last trial, None if there was none; `approved`: a person approved
    this move. `digest` is the digest that was tried or approved, None if it is not known; `proven`
    are the digests of the tag that passed a trial. `channels` holds what the app's channels have.
    """

    passed: bool | None = None
    approved: bool = False
    digest: str | None = None
    proven: frozenset[str] = frozenset()
    channels: Mapping[str, ImageReference] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Source:
    """The channel that another one takes its images of, and what it has."""

    channel: Channel
    state: ChannelState


@dataclass(frozen=True, slots=True)
class Unmet:
    """Why a channel does not move now. `need` is what would let it move, None if nothing does."""

    need: Need | None
    sentence: str


def unmet(
    channel: Channel, image: ImageReference, evidence: Evidence, *, ordered: bool
) -> Unmet | None:
    """Return what the move of a channel to an image waits for, None if it may move.

    `ordered`: a person requested this very move. That is its approval, and it may take an image
    from elsewhere than the channel's source; a trial is needed all the same.
    """
    there = None if channel.source is None else evidence.channels.get(channel.source)
    if channel.source is not None and there != image and not ordered:
        has = "nothing" if there is None else there.tag
        return Unmet(None, f"{channel.name} takes what {channel.source} has, and that is {has}.")
    if Need.TRIAL in channel.needs and not evidence.passed:
        return _untried(channel, image, evidence)
    if Need.APPROVAL in channel.needs and not (ordered or evidence.approved):
        return Unmet(
            Need.APPROVAL,
            f"{channel.app}/{channel.name} waits for a person to approve {image.tag}: open the "
            f"link in the notification, or run `receiver promote {channel.app} {channel.name} "
            f"--to {image.tag}`.",
        )
    return None


def may_keep(channel: Channel, pushed: Pushed, passed: bool | None, source: Source | None) -> bool:
    """Return whether a channel may keep an image that a request gave it late.

    The move was allowed when it was requested. Since then the source may have moved on from the
    image, but not back from it.
    """
    if Need.TRIAL in channel.needs and not passed:
        return False
    if source is None or source.state.has(pushed):
        return True
    if source.state.hold is not None:
        return False
    return why_not(replace(source.channel, tags=None), pushed, source.state) is not None


def _untried(channel: Channel, image: ImageReference, evidence: Evidence) -> Unmet:
    again = f"`receiver trial {channel.app} VERSION`, with the name of its version, tries it"
    if evidence.passed is None:
        waits = f"{channel.app}/{channel.name} waits until {image.tag} has passed a trial"
        return Unmet(Need.TRIAL, f"{waits}; {again} now.")
    return Unmet(
        None,
        f"{image.tag} failed its trial, and {channel.name} takes only what passed one; {again} "
        "again.",
    )

"""Which push may move a channel: a pure decision over what the channel has and what was pushed.

A channel never moves backwards by accident. Version numbers are ordered as versions, other tags by
the time of their push; a repeated report moves nothing; a channel that a person moved is held.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from receiver.rules.tag_order import version_number
from receiver.rules.tag_patterns import TagPattern
from receiver.timestamps import to_the_minute


class Follow(StrEnum):
    """In which order pushes move a channel."""

    AUTO = "auto"
    HIGHEST = "highest"
    NEWEST = "newest"


class ByHand(StrEnum):
    """What a person, or the receiver in a person's name, has a channel moved by."""

    ROLLBACK = "rollback"
    PROMOTE = "promote"
    RESTORE = "restore"  # puts back what another hand, or a late PATCH, moved


@dataclass(frozen=True, slots=True)
class Channel:
    """One channel of an app: how it follows pushes.

    `tags` filter in addition to the rule's; None takes all that the rule takes. `restore`: put it
    back when Edgegap has another image there than the receiver put.
    """

    app: str
    name: str
    follow: Follow = Follow.AUTO
    tags: TagPattern | None = None
    restore: bool = False

    def takes(self, tag: str) -> bool:
        """Return whether a push of this tag may move the channel at all."""
        return self.tags is None or self.tags.takes(tag)


@dataclass(frozen=True, slots=True)
class Hold:
    """A person moved the channel: to `tag`, at `since` (epoch ms), by `action`.

    Only a later push of a version number above `lifted_above` moves it before it is released;
    None: no push does.
    """

    since: int
    tag: str
    action: str
    lifted_above: str | None = None


@dataclass(frozen=True, slots=True)
class Holds:
    """What a channel has by our own doing. `push_time` in epoch milliseconds.

    `repository` and `tag` are empty before its first move. `highest` is the highest version number
    that it followed since it was last moved by hand. `ordered` is the registration that a person,
    or the receiver to restore it, ordered last, and `action` what it does. `asked` are pushes that
    a request of ours may have moved it to without the ledger's knowing: they wait or are parked.
    """

    repository: str = ""
    tag: str = ""
    push_time: int = 0
    registration: str = ""
    highest: str | None = None
    hold: Hold | None = None
    ordered: str | None = None
    action: str = ""
    sent: str = ""
    asked: tuple["Pushed", ...] = ()

    def has(self, pushed: "Pushed") -> bool:
        """Return whether the channel has this very tag."""
        return (self.repository, self.tag) == (pushed.repository, pushed.tag)


@dataclass(frozen=True, slots=True)
class Report:
    """A report of a tag to a channel, as it was decided on: its digest, None if not known."""

    digest: str | None
    push_time: int


@dataclass(frozen=True, slots=True)
class Pushed:
    """A push that is to move a channel, and when it was first reported. Times in epoch ms.

    `known` is what was last reported to the channel of this tag, None if none was.
    """

    repository: str
    tag: str
    push_time: int
    registration: str
    reported_at: int
    known: Report | None = None


def is_ordered(pushed: Pushed, holds: Holds) -> bool:
    """Return whether a person, or the receiver to restore it, ordered this very move.

    What was ordered to restore a tag counts only while the channel has that tag by our doing.
    """
    if holds.ordered != pushed.registration:
        return False
    return holds.has(pushed) or holds.action != ByHand.RESTORE


def why_not(channel: Channel, pushed: Pushed, holds: Holds) -> str | None:
    """Return why the push does not move the channel, None if it may.

    A report of the very tag that the channel has passes: there is nothing to move then.
    """
    if is_ordered(pushed, holds):
        return None
    if holds.ordered is not None and holds.ordered == pushed.registration:
        return f"The channel was moved to {holds.tag} meanwhile; {pushed.tag} is not put back."
    if not channel.takes(pushed.tag):
        return (
            f"The channel {channel.name} does not take {pushed.tag}: see `tags` in its [[channel]]."
        )
    if holds.has(pushed):
        return None
    if holds.hold is not None and not _lifts(pushed, holds.hold, holds.ordered or ""):
        return held_sentence(channel, holds.hold)
    return _out_of_order(channel, pushed, holds)


def as_shown(channel: Channel, holds: Holds, repository: str, tag: str) -> Holds:
    """Return what the channel has by our doing, now that Edgegap shows this image in it.

    What a request of ours asked for counts, however it was answered, if its push may move the
    channel from what the ledger has. If not, another one has overtaken it, and it came late.
    """
    for one in holds.asked:
        if (one.repository, one.tag) != (repository, tag) or holds.has(one):
            continue
        if why_not(channel, one, holds) is None:
            ordered = is_ordered(one, holds)
            return replace(
                holds,
                repository=repository,
                tag=tag,
                push_time=one.push_time,
                registration=one.registration,
                highest=higher(None, tag) if ordered else higher(holds.highest, tag),
                hold=holds.hold if ordered else None,
            )
    return holds


def held_sentence(channel: Channel, hold: Hold) -> str:
    """Return that the channel is held, and what lifts that."""
    above = (
        "" if hold.lifted_above is None else f", and so does a new push above {hold.lifted_above}"
    )
    return (
        f"The channel is held at {hold.tag} since {to_the_minute(hold.since)} ({hold.action}); "
        f"`receiver release {channel.app} {channel.name}` lifts that{above}."
    )


def below_what_is_there(channel: Channel, tag: str, there: str) -> str | None:
    """Return why a push does not replace a tag that another hand put there, None if it may."""
    mine, its = version_number(tag), version_number(there)
    if channel.follow is Follow.NEWEST or mine is None or its is None or mine >= its:
        return None
    return f"{tag} is lower than {there}, which Edgegap has in the channel."


def higher(one: str | None, other: str | None) -> str | None:
    """Return the higher of two version numbers; if only one tag is one, that; None if neither."""
    first = None if one is None else version_number(one)
    second = None if other is None else version_number(other)
    if first is None or second is None:
        return one if first is not None else other if second is not None else None
    return other if second > first else one


def lifted_above(holds: Holds, to: str) -> str | None:
    """Return the version that a push must be above to move a channel that a person puts to `to`.

    The highest of all that it was moved away from by hand. None if one of these is no version
    number: then only a release lets pushes move the channel.
    """
    if holds.hold is not None:
        return None if holds.hold.lifted_above is None else higher(holds.hold.lifted_above, to)
    if holds.tag and version_number(holds.tag) is None:
        return None
    return higher(higher(holds.highest, holds.tag), to)


def _lifts(pushed: Pushed, hold: Hold, ordered: str) -> bool:
    """Return whether a push ends the hold: it is above its version, and came after it."""
    mine = version_number(pushed.tag)
    above = None if hold.lifted_above is None else version_number(hold.lifted_above)
    later = (pushed.reported_at, pushed.registration) > (hold.since, ordered)
    return later and mine is not None and above is not None and mine > above


def _out_of_order(channel: Channel, pushed: Pushed, holds: Holds) -> str | None:
    mine, has = version_number(pushed.tag), version_number(holds.tag)
    if channel.follow is not Follow.NEWEST and mine is not None:
        above = higher(holds.highest, holds.tag)
        highest = None if above is None else version_number(above)
        if highest is not None and mine < highest:
            return f"{pushed.tag} is lower than {above}, which the channel followed."
        if channel.follow is Follow.HIGHEST and has is None:
            return None
        if highest is not None and mine > highest and has is not None:
            return None
    elif channel.follow is Follow.HIGHEST:
        return f'{pushed.tag} is no version number, and the channel follows the "highest".'
    if (holds.push_time, holds.registration) > (pushed.push_time, pushed.registration):
        return f"A later push moved the channel already: it has {holds.tag}."
    return None

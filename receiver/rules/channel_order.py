"""Which push may move a channel: a pure decision from the channel's image and the push.

A channel never moves backwards by accident. Version numbers are ordered as versions, other tags by
the time of their push; a repeated report moves nothing; a channel that a person moved is held. What
may move it by this order may still wait: for the channel's source, a trial, an approval.

A version number has two to four numeric parts, an optional leading `v`, and a prerelease as
semver.org orders it (section 11), except for numbers within an identifier: `rc10` comes after
`rc9`. Python and Maven write it without the hyphen: `1.2rc1`, `1.2.0.RC1`. The hash of a commit in
it is ignored.

A date is a calendar version in each of its spellings: `2026.01.09`, `2026-01-09`, `20260109`. It
may end in a time or a count of the day: `2026.01.09-0930` comes after `2026.01.09`. Build metadata
is ignored; a tag cannot contain its `+`, so `_` begins it.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache

import msgspec
from msgspec.structs import replace

from receiver.images import ImageReference
from receiver.rules.tag_patterns import IDENTIFIERS, Piece, TagPattern, in_order
from receiver.timestamps import to_the_minute

MAX_PARTS = 4
FIRST_YEAR, LAST_YEAR = 2000, 2099
LAST_MONTH, LAST_DAY = 12, 31

_UNHYPHENATED = (
    r"(?i:(?:alpha|beta|rc|cr|pre|preview|dev|snapshot)(?![a-z])|[abcm]\d{1,3}(?![\da-z]))"
)
_REST = rf"(?:(?:-|\.?(?={_UNHYPHENATED}))(?P<rest>{IDENTIFIERS}))?(?:_.*)?"
_NUMBER = re.compile(rf"[vV]?(?P<parts>\d{{1,18}}(?:\.\d{{1,18}}){{1,3}}){_REST}", re.ASCII)
_DATE = re.compile(
    r"[vV]?(?:(?P<compact>\d{8})(?P<clock>\d{4}(?:\d{2})?)?"
    r"|(?P<date>\d{4}(?P<between>[-_])\d{1,2}(?P=between)\d{1,2}))"
    rf"(?:[Tt](?P<time>\d{{4}}(?:\d{{2}})?))?(?:\.(?P<count>\d{{1,18}}))?{_REST}",
    re.ASCII,
)
_OF_THE_DAY = re.compile(rf"(?P<number>\d{{1,6}})(?:-(?P<rest>{IDENTIFIERS}))?", re.ASCII)
_COMMIT = re.compile(
    r"(?:^|-)(?:g[0-9a-f]{3,40}|(?=[a-f]*[0-9])(?=[0-9]*[a-f])[0-9a-f]{7,40})\Z", re.ASCII
)
_PIECES = re.compile(r"\d+|\D+", re.ASCII)


class VersionNumber(msgspec.Struct, frozen=True, order=True):
    """A version number; it is compared by its fields, in their order.

    `of_the_day` is a calendar version's time or count, -1 without one; `released` is False for a
    prerelease. `prerelease` holds the numbers and texts of each identifier.
    """

    parts: tuple[int, ...]
    of_the_day: int
    released: bool
    prerelease: tuple[tuple[Piece, ...], ...]


@lru_cache(maxsize=4096)
def version_number(tag: str) -> VersionNumber | None:
    """Return the version number of a tag; None for `nightly`, `v2` or `3f9c2e1`."""
    return _date(tag) or _number(tag)


def _number(tag: str) -> VersionNumber | None:
    found = _NUMBER.fullmatch(tag)
    if found is None:
        return None
    parts = [int(text) for text in found["parts"].split(".")]
    return _version(parts, None, found["rest"], calendar=_is_date(parts))


def _date(tag: str) -> VersionNumber | None:
    """Return the calendar version of a tag that has a date without dots."""
    found = _DATE.fullmatch(tag)
    if found is None:
        return None
    compact = found["compact"]
    texts = [compact[:4], compact[4:6], compact[6:]] if compact else re.split("[-_]", found["date"])
    parts = [int(text) for text in texts]
    if not _is_date(parts):
        return None
    count = [] if found["count"] is None else [int(found["count"])]
    return _version(parts + count, found["clock"] or found["time"], found["rest"], calendar=True)


def _version(
    parts: list[int], time: str | None, rest: str | None, *, calendar: bool
) -> VersionNumber:
    if calendar and time is None and rest is not None:
        counted = _OF_THE_DAY.fullmatch(rest)
        if counted is not None:
            time, rest = counted["number"], counted["rest"]
    return VersionNumber(
        parts=tuple(parts + [0] * (MAX_PARTS - len(parts))),
        of_the_day=-1 if time is None else int(time),
        released=rest is None,
        prerelease=() if rest is None else tuple(map(_pieces, rest.split("."))),
    )


def _is_date(parts: list[int]) -> bool:
    """Return whether the parts begin with a year and a month, and a day if there is a third."""
    year, month, *more = parts
    return (
        FIRST_YEAR <= year <= LAST_YEAR
        and 1 <= month <= LAST_MONTH
        and (not more or 1 <= more[0] <= LAST_DAY)
    )


def _pieces(identifier: str) -> tuple[Piece, ...]:
    """Return the numbers and texts of an identifier, without the hash of a commit at its end."""
    return in_order(_PIECES.findall(_COMMIT.sub("", identifier)))


class Follow(StrEnum):
    """In which order pushes move a channel."""

    AUTO = "auto"
    HIGHEST = "highest"
    NEWEST = "newest"


class Need(StrEnum):
    """What a move of a channel waits for."""

    TRIAL = "trial"
    APPROVAL = "approval"


class ManualAction(StrEnum):
    """The action by which a person, or the receiver for a person, moves a channel."""

    ROLLBACK = "rollback"
    PROMOTE = "promote"
    RESTORE = "restore"  # undoes a move by someone else, or by a late PATCH


class Channel(msgspec.Struct, frozen=True):
    """One channel of an app: how it follows pushes.

    `tags` filter in addition to the rule's; None accepts all tags of the rule. `restore`: move the
    channel back if its image at Edgegap is not the one that the receiver set. `source` is the
    channel that it takes images of, None for every push. `needs`: what a move waits for.
    """

    app: str
    name: str
    follow: Follow = Follow.AUTO
    tags: TagPattern | None = None
    restore: bool = False
    source: str | None = None
    needs: frozenset[Need] = frozenset()

    def takes(self, tag: str) -> bool:
        """Return whether a push of this tag may move the channel at all."""
        return self.tags is None or self.tags.takes(tag)


class Hold(msgspec.Struct, frozen=True):
    """A person moved the channel: to `tag`, at `since` (epoch ms), by `action`.

    Only a later push of a version number above `lifted_above` moves it before it is released;
    None: no push does.
    """

    since: int
    tag: str
    action: str
    lifted_above: str | None = None


class ChannelState(msgspec.Struct, frozen=True):
    """The state that the receiver gave a channel. `push_time` in epoch milliseconds.

    `repository` and `tag` are empty before its first move. `highest` is the highest version number
    that it followed since it was last moved by hand. `ordered` is the registration that a person,
    or the receiver to restore it, requested last, and `action` is its action. `asked` are pushes
    that a request may have moved the channel to without a record in the ledger: waiting, parked,
    or closed since its last move. What Edgegap refused is not among them.
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
        """Return whether the channel has exactly this tag."""
        return (self.repository, self.tag) == (pushed.repository, pushed.tag)


class Report(msgspec.Struct, frozen=True):
    """A decided report of a tag for a channel: its digest, None if not known."""

    digest: str | None
    push_time: int


class Pushed(msgspec.Struct, frozen=True):
    """A push that is to move a channel, and when it was first reported. Times in epoch ms.

    `known` is the last report of this tag for the channel, None if there was none.
    """

    repository: str
    tag: str
    push_time: int
    registration: str
    reported_at: int
    known: Report | None = None


def is_ordered(pushed: Pushed, state: ChannelState) -> bool:
    """Return whether a person, or the receiver to restore the channel, requested exactly this move.

    A request to restore a tag counts only while the ledger has that tag for the channel.
    """
    if state.ordered != pushed.registration:
        return False
    return state.has(pushed) or state.action != ManualAction.RESTORE


def why_not(channel: Channel, pushed: Pushed, state: ChannelState) -> str | None:
    """Return why the push does not move the channel, None if it may.

    A report of the tag that the channel already has is accepted: there is nothing to move.
    """
    if is_ordered(pushed, state):
        return None
    if state.ordered is not None and state.ordered == pushed.registration:
        return (
            f"The channel was moved to {state.tag} meanwhile; it is not moved back to {pushed.tag}."
        )
    if not channel.takes(pushed.tag):
        return (
            f"The channel {channel.name} does not take {pushed.tag}: see `tags` in its [[channel]]."
        )
    if state.has(pushed):
        return None
    if state.hold is not None and not _lifts(pushed, state.hold, state.ordered or ""):
        return held_sentence(channel, state, state.hold)
    return _out_of_order(channel, pushed, state)


def with_image_at_edgegap(
    channel: Channel, state: ChannelState, repository: str, tag: str
) -> ChannelState:
    """Return the state that the receiver gave the channel, now that Edgegap returns this image.

    The image of a request counts, unless Edgegap refused it, if its push may move the channel from
    the ledger's state. If it may not, a newer push was faster, and the request took effect late.
    """
    for one in state.asked:
        if (one.repository, one.tag) != (repository, tag) or state.has(one):
            continue
        if why_not(channel, one, state) is None:
            ordered = is_ordered(one, state)
            return replace(
                state,
                repository=repository,
                tag=tag,
                push_time=one.push_time,
                registration=one.registration,
                highest=higher(None, tag) if ordered else higher(state.highest, tag),
                hold=state.hold if ordered else None,
            )
    return state


def held_sentence(channel: Channel, state: ChannelState, hold: Hold) -> str:
    """Return a sentence that the channel is held, and what releases it."""
    place = f"at {hold.tag}" if state.tag == hold.tag else f"for the move to {hold.tag}"
    above = (
        "" if hold.lifted_above is None else f", and so does a new push above {hold.lifted_above}"
    )
    return (
        f"The channel is held {place} since {to_the_minute(hold.since)} ({hold.action}); "
        f"`receiver release {channel.app} {channel.name}` lifts that{above}."
    )


def below_what_is_there(channel: Channel, tag: str, there: str) -> str | None:
    """Return why a push does not replace a tag that someone else set, None if it may."""
    mine, its = version_number(tag), version_number(there)
    if channel.follow is Follow.NEWEST or mine is None or its is None or mine >= its:
        return None
    return f"{tag} is lower than {there}, which Edgegap has in the channel."


def overtaken(channel: Channel, tag: str, there: str) -> str | None:
    """Return why a push does not replace the tag of a later push, None if it may."""
    mine, its = version_number(tag), version_number(there)
    if mine is not None and its is not None and channel.follow is not Follow.NEWEST and mine > its:
        return None
    return f"A later push moved the channel already: it has {there}."


def higher(one: str | None, other: str | None) -> str | None:
    """Return the higher version number, or the only version number; None if neither tag is one."""
    first = None if one is None else version_number(one)
    second = None if other is None else version_number(other)
    if first is None or second is None:
        return one if first is not None else other if second is not None else None
    return other if second > first else one


def lifted_above(state: ChannelState, to: str) -> str | None:
    """Return the version that a push must be above to move a channel that a person puts to `to`.

    This is the highest version that the channel was moved away from by hand. None if one of these
    is not a version number: then pushes move the channel only after a release.
    """
    if state.hold is not None:
        return None if state.hold.lifted_above is None else higher(state.hold.lifted_above, to)
    if state.tag and version_number(state.tag) is None:
        return None
    return higher(higher(state.highest, state.tag), to)


def _lifts(pushed: Pushed, hold: Hold, ordered: str) -> bool:
    """Return whether a push ends the hold: its version is higher, and it was pushed later."""
    mine = version_number(pushed.tag)
    above = None if hold.lifted_above is None else version_number(hold.lifted_above)
    later = (pushed.reported_at, pushed.registration) > (hold.since, ordered)
    return later and mine is not None and above is not None and mine > above


def _out_of_order(channel: Channel, pushed: Pushed, state: ChannelState) -> str | None:
    mine, has = version_number(pushed.tag), version_number(state.tag)
    if channel.follow is not Follow.NEWEST and mine is not None:
        above = higher(state.highest, state.tag)
        highest = None if above is None else version_number(above)
        if highest is not None and mine < highest:
            return f"{pushed.tag} is lower than {above}, which the channel followed."
        if channel.follow is Follow.HIGHEST and has is None:
            return None
        if highest is not None and mine > highest and has is not None:
            return None
    elif channel.follow is Follow.HIGHEST:
        return f'{pushed.tag} is not a version number, and the channel follows the "highest".'
    if (state.push_time, state.registration) > (
        pushed.push_time,
        pushed.registration,
    ):
        return f"A later push moved the channel already: it has {state.tag}."
    return None


class Evidence(msgspec.Struct, frozen=True):
    """What the ledger knows of an image that is to move a channel.

    `passed` is the verdict of its last trial, None if there was none; `approved`: a person approved
    this move. `digest` is the digest that was tried or approved, None if it is not known; `proven`
    are the digests of the tag that passed a trial. `channels` holds what the app's channels have.
    Of a trial, `tried_first` is another version with this digest that is tried before it, and
    `reported`: a push led to it, not only a person.
    """

    passed: bool | None = None
    approved: bool = False
    digest: str | None = None
    proven: frozenset[str] = frozenset()
    channels: Mapping[str, ImageReference] = msgspec.field(default_factory=dict)
    tried_first: str | None = None
    reported: bool = False


class Source(msgspec.Struct, frozen=True):
    """The channel that another one takes its images of, and what it has."""

    channel: Channel
    state: ChannelState


class Unmet(msgspec.Struct, frozen=True):
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


def may_accept_late_move(
    channel: Channel, pushed: Pushed, passed: bool | None, source: Source | None
) -> bool:
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

"""The pages of versions and of channels: why each version is kept, and what has moved and may move.

Two more compare two versions, and show what a promotion changes before it is made.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from receiver.ledger.views import EndedDeletion, Move
from receiver.rules.retention import Retention
from receiver.rules.rule import Mode, Rule, TargetKey
from receiver.service import Service
from receiver.timestamps import format_time
from receiver.upkeep.channels import ChannelNotMoved
from receiver.upkeep.version_settings import VersionReader, VersionUnknown, VersionUnreadable
from receiver.web.page.answers import answer_page, short_text
from receiver.web.page.auth import failure
from receiver.web.page.sessions import Session
from receiver.web.versions import AppChannel, AppVersions, Version, all_versions, apps_of

WHY_KEPT: Mapping[Retention | None, str] = {
    Retention.BEYOND_KEEP: "beyond `keep`: it will be deleted",
    Retention.NEWEST: "one of the newest",
    Retention.REPORTED_LAST: "the last push was of it",
    Retention.CHANNEL: "a channel has it",
    Retention.PINNED: "pinned",
    Retention.NAMED: "named by a rule",
    Retention.NO_KEEP: "its rule has no `keep`",
    None: "not examined",
}


class Row(msgspec.Struct, frozen=True):
    """A version, why it is kept, and the version before it. `goes`: it would be deleted now.

    `tried`: the last attempt to delete it, which failed.
    """

    version: Version
    why: str
    goes: bool
    tried: EndedDeletion | None
    before: str


class Shown(msgspec.Struct, frozen=True):
    """An app and its versions, without its channels; `going` may be deleted now.

    `channels`: those of the rules, to which a version may be moved.
    """

    app: AppVersions
    rows: tuple[Row, ...]
    going: tuple[str, ...]
    channels: tuple[str, ...]


async def show_versions(service: Service, request: Request, session: Session) -> Response:
    """Show the versions of each app."""
    channels = set(service.settings.channels())
    shown = [shown_app(app, channels) for app in await all_versions(service, request)]
    return await answer_page(request, session, "versions.html", apps=shown)


def shown_app(app: AppVersions, channels: set[TargetKey]) -> Shown:
    """Return an app's rows; `channels` of the rules, by app and name, are no versions."""
    versions = [
        one
        for one in app.versions
        if one.mode is not Mode.CHANNEL and (app.app, one.version) not in channels
    ]
    failed = _failed_last(app.deletions)
    befores = [*(one.version for one in versions[1:]), ""]
    rows = tuple(
        Row(one, _why(one), one.version in app.prunable, failed.get(one.version), before)
        for one, before in zip(versions, befores, strict=False)
    )
    going = tuple(name for name in app.prunable if name not in failed)
    return Shown(app, rows, going, tuple(sorted(name for of, name in channels if of == app.app)))


def _why(version: Version) -> str:
    if not version.created_here:
        return "not created here"
    if version.by_hand:
        return "an older tag, pushed manually"
    return WHY_KEPT[version.retention]


def _failed_last(newest_first: Sequence[EndedDeletion]) -> dict[str, EndedDeletion]:
    """Return the last attempts to delete a version that failed, by version."""
    last: dict[str, EndedDeletion] = {}
    for deletion in newest_first:
        last.setdefault(deletion.version, deletion)
    return {name: one for name, one in last.items() if not one.deleted}


async def show_diff(service: Service, request: Request, session: Session) -> Response:
    """Show what differs between two versions; Edgegap is asked if the ledger does not know."""
    app, a, b = (short_text(request.query_params.get(name, "")) for name in ("app", "a", "b"))
    if app not in apps_of(service) or not a or not b:
        sentence = "The address must name an app of a rule and two versions: `app`, `a` and `b`."
        return failure(request, HTTPStatus.NOT_FOUND, "There is nothing to compare.", sentence)
    reader = VersionReader(service.ledger, service.client, service.settings.secret_keys)
    try:
        found = await reader.diff(app, a, b)
    except VersionUnknown as error:
        return failure(request, HTTPStatus.NOT_FOUND, "A version does not exist.", str(error))
    except VersionUnreadable as error:
        return await answer_page(
            request, session, "diff.html", found=None, app=app, a=a, b=b, why=str(error)
        )
    return await answer_page(request, session, "diff.html", found=found, app=app, a=a, b=b)


class Board(msgspec.Struct, frozen=True):
    """An app's channels. `unused` are channels of the rules that have no image yet.

    `choices`: for each channel, the images that it may be moved to, each with its version, beside
    the previous one.
    `follows`: for each channel, what moves it by itself.
    """

    app: AppVersions
    unused: tuple[str, ...]
    choices: Mapping[str, Mapping[str, str]]
    follows: Mapping[str, str]


async def show_channels(service: Service, request: Request, session: Session) -> Response:
    """Show the channels of each app."""
    channels = service.settings.channels()
    boards = [
        _board(app, [name for owner, name in channels if owner == app.app], service)
        for app in await all_versions(service, request)
    ]
    return await answer_page(request, session, "channels.html", boards=boards, last_move=last_move)


def last_move(channel: AppChannel) -> Move | None:
    """Return the move that gave the channel its image."""
    return next((one for one in channel.moves if one.tag == channel.tag), None)


def _board(app: AppVersions, names: list[str], service: Service) -> Board:
    used = {channel.channel: channel for channel in app.channels}
    return Board(
        app,
        tuple(name for name in names if name not in used),
        {name: _choices(app, used.get(name)) for name in {*names, *used}},
        {name: _followed(service.settings.rules, app.app, name) for name in names},
    )


def _followed(rules: Sequence[Rule], app: str, name: str) -> str:
    own = [rule.channel(name) for rule in rules if rule.app == app and name in rule.channels]
    needs = {need.value for channel in own for need in channel.needs}
    sources = {channel.source or "pushes" for channel in own}
    return " and ".join(sorted(sources)) + (
        f", after {' and '.join(sorted(needs))}" if needs else ""
    )


def _choices(app: AppVersions, channel: AppChannel | None) -> Mapping[str, str]:
    """Return the images that a channel may be moved to, each with its version and its date.

    Those that it had come first. The image that it has and the one before are not among them.
    """
    without = set() if channel is None else {channel.image}
    if channel is not None and channel.before is not None:
        without.add(f"{channel.before.repository}:{channel.before.tag}")
    moves = () if channel is None else channel.moves
    had = {f"{move.repository}:{move.tag}" for move in moves}
    found: dict[str, str] = {}
    for one in sorted(app.versions, key=lambda one: one.image not in had):
        if one.mode is Mode.CREATE and one.active and one.image not in without:
            day = "" if one.created_at is None else f" · {format_time(one.created_at)[:10]}"
            note = " · held before" if one.image in had else ""
            found.setdefault(one.image, f"{one.version}{day}{note}")
    return found


async def show_promotion(service: Service, request: Request, session: Session) -> Response:
    """Show what a promotion changes; its form makes the move."""
    query = request.query_params
    channel = TargetKey(query.get("app", ""), query.get("channel", ""))
    to, other = query.get("to") or None, query.get("from") or None
    try:
        move = await service.moves.promotion(channel, to=to, from_channel=other)
    except ChannelNotMoved as error:
        return failure(request, HTTPStatus.CONFLICT, "Nothing can be moved.", str(error))
    fields = {
        "app": move.app, "channel": move.channel, "to": to or "", "from": other or "",
        "tag": move.tag, "digest": move.digest or "", "has": move.from_tag or "",
    }  # fmt: skip
    return await answer_page(request, session, "promote.html", move=move, fields=fields)

"""The board of channels with their moves, and the page that shows what a promotion changes."""

from collections.abc import Mapping, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from receiver.ledger.views import Move
from receiver.rules.rule import Mode, Rule
from receiver.service import Service
from receiver.upkeep.channels import ChannelNotMoved
from receiver.web.page.answers import answer_page
from receiver.web.page.approve import links_to_approve
from receiver.web.page.auth import failure
from receiver.web.page.sessions import Session
from receiver.web.versions import AppChannel, AppVersions, apps_of, shelf_of


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
        for app in await shelf_of(request).of_all(service, apps_of(service))
    ]
    waiting = [move for board in boards for move in board.app.waiting]
    return answer_page(
        request, session, "channels.html",
        boards=boards, last_move=last_move, approvals=links_to_approve(service, waiting),
    )  # fmt: skip


def last_move(channel: AppChannel) -> Move | None:
    """Return the move that gave the channel its image."""
    return next((one for one in channel.moves if one.tag == channel.tag), None)


def _board(app: AppVersions, names: list[str], service: Service) -> Board:
    used = {channel.channel for channel in app.channels}
    return Board(
        app,
        tuple(name for name in names if name not in used),
        {channel.channel: _choices(app, channel) for channel in app.channels},
        {name: _followed(service.settings.rules, app.app, name) for name in names},
    )


def _followed(rules: Sequence[Rule], app: str, name: str) -> str:
    own = [rule.channel(name) for rule in rules if rule.app == app and name in rule.channels]
    needs = {need.value for channel in own for need in channel.needs}
    sources = {channel.source or "pushes" for channel in own}
    return " and ".join(sorted(sources)) + (
        f", after {' and '.join(sorted(needs))}" if needs else ""
    )


def _choices(app: AppVersions, channel: AppChannel) -> Mapping[str, str]:
    """Return the images that the channel may be moved to, each with its version.

    The image that it has and the one that it had before are not among them.
    """
    before = channel.before
    without = {f"{channel.repository}:{channel.tag}"}
    if before is not None:
        without.add(f"{before.repository}:{before.tag}")
    found: dict[str, str] = {}
    for one in app.versions:
        if one.mode is Mode.CREATE and one.active and one.image not in without:
            found.setdefault(one.image, one.version)
    return found


# The page that shows what a promotion changes, with the button that does it.

CONFLICT = 409


async def show_promotion(service: Service, request: Request, session: Session) -> Response:
    """Show what a promotion changes; its form makes the move."""
    query = request.query_params
    channel = query.get("app", ""), query.get("channel", "")
    to, other = query.get("to") or None, query.get("from") or None
    try:
        move = await service.moves.promotion(channel, to=to, from_channel=other)
    except ChannelNotMoved as error:
        return failure(request, CONFLICT, "Nothing can be moved.", str(error))
    fields = {
        "app": move.app, "channel": move.channel, "to": to or "", "from": other or "",
        "tag": move.tag, "digest": move.digest or "", "has": move.from_tag or "",
    }  # fmt: skip
    return answer_page(request, session, "promote.html", move=move, fields=fields)

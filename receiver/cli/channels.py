"""`receiver channels`, `rollback`, `promote`, `release`: list channels and move them manually."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import quote

import click

from receiver.cli.client import Server, configured, lenient_settings, reached
from receiver.cli.exits import USAGE, CommandError, handle_errors
from receiver.cli.operations import KEY, ask
from receiver.timestamps import format_time

if TYPE_CHECKING:
    from receiver.config.settings import Settings
    from receiver.ledger.deliveries import RecordedDelivery
    from receiver.ledger.transaction import Tx
    from receiver.ledger.views import Channel
    from receiver.rules.channel_order import ByHand
    from receiver.web.bodies import ChannelList, QueuedMove

COMMAND = "command"


@click.command()
@click.argument("app", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@handle_errors
def channels(app: str | None, as_json: bool) -> None:
    """List the channels of APP, or of all apps, with their images, holds and last moves."""
    from receiver.web.serialization import json_text

    settings = configured(KEY | {"rule"})
    known = sorted({rule.app for rule in settings.rules})
    if app is not None and app not in known:
        raise CommandError(f"no rule names the app {app}; rules name: {', '.join(known)}", USAGE)
    found = asyncio.run(_channels(settings, app))
    if as_json:
        click.echo(json_text(found))
        return
    for channel in found.channels:
        click.echo("\n".join(_lines(channel)))
    if not found.channels:
        click.echo("No rule moves a channel; see `channels` in the README.")


@click.command()
@click.argument("app")
@click.argument("channel")
@click.option("--to", metavar="VERSION", help="Use the image of this version instead.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@handle_errors
def rollback(app: str, channel: str, to: str | None, as_json: bool) -> None:
    """Move CHANNEL of APP back to its previous image, or to the image of another version.

    The channel is then held: nothing moves it until `receiver release`, or until a push of a higher
    version than the version it was rolled back from.
    """
    from receiver.rules.channel_order import ByHand
    from receiver.upkeep.channels import rollback_channel
    from receiver.web.bodies import QueuedMove, RollbackRequest

    settings = lenient_settings(KEY)

    def write(tx: Tx) -> QueuedMove:
        recorded = rollback_channel(tx, settings.rules, app, channel, to, source=COMMAND)
        return _recorded(ByHand.ROLLBACK, app, channel, recorded)

    asked = RollbackRequest(app, channel, to)
    _show(ask(settings, "/api/rollback", QueuedMove, asked, write), as_json)


@click.command()
@click.argument("app")
@click.argument("channel")
@click.option("--from", "other", metavar="CHANNEL", help="Use the image of this channel.")
@click.option("--to", metavar="VERSION", help="Use the image of this version.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@handle_errors
def promote(app: str, channel: str, other: str | None, to: str | None, as_json: bool) -> None:
    """Move CHANNEL of APP to the image of another channel or of a version.

    Without --from and --to, it takes the image of the channel that its `from` names.

    The channel is then held: nothing moves it until `receiver release`, or until a push of a higher
    version.
    """
    from receiver.rules.channel_order import ByHand
    from receiver.upkeep.channels import promote as promote_channel
    from receiver.web.bodies import PromoteRequest, QueuedMove

    if other is not None and to is not None:
        raise CommandError("use either --from CHANNEL or --to VERSION", USAGE)
    settings = lenient_settings(KEY)

    def write(tx: Tx) -> QueuedMove:
        recorded = promote_channel(
            tx, settings.rules, app, channel, to=to, from_channel=other, source=COMMAND
        )
        return _recorded(ByHand.PROMOTE, app, channel, recorded)

    asked = PromoteRequest(app, channel, to, other)
    _show(ask(settings, "/api/promote", QueuedMove, asked, write), as_json)


@click.command()
@click.argument("app")
@click.argument("channel")
@handle_errors
def release(app: str, channel: str) -> None:
    """Release the hold of CHANNEL of APP: the next push moves the channel again."""
    from receiver.audit import log_operation
    from receiver.upkeep.channels import release as release_channel
    from receiver.web.bodies import Released, ReleaseRequest

    settings = lenient_settings(KEY)

    def write(tx: Tx) -> Released:
        sentence = release_channel(tx, settings.rules, app, channel)
        log_operation("released", source=COMMAND, app=app, channel=channel)
        return Released(sentence)

    asked = ReleaseRequest(app, channel)
    click.echo(ask(settings, "/api/release", Released, asked, write).sentence)


async def _channels(settings: Settings, app: str | None) -> ChannelList:
    from receiver.ledger.channels import list_channels
    from receiver.web.bodies import ChannelList

    names = settings.channels(app)
    async with reached(settings) as there:
        if isinstance(there, Server):
            query = "" if app is None else f"?app={quote(app)}"
            return await there.ask("GET", f"/api/channels{query}", ChannelList)
        return ChannelList(tuple(await there.read(lambda tx: list_channels(tx, names))))


def _recorded(action: ByHand, app: str, channel: str, recorded: RecordedDelivery) -> QueuedMove:
    from receiver.upkeep.channels import log_moved
    from receiver.web.bodies import QueuedMove

    log_moved(action, app, channel, recorded, COMMAND)
    return QueuedMove(recorded.delivery, recorded.ruling.sentence)


def _show(done: QueuedMove, as_json: bool) -> None:
    from receiver.web.serialization import json_text

    text = f"{done.sentence}\nFor the result: receiver show {done.delivery}"
    click.echo(json_text(done) if as_json else text)


def _lines(channel: Channel) -> list[str]:
    lines = [f"{channel.app}/{channel.channel}  {channel.tag or 'not moved yet'}"]
    held = channel.held
    if held is not None:
        above = f" or a push of a version above {held.lifted_above}" if held.lifted_above else ""
        since = f"since {format_time(held.since_at)} ({held.action})"
        lines.append(f"  held at {held.tag} {since}, until `receiver release`{above}")
    if channel.drift is not None:
        found = "" if channel.drift_at is None else f", found {format_time(channel.drift_at)}"
        lines.append(f"  Edgegap has {channel.drift} instead{found}")
    lines += [
        f"  {format_time(move.at)}  {move.from_tag or '(new)'} → {move.tag}  "
        f"{move.action} by {move.source}, rule {move.rule}"
        for move in channel.moves
    ]
    return lines

"""`receiver channels`, `rollback`, `promote`, `release`: list channels and move them manually."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from receiver.cli.client import Server, configured, lenient_settings, reached
from receiver.cli.exits import USAGE, CommandError, handle_errors
from receiver.cli.operations import KEY, ask
from receiver.timestamps import format_time
from receiver.web.serialization import as_json as plain

if TYPE_CHECKING:
    from receiver.config.settings import Settings
    from receiver.ledger.deliveries import RecordedDelivery
    from receiver.ledger.transaction import Tx
    from receiver.rules.channel_order import ByHand

COMMAND = "command"
Row = dict[str, Any]


@click.command()
@click.argument("app", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@handle_errors
def channels(app: str | None, as_json: bool) -> None:
    """List the channels of APP, or of all apps, with their images, holds and last moves."""
    settings = configured(KEY | {"rule"})
    known = sorted({rule.app for rule in settings.rules})
    if app is not None and app not in known:
        raise CommandError(f"no rule names the app {app}; rules name: {', '.join(known)}", USAGE)
    found = asyncio.run(_channels(settings, app))
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    for row in found["channels"]:
        click.echo("\n".join(_lines(row)))
    if not found["channels"]:
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

    settings = lenient_settings(KEY)

    def write(tx: Tx) -> Row:
        recorded = rollback_channel(tx, settings.rules, app, channel, to, source=COMMAND)
        return _recorded(ByHand.ROLLBACK, app, channel, recorded)

    _show(
        ask(settings, "/api/rollback", {"app": app, "channel": channel, "to": to}, write), as_json
    )


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

    if other is not None and to is not None:
        raise CommandError("use either --from CHANNEL or --to VERSION", USAGE)
    settings = lenient_settings(KEY)

    def write(tx: Tx) -> Row:
        recorded = promote_channel(
            tx, settings.rules, app, channel, to=to, from_channel=other, source=COMMAND
        )
        return _recorded(ByHand.PROMOTE, app, channel, recorded)

    body = {"app": app, "channel": channel, "to": to, "from": other}
    _show(ask(settings, "/api/promote", body, write), as_json)


@click.command()
@click.argument("app")
@click.argument("channel")
@handle_errors
def release(app: str, channel: str) -> None:
    """Release the hold of CHANNEL of APP: the next push moves the channel again."""
    from receiver.audit import log_operation
    from receiver.upkeep.channels import release as release_channel

    settings = lenient_settings(KEY)

    def write(tx: Tx) -> Row:
        sentence = release_channel(tx, settings.rules, app, channel)
        log_operation("released", source=COMMAND, app=app, channel=channel)
        return {"sentence": sentence}

    done = ask(settings, "/api/release", {"app": app, "channel": channel}, write)
    click.echo(done["sentence"])


async def _channels(settings: Settings, app: str | None) -> Row:
    from receiver.ledger.channels import channel_rows

    names = settings.channels(app)
    async with reached(settings) as there:
        if isinstance(there, Server):
            query = "" if app is None else f"?app={quote(app)}"
            return await there.ask("GET", f"/api/channels{query}")
        rows = await there.read(lambda tx: channel_rows(tx, names))
    return plain({"channels": rows})


def _recorded(action: ByHand, app: str, channel: str, recorded: RecordedDelivery) -> Row:
    from receiver.upkeep.channels import log_moved

    log_moved(action, app, channel, recorded, COMMAND)
    return {"delivery": recorded.delivery, "sentence": recorded.ruling.sentence}


def _show(done: Row, as_json: bool) -> None:
    text = f"{done['sentence']}\nFor the result: receiver show {done['delivery']}"
    click.echo(json.dumps(done) if as_json else text)


def _lines(row: Row) -> list[str]:
    lines = [f"{row['app']}/{row['channel']}  {row['tag'] or 'not moved yet'}"]
    held, drift = row["held"], row["drift"]
    if held is not None:
        above = (
            f" or a push of a version above {held['lifted_above']}" if held["lifted_above"] else ""
        )
        since = f"since {format_time(held['since_at'])} ({held['action']})"
        lines.append(f"  held at {held['tag']} {since}, until `receiver release`{above}")
    if drift is not None:
        lines.append(f"  Edgegap has {drift} instead, found {format_time(row['drift_at'])}")
    lines += [
        f"  {format_time(move['at'])}  {move['from_tag'] or '(new)'} → {move['tag']}  "
        f"{move['action']} by "
        f"{move['source']}, rule {move['rule']}"
        for move in row["moves"]
    ]
    return lines

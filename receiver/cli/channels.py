"""`receiver channels`, `promote`, `rollback`, `release`: list channels and move them manually."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

import click

from receiver.cli.client import (
    KEY,
    ask_receiver,
    check_app,
    configured,
    lenient_settings,
    perform,
)
from receiver.cli.output import (
    NOT_DONE,
    USAGE,
    CommandError,
    colored,
    handle_errors,
    is_interactive,
    json_text,
    print_rows,
    print_title,
)
from receiver.timestamps import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from receiver.config.settings import Settings
    from receiver.ledger.views import Channel
    from receiver.upkeep.promotion import ProposedMove
    from receiver.web.bodies import QueuedMove


@click.command()
@click.argument("app", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@handle_errors
def channels(app: str | None, as_json: bool) -> None:
    """List the channels of APP, or of all apps, with their images, holds and last moves."""
    from receiver.web.bodies import ChannelList

    settings = configured(KEY | {"rule"})
    if app is not None:
        check_app(settings, app)
    query = "" if app is None else f"?app={quote(app)}"
    found = ask_receiver(settings, "GET", f"/api/channels{query}", ChannelList)
    if as_json:
        click.echo(json_text(found))
        return
    if not found.channels:
        click.echo("No rule moves a channel; see `channels` in the README.")
    rows = [row for channel in found.channels for row in _states(channel)]
    print_rows(("CHANNEL", "HAS", "STATE", "DETAILS"), rows, plain="channel")
    moves = [
        (
            format_time(move.at),
            f"{channel.app}/{channel.channel}",
            move.from_tag or "(new)",
            move.tag,
            f"{move.action} by {move.by or move.source or 'a purged delivery'}",
            move.rule,
        )
        for channel in found.channels
        for move in channel.moves
    ]
    if moves:
        print_title("Last moves")
    print_rows(("MOVED (UTC)", "CHANNEL", "FROM", "TO", "BY", "RULE"), moves, plain="move")


@click.command()
@click.argument("app")
@click.argument("channel")
@click.option(
    "--to", metavar="VERSION", help="Use the image of this version, or REPOSITORY:TAG, instead."
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@handle_errors
def rollback(app: str, channel: str, to: str | None, *, yes: bool, as_json: bool) -> None:
    """Move CHANNEL of APP back to its previous image, or to the image of another version.

    What changes is shown before. On a terminal it asks first.

    The channel is then held: nothing moves it until `receiver release`, or until a push of a higher
    version than the version it was rolled back from.
    """
    from receiver.web.bodies import QueuedMove, RollbackRequest

    settings, tag = lenient_settings(KEY), None
    if not as_json:
        tag = _shown(settings, "rollback", {"app": app, "channel": channel, "to": to}, yes=yes).tag
    asked = RollbackRequest(app, channel, to, tag)
    _show(perform(settings, "/api/rollback", QueuedMove, asked), as_json=as_json)


@click.command()
@click.argument("app")
@click.argument("channel")
@handle_errors
def release(app: str, channel: str) -> None:
    """Release the hold of CHANNEL of APP: the next push moves the channel again."""
    from receiver.web.bodies import Released, ReleaseRequest

    asked = ReleaseRequest(app, channel)
    click.echo(perform(lenient_settings(KEY), "/api/release", Released, asked).sentence)


def _show(done: QueuedMove, *, as_json: bool) -> None:
    text = f"{done.sentence}\nFor the result: receiver show {done.delivery}"
    click.echo(json_text(done) if as_json else text)


def _states(channel: Channel) -> list[tuple[str, str, str, str]]:
    """Return a row for all that holds a channel or differs, at least one."""
    found: list[tuple[str, str]] = []
    held = channel.held
    if held is not None:
        above = f" or a push of a version above {held.lifted_above}" if held.lifted_above else ""
        since = f"since {format_time(held.since_at)} ({held.action})"
        place = "at" if held.tag == channel.tag else "for the move to"
        why = f"{place} {held.tag} {since}, until `receiver release`{above}"
        found.append((colored("held", "waiting"), why))
    if channel.drift is not None:
        when = "" if channel.drift_at is None else f", found {format_time(channel.drift_at)}"
        found.append((colored("differs", "problem"), f"Edgegap has {channel.drift}{when}"))
    for waits in channel.waiting:
        why = f"for {waits.tag} ({waits.reason}) since {format_time(waits.since_at)}"
        found.append((colored("waits", "waiting"), f"{why}: {waits.sentence}"))
    name, has = f"{channel.app}/{channel.channel}", channel.tag or "not moved yet"
    return [(name, has, state, why) for state, why in found or [("", "")]]


@click.command()
@click.argument("app")
@click.argument("channel")
@click.option("--from", "other", metavar="CHANNEL", help="Use the image of this channel.")
@click.option("--to", metavar="VERSION", help="Use the image of this version, or REPOSITORY:TAG.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@handle_errors
def promote(
    app: str, channel: str, *, other: str | None, to: str | None, yes: bool, as_json: bool
) -> None:
    """Move CHANNEL of APP to the image of another channel or of a version.

    Without --from and --to, it takes the image of the channel that its `from` names. What changes
    is shown before. The move is parked if the tag has another image in the registry by now.

    The channel is then held: nothing moves it until `receiver release`, or until a push of a higher
    version.
    """
    from receiver.web.bodies import PromoteRequest, QueuedMove

    if other is not None and to is not None:
        raise CommandError("use either --from CHANNEL or --to VERSION", USAGE)
    settings = lenient_settings(KEY)
    tag = digest = None
    if not as_json:
        named = {"app": app, "channel": channel, "to": to, "from": other}
        move = _shown(settings, "promotion", named, yes=yes)
        tag, digest = move.tag, move.digest
    asked = PromoteRequest(app, channel, to, other, tag, digest)
    _show(perform(settings, "/api/promote", QueuedMove, asked), as_json=as_json)


def _shown(
    settings: Settings, what: str, named: Mapping[str, str | None], *, yes: bool
) -> ProposedMove:
    """Print what a move changes; on a terminal, ask whether to make it unless `yes`."""
    from receiver.upkeep.promotion import ProposedMove, facts_of

    query = urlencode({name: value for name, value in named.items() if value is not None})
    move = ask_receiver(settings, "GET", f"/api/{what}?{query}", ProposedMove, begin=True)
    click.echo(f"{move.app}/{move.channel}", err=True)
    for name, fact in facts_of(move):
        click.echo(f"  {name:<7}  {fact}", err=True)
    if not yes and is_interactive():
        question = f"Move {move.app}/{move.channel} to {move.tag}? Players get it from their next"
        if not click.confirm(f"{question} match on.", err=True):
            raise CommandError("nothing was moved", NOT_DONE)
    return move

"""`receiver promote`: show what a move changes, then move the channel and hold it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import click

from receiver.cli.channels import show_queued
from receiver.cli.client import lenient_settings, perform, reached
from receiver.cli.exits import NOT_DONE, USAGE, CommandError, handle_errors
from receiver.cli.operations import KEY
from receiver.cli.prune import is_terminal

if TYPE_CHECKING:
    from receiver.config.settings import Settings
    from receiver.upkeep.promotion import ProposedMove

READING_SECONDS = 60.0  # a call to Edgegap, which may be slow


@click.command()
@click.argument("app")
@click.argument("channel")
@click.option("--from", "other", metavar="CHANNEL", help="Use the image of this channel.")
@click.option("--to", metavar="VERSION", help="Use the image of this version.")
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
    tag = None
    if not as_json:
        named = {"app": app, "channel": channel, "to": to, "from": other}
        move = asyncio.run(_proposed(settings, named))
        tag = move.tag
        click.echo("\n".join(_lines(move)), err=True)
        if not yes and is_terminal():
            question = f"Move {app}/{channel} to {tag}? Players get it from their next match on."
            if not click.confirm(question, err=True):
                raise CommandError("nothing was moved", NOT_DONE)
    asked = PromoteRequest(app, channel, to, other, tag)
    show_queued(asyncio.run(perform(settings, "/api/promote", QueuedMove, asked)), as_json)


async def _proposed(settings: Settings, named: dict[str, str | None]) -> ProposedMove:
    from receiver.upkeep.promotion import ProposedMove

    query = urlencode({name: value for name, value in named.items() if value is not None})
    async with reached(settings, begin=True) as server:
        path = f"/api/promotion?{query}"
        return await server.ask("GET", path, ProposedMove, seconds=READING_SECONDS)


def _lines(move: ProposedMove) -> list[str]:
    has = f"{move.from_repository}:{move.from_tag}" if move.from_tag else "nothing yet"
    trial = {True: "passed", False: "failed", None: "it was not tried"}[move.passed]
    many = "" if move.running == 1 else "s"
    running = f"{move.running} deployment{many} of the channel"
    return [
        f"{move.app}/{move.channel}",
        f"  has      {has}",
        f"  gets     {move.repository}:{move.tag}",
        f"  digest   {move.digest or 'not known'}",
        f"  trial    {trial}",
        f"  running  {'not known' if move.running is None else running}",
        *(f"  differs  {one.name}: {one.a} → {one.b}" for one in move.differences),
    ]

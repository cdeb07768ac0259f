"""`receiver replay`: read the rules again for deliveries, and set them going from now."""

import asyncio
import json
from typing import Any

import click
import msgspec

from receiver.cli.configured import configured
from receiver.cli.exits import NOT_FOUND, USAGE, Stop, told_plainly
from receiver.cli.moments import moment
from receiver.cli.reaching import Server, reached
from receiver.settings import Current, Settings
from receiver.upkeep.manual import Manual
from receiver.upkeep.operations import Source

Row = dict[str, Any]


@click.command(short_help="Read the rules again for deliveries, and try them now.")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--parked", is_flag=True, help="All whose registrations are parked.")
@click.option("--since", help="All since then: 2026-11-23, 2026-11-23T17:00, or 2h, 3d ago.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@told_plainly
def replay(ids: tuple[str, ...], parked: bool, since: str | None, as_json: bool) -> None:
    """Replay deliveries: read the rules again for each, and try its registrations now.

    Nothing is made twice: what Edgegap already has ends as `unchanged`. Works as often as you
    like, for what was ignored, parked or done.
    """
    if not ids and not parked and since is None:
        raise Stop("name deliveries by id, or say --parked or --since", USAGE)
    settings = configured(frozenset({"RECEIVER_SECRET_KEY"}))
    since_ms = None if since is None else moment(since)
    asked = {"ids": list(ids), "parked": parked, "since": since_ms}
    replayed, missing = asyncio.run(_replay(settings, asked))
    for one in replayed:
        if as_json:
            click.echo(json.dumps(one, ensure_ascii=False))
        else:
            reason = f" {one['reason']}:" if one["reason"] else ""
            click.echo(f"{one['delivery']}  {one['verdict']}{reason} {one['sentence']}".rstrip())
    if replayed and not as_json:
        which = replayed[0]["delivery"] if len(replayed) == 1 else "ID"
        click.echo(f"What comes of it: receiver show {which}", err=True)
    if missing:
        named = ", ".join(missing)
        raise Stop(f"there is no delivery {named}; see `receiver deliveries`", NOT_FOUND)
    if not replayed and not as_json:
        click.echo("Nothing to replay.", err=True)


async def _replay(settings: Settings, asked: dict[str, Any]) -> tuple[list[Row], list[str]]:
    async with reached(settings) as there:
        if isinstance(there, Server):
            told = await there.ask("POST", "/api/replay", asked)
            return list(told["replayed"]), list(told["missing"])
        configured(frozenset({"rule"}))  # else all would become `no_rule`
        manual = Manual(there, Current(settings))
        replayed, missing = await manual.replay(
            asked["ids"], Source.COMMAND, parked=asked["parked"], since=asked["since"]
        )
        if replayed:
            click.echo("receiver: no server is running; `receiver serve` works them", err=True)
        return list(msgspec.to_builtins(replayed)), missing

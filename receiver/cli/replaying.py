"""`receiver replay`: apply the rules to recorded deliveries again."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import click
import msgspec

from receiver.cli.configured import configured
from receiver.cli.exits import NOT_FOUND, USAGE, Stop, told_plainly
from receiver.cli.moments import moment
from receiver.cli.reaching import Server, reached

if TYPE_CHECKING:
    from receiver.settings import Settings

Row = dict[str, Any]


@click.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--parked", is_flag=True, help="All deliveries with a parked registration.")
@click.option(
    "--since", help="All deliveries since a time: 2026-11-23, 2026-11-23T17:00, 2h or 3d ago."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@told_plainly
def replay(ids: tuple[str, ...], parked: bool, since: str | None, as_json: bool) -> None:
    """Replay deliveries: apply the current rules to each, and try its registrations now.

    No version is created twice: a registration ends as `unchanged` if Edgegap has its version.
    Ignored, parked and done deliveries can be replayed any number of times.
    """
    if not ids and not parked and since is None:
        raise Stop("name deliveries by ID, or use --parked or --since", USAGE)
    settings = configured(frozenset({"RECEIVER_SECRET_KEY"}))
    since_ms = None if since is None else moment(since)
    asked = {"ids": list(ids), "parked": parked, "since": since_ms}
    replayed, missing = asyncio.run(_replay(settings, asked))
    for row in replayed:
        if as_json:
            click.echo(json.dumps(row, ensure_ascii=False))
        else:
            reason = f" {row['reason']}:" if row["reason"] else ""
            click.echo(f"{row['delivery']}  {row['verdict']}{reason} {row['sentence']}".rstrip())
    if replayed and not as_json:
        which = replayed[0]["delivery"] if len(replayed) == 1 else "ID"
        click.echo(f"For the result: receiver show {which}", err=True)
    if missing:
        named = ", ".join(missing)
        raise Stop(f"there is no delivery {named}; see `receiver deliveries`", NOT_FOUND)
    if not replayed and not as_json:
        click.echo("Nothing to replay.", err=True)


async def _replay(settings: Settings, asked: dict[str, Any]) -> tuple[list[Row], list[str]]:
    async with reached(settings) as there:
        if isinstance(there, Server):
            reply = await there.ask("POST", "/api/replay", asked)
            return list(reply["replayed"]), list(reply["missing"])
        from receiver.settings import Current
        from receiver.upkeep.manual import Manual
        from receiver.upkeep.operations import Source

        configured(frozenset({"rule"}))  # otherwise every verdict would be `no_rule`
        manual = Manual(there, Current(settings))
        replayed, missing = await manual.replay(
            asked["ids"], Source.COMMAND, parked=asked["parked"], since=asked["since"]
        )
        if replayed:
            click.echo(
                "receiver: no server is running; start `receiver serve` to process them", err=True
            )
        return list(msgspec.to_builtins(replayed)), missing

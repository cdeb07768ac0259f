"""`receiver replay`: read the rules again for deliveries, and set them going from now."""

import asyncio
import json
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import msgspec

from receiver.cli.exits import NOT_FOUND, USAGE, Stop, told_plainly
from receiver.cli.reaching import Server, reached
from receiver.intake import replay_many
from receiver.ledger.ledger import Ledger
from receiver.ledger.stories import deliveries_to_replay
from receiver.ledger.transactions import Tx
from receiver.settings import Settings, load_settings

UNITS = {"m": "minutes", "h": "hours", "d": "days"}


@click.command()
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
    settings = load_settings(os.environ, need=frozenset({"RECEIVER_SECRET_KEY"}))
    asked = {"ids": list(ids), "parked": parked, "since": since and _moment(since)}
    replayed = asyncio.run(_replay(settings, asked))
    for one in replayed:
        if as_json:
            click.echo(json.dumps(one, ensure_ascii=False))
        else:
            detail = f" {one['reason']}: {one['sentence']}" if one["reason"] else ""
            click.echo(f"{one['delivery']}  {one['verdict']}{detail}")
    missing = len(set(ids) - {one["delivery"] for one in replayed}) if ids else 0
    if missing and len(replayed) < len(set(ids)):
        raise Stop("some of these deliveries do not exist; see `receiver deliveries`", NOT_FOUND)
    if not replayed and not as_json:
        click.echo("Nothing to replay.", err=True)


async def _replay(settings: Settings, asked: dict[str, Any]) -> list[dict[str, Any]]:
    async with reached(settings) as there:
        if isinstance(there, Server):
            told = await there.ask("POST", "/api/replay", asked)
            return list(told["replayed"])
        return await _replay_here(there, settings, asked)


async def _replay_here(
    ledger: Ledger, settings: Settings, asked: dict[str, Any]
) -> list[dict[str, Any]]:
    def write(tx: Tx) -> list[Any]:
        chosen = list(asked["ids"])
        if asked["parked"] or asked["since"] is not None:
            chosen += deliveries_to_replay(tx, parked=asked["parked"], since=asked["since"])
        return replay_many(tx, settings.rules, dict.fromkeys(chosen))

    return list(msgspec.to_builtins(await ledger.write(write)))


def _moment(text: str) -> int:
    """Return what the person meant, in epoch milliseconds: a date, a time, or so long ago."""
    number, unit = text[:-1], text[-1:]
    if number.isdigit() and unit in UNITS:
        moment = datetime.now(UTC) - timedelta(**{UNITS[unit]: int(number)})
    else:
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            raise Stop(f"{text!r} is no time: write 2026-11-23T17:00, 2h or 3d", USAGE) from None
        moment = moment if moment.tzinfo else moment.astimezone()
    return int(moment.timestamp() * 1000)

"""`receiver push`: record a delivery by hand, through the same rules as a webhook."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import click

from receiver.cli.configured import configured
from receiver.cli.exits import INTERRUPTED, NOT_DONE, STILL_WAITING, Stop, told_plainly
from receiver.cli.reaching import Server, reached
from receiver.images import ImageReference, parse_image_reference
from receiver.reasons import State
from receiver.telling import as_json as plain
from receiver.telling import whole_story
from receiver.variables import NEEDED

if TYPE_CHECKING:
    from receiver.ledger.ledger import Ledger
    from receiver.settings import Settings

LOOK_EVERY_SECONDS = 0.1
NOT_ANSWERED = "stopped; the server may still record the push, see `receiver deliveries`"
Row = dict[str, Any]


@click.command()
@click.argument("image", metavar="REPOSITORY:TAG")
@click.option("--wait", is_flag=True, help="Wait for what becomes of it; 0 only when all is done.")
@click.option(
    "--timeout",
    default=120.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds that --wait waits.",
)
@click.option("--dry-run", is_flag=True, help="Print the exact requests instead; send no write.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@told_plainly
def push(image: str, wait: bool, timeout: float, dry_run: bool, as_json: bool) -> None:
    """Register REPOSITORY:TAG as if Docker Hub had told of it.

    Goes through the same rules, ledger and worker as a webhook. It is as old as Docker Hub says the
    tag is: an old one moves no channel back, which `receiver rollback` does. Without a running
    server it is recorded for the next `receiver serve`; with --wait it is worked here and now.

    \b
    With --wait the exit code tells what became of it:
      0  every registration is done     1  one is parked, or the push was ignored
      6  it still waits after --timeout; `receiver show ID` says why
    """
    reference = parse_image_reference(image)
    settings = configured(NEEDED)
    if dry_run:
        from receiver.cli.rehearsing import rehearse

        rehearsed = asyncio.run(rehearse(settings, reference))
        click.echo(json.dumps(rehearsed, ensure_ascii=False, indent=None if as_json else 2))
        if not rehearsed["requests"]:
            raise SystemExit(NOT_DONE)
        return
    recorded: list[str] = []
    pushing = _push(settings, reference, recorded, wait_seconds=timeout if wait else 0)
    try:
        row = asyncio.run(pushing)
    except KeyboardInterrupt:
        raise Stop(_stopped(recorded), INTERRUPTED) from None
    click.echo(json.dumps(row, ensure_ascii=False) if as_json else whole_story(row))
    if row["verdict"] != "accepted":
        raise SystemExit(NOT_DONE)
    if wait:
        _judge(row)


def _stopped(recorded: list[str]) -> str:
    if not recorded:
        return "stopped"
    return f"stopped; the push is recorded, see `receiver show {recorded[0]}`"


async def _push(
    settings: Settings, image: ImageReference, recorded: list[str], *, wait_seconds: float
) -> Row:
    """Record the push, add its delivery's id to `recorded`, and wait for its end as asked."""
    async with reached(settings, begin=True) as there:
        if isinstance(there, Server):
            return await _push_there(there, image, recorded, wait_seconds)
        if wait_seconds:
            return await _push_and_work(there, settings, image, recorded, wait_seconds)
        return await _push_into(there, settings, image, recorded)


async def _push_there(
    server: Server, image: ImageReference, recorded: list[str], wait_seconds: float
) -> Row:
    """Have the running server record the push."""
    text = f"{image.repository}:{image.tag}"
    try:
        row = await server.ask("POST", "/api/deliveries", {"image": text})
    except asyncio.CancelledError:
        raise Stop(NOT_ANSWERED, INTERRUPTED) from None
    recorded.append(row["id"])
    until = time.monotonic() + wait_seconds
    while not _finished(row) and time.monotonic() < until:
        await asyncio.sleep(LOOK_EVERY_SECONDS)
        row = await server.ask("GET", f"/api/deliveries/{row['id']}")
    return row


async def _push_into(
    ledger: Ledger, settings: Settings, image: ImageReference, recorded: list[str]
) -> Row:
    """Record the push for the next server."""
    from receiver.dockerhub.hub import Hub
    from receiver.outgoing import http_client
    from receiver.settings import Current
    from receiver.upkeep.manual import Manual
    from receiver.upkeep.operations import Source

    async with http_client() as http:
        manual, hub = Manual(ledger, Current(settings)), Hub(http, settings.hub_api_url)
        delivery = (await manual.push(hub, image, Source.COMMAND)).delivery
    recorded.append(delivery)
    row = await _look(ledger, delivery)
    if row["registrations"]:
        hint = "receiver: no server is running; `receiver serve` works it, or say --wait"
        click.echo(hint, err=True)
    return row


async def _push_and_work(
    ledger: Ledger,
    settings: Settings,
    image: ImageReference,
    recorded: list[str],
    wait_seconds: float,
) -> Row:
    """Record the push, and work it in this process."""
    from receiver.service import running
    from receiver.upkeep.operations import Source

    async with running(settings, ledger, catching_up=False) as service:
        push = service.manual.push(service.preflight.hub, image, Source.COMMAND)
        delivery = (await push).delivery
        recorded.append(delivery)
        row = await _look(ledger, delivery)
        until = time.monotonic() + wait_seconds
        while not _finished(row) and time.monotonic() < until:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            row = await _look(ledger, row["id"])
        if settings.notices:
            await service.telling_others.send_due()
        return row


async def _look(ledger: Ledger, identity: str) -> Row:
    from receiver.ledger.stories import story

    row = await ledger.read(lambda tx: story(tx, identity))
    return plain(row or {})


def _finished(row: Row) -> bool:
    return all(one["state"] in {State.DONE, State.PARKED} for one in row["registrations"])


def _judge(row: Row) -> None:
    if not _finished(row):
        raise Stop(f"it still waits; see `receiver show {row['id']}`", STILL_WAITING)
    if any(one["state"] == State.PARKED for one in row["registrations"]):
        raise SystemExit(NOT_DONE)

"""`receiver push`: record a push manually; the same rules apply as for a webhook."""

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
@click.option(
    "--wait", is_flag=True, help="Wait for the result; exit 0 only if every registration is done."
)
@click.option(
    "--timeout",
    default=120.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="Seconds that --wait waits.",
)
@click.option(
    "--dry-run", is_flag=True, help="Print the requests that would be sent; change nothing."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@told_plainly
def push(image: str, wait: bool, timeout: float, dry_run: bool, as_json: bool) -> None:
    """Register REPOSITORY:TAG as if a webhook had arrived.

    The same rules, ledger and worker are used as for a webhook. The push time is the time that
    Docker Hub reports for the tag, so an old tag never moves a channel back; `receiver
    rollback` does. Without a running server, the push is queued for the next `receiver serve`; with
    --wait, it is processed immediately.

    \b
    With --wait the exit code is:
      0  every registration is done
      1  a registration is parked, or the push was ignored
      6  a registration is not done after --timeout; `receiver show ID` gives the reason
    """
    reference = parse_image_reference(image)
    settings = configured(NEEDED)
    if dry_run:
        from receiver.cli.rehearsing import rehearse

        planned = asyncio.run(rehearse(settings, reference))
        click.echo(json.dumps(planned, ensure_ascii=False, indent=None if as_json else 2))
        if not planned["requests"]:
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
        _exit_by_state(row)


def _stopped(recorded: list[str]) -> str:
    if not recorded:
        return "stopped"
    return f"stopped; the push is recorded, see `receiver show {recorded[0]}`"


async def _push(
    settings: Settings, image: ImageReference, recorded: list[str], *, wait_seconds: float
) -> Row:
    """Record the push, append its delivery ID to `recorded`, and wait up to `wait_seconds`."""
    async with reached(settings, begin=True) as there:
        if isinstance(there, Server):
            return await _push_to_server(there, image, recorded, wait_seconds)
        if wait_seconds:
            return await _push_and_process(there, settings, image, recorded, wait_seconds)
        return await _push_to_ledger(there, settings, image, recorded)


async def _push_to_server(
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


async def _push_to_ledger(
    ledger: Ledger, settings: Settings, image: ImageReference, recorded: list[str]
) -> Row:
    """Record the push; the next server processes it."""
    from receiver.dockerhub.hub import Hub
    from receiver.outgoing import http_client
    from receiver.settings import Current
    from receiver.upkeep.manual import Manual
    from receiver.upkeep.operations import Source

    async with http_client() as http:
        manual, hub = Manual(ledger, Current(settings)), Hub(http, settings.hub_api_url)
        delivery = (await manual.push(hub, image, Source.COMMAND)).delivery
    recorded.append(delivery)
    row = await _read_row(ledger, delivery)
    if row["registrations"]:
        hint = "receiver: no server is running; start `receiver serve`, or use --wait"
        click.echo(hint, err=True)
    return row


async def _push_and_process(
    ledger: Ledger,
    settings: Settings,
    image: ImageReference,
    recorded: list[str],
    wait_seconds: float,
) -> Row:
    """Record the push and process it in this process."""
    from receiver.service import running
    from receiver.upkeep.operations import Source

    async with running(settings, ledger, catching_up=False) as service:
        push = service.manual.push(service.preflight.hub, image, Source.COMMAND)
        delivery = (await push).delivery
        recorded.append(delivery)
        row = await _read_row(ledger, delivery)
        until = time.monotonic() + wait_seconds
        while not _finished(row) and time.monotonic() < until:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            row = await _read_row(ledger, row["id"])
        if settings.notices:
            await service.telling_others.send_due()
        return row


async def _read_row(ledger: Ledger, identity: str) -> Row:
    from receiver.ledger.stories import story

    row = await ledger.read(lambda tx: story(tx, identity))
    return plain(row or {})


def _finished(row: Row) -> bool:
    return all(
        registration["state"] in {State.DONE, State.PARKED} for registration in row["registrations"]
    )


def _exit_by_state(row: Row) -> None:
    if not _finished(row):
        raise Stop(
            f"a registration is not done yet; see `receiver show {row['id']}`", STILL_WAITING
        )
    if any(registration["state"] == State.PARKED for registration in row["registrations"]):
        raise SystemExit(NOT_DONE)

"""`receiver trial`: have a version tried, wherever it came from."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import click

from receiver.cli.client import KEY, lenient_settings, perform, reached
from receiver.cli.exits import NOT_DONE, STILL_WAITING, USAGE, CommandError, handle_errors
from receiver.reasons import Outcome, State
from receiver.rules.rule import Mode

if TYPE_CHECKING:
    from receiver.config.settings import Settings
    from receiver.ledger.views import DeliveryDetail, RegistrationDetail

LOOK_EVERY_SECONDS = 1.0
WAIT_SECONDS = 900.0


@click.command()
@click.argument("app")
@click.argument("version")
@click.option(
    "--at",
    "near",
    metavar="PLACE",
    help="Where to deploy it: 45.5,-73.6 or an IP address; default: the rule's `at`.",
)
@click.option(
    "--keep", metavar="TIME", help="Let the deployment run on for this time, such as 10m."
)
@click.option("--wait", is_flag=True, help="Wait for the verdict.")
@click.option(
    "--timeout",
    default=WAIT_SECONDS,
    show_default=True,
    type=click.FloatRange(min=1),
    help="Seconds to wait with --wait.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@handle_errors
def trial(
    app: str,
    version: str,
    *,
    near: str | None,
    keep: str | None,
    wait: bool,
    timeout: float,
    as_json: bool,
) -> None:
    """Try VERSION of APP: deploy it once, watch it, stop it.

    The deployment costs what Edgegap takes for it. With --keep it runs on after the verdict, so
    that a person can connect to it, and is stopped then.

    \b
    With --wait the exit code is:
      0  the trial passed
      1  it failed, or was refused
      6  it is not done after --timeout; `receiver show ID` gives the reason
    """
    from receiver.cli.delivery_text import format_detail
    from receiver.edgegap.deployment_answers import read_near
    from receiver.web.bodies import QueuedTrial, TrialRequest
    from receiver.web.serialization import json_text

    try:
        kept = _kept(keep)
        if near is not None:
            read_near(near)
    except ValueError as error:
        raise CommandError(str(error), USAGE) from None
    settings = lenient_settings(KEY)
    asked = TrialRequest(app, version, near, None if kept is None else kept // 1000)
    done = perform(settings, "/api/trials", QueuedTrial, asked)
    if not wait:
        text = f"{done.sentence}\nFor the result: receiver show {done.delivery}"
        click.echo(json_text(done) if as_json else text)
        return
    row = asyncio.run(_ended(settings, done.delivery, timeout))
    click.echo(json_text(row) if as_json else format_detail(row))
    if not _is_over(row):
        raise CommandError(f"it is not done; see `receiver show {row.id}`", STILL_WAITING)
    if any(one.outcome is not Outcome.PASSED for one in _trials(row)):
        raise SystemExit(NOT_DONE)


def _kept(text: str | None) -> int | None:
    """Return a time such as 10m in milliseconds; raises ValueError."""
    from receiver.config.values import duration_fault, read_duration
    from receiver.web.bodies import LONGEST_KEEP_SECONDS

    fault = None if text is None else duration_fault(text, 1000, LONGEST_KEEP_SECONDS * 1000)
    if fault is not None:
        raise ValueError(f"--keep: {fault}; write for instance 10m, at most 24h")
    return read_duration(text)


def _is_over(row: DeliveryDetail) -> bool:
    """Return whether the trial is done or parked; a channel may wait on."""
    return all(one.state in {State.DONE, State.PARKED} for one in _trials(row))


def _trials(row: DeliveryDetail) -> list[RegistrationDetail]:
    """Return the trial: the delivery may also have led to the moves of channels, older ones too."""
    return [one for one in row.registrations if one.mode is Mode.TRIAL]


async def _ended(settings: Settings, delivery: str, seconds: float) -> DeliveryDetail:
    from receiver.ledger.views import DeliveryDetail

    async with reached(settings) as server:
        if server.is_here:
            sentence = (
                f"no server is running: start `receiver serve`; see `receiver show {delivery}`"
            )
            raise CommandError(sentence, STILL_WAITING)
        path, until = f"/api/deliveries/{delivery}", time.monotonic() + seconds
        row = await server.ask("GET", path, DeliveryDetail)
        while not _is_over(row) and time.monotonic() < until:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            row = await server.ask("GET", path, DeliveryDetail)
        return row

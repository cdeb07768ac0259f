"""`receiver status`: health, what is parked or waiting, and the last pushes, at one look."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click
import msgspec

from receiver.cli.client import KEY, lenient_settings, reached
from receiver.cli.output import NOT_DONE, colored, handle_errors, json_text, print_rows, print_title
from receiver.timestamps import format_time

if TYPE_CHECKING:
    from receiver.config.settings import Settings
    from receiver.ledger.views import Delivery, ParkedRegistration, Registration
    from receiver.upkeep.health import Condition

MAX_LISTED = 5  # of each list
LOOKED_AT = 50  # deliveries, for the last pushes: each multi-platform push reports parts as well
NO_SERVER = (
    "No server on this machine uses this ledger: pushes are not recorded. Start `receiver serve`."
)


class Status(msgspec.Struct, frozen=True):
    """What the command prints with --json."""

    well: bool
    ready: bool
    problems: tuple[Condition, ...]
    remarks: tuple[str, ...]
    parked_count: int
    parked: tuple[ParkedRegistration, ...]
    waiting: tuple[Registration, ...]
    last: tuple[Delivery, ...]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@handle_errors
def status(as_json: bool) -> None:
    """Show health, what is parked or waiting, and the last pushes. All times are UTC.

    The exit code is 0 if all is well: the server runs, can record a push and has no problem, and
    nothing is parked. Otherwise it is 1. What waits is tried again automatically.
    """
    found = asyncio.run(_look(lenient_settings(KEY)))
    if as_json:
        click.echo(json_text(found))
    else:
        _print(found)
    if not found.well:
        raise SystemExit(NOT_DONE)


async def _look(settings: Settings) -> Status:
    from receiver.ledger.views import DeliveryPage
    from receiver.upkeep.health import Code, Condition
    from receiver.web.health import Overview

    path = "/api/deliveries?limit="
    async with reached(settings) as server:
        now = await server.ask("GET", "/api/overview", Overview)
        waiting = await server.ask("GET", f"{path}{MAX_LISTED}&state=waiting", DeliveryPage)
        last = await server.ask("GET", f"{path}{LOOKED_AT}", DeliveryPage)
    problems, ready = tuple(now.degraded), now.ready
    if server.is_here:  # its worker does not run, which this says in other words
        others = (one for one in problems if one.code is not Code.WORKER)
        problems, ready = (Condition(Code.WORKER, NO_SERVER), *others), False
    return Status(
        well=ready and not problems and not now.parked_count,
        ready=ready,
        problems=problems,
        remarks=now.remarks,
        parked_count=now.parked_count,
        parked=now.parked[:MAX_LISTED],
        waiting=_waiting(waiting.deliveries),
        last=_last(last.deliveries),
    )


def _last(deliveries: Sequence[Delivery]) -> tuple[Delivery, ...]:
    """Return the last pushes, without the parts of images and test pushes."""
    from receiver.reasons import Reason

    parts: set[str | None] = {
        *(Reason.NO_TAG, Reason.SIGNATURE, Reason.ATTESTATION, Reason.SBOM, Reason.REFERRERS),
        *(Reason.BUILD_CACHE, Reason.TEST_PUSH),
    }
    return tuple(one for one in deliveries if one.reason not in parts)[:MAX_LISTED]


def _waiting(deliveries: Iterable[Delivery]) -> tuple[Registration, ...]:
    """Return the registrations that wait, the newest first, each once."""
    found = [one for delivery in deliveries for one in delivery.registrations]
    return tuple({one.id: one for one in found if one.state == "waiting"}.values())[:MAX_LISTED]


def _print(found: Status) -> None:
    from receiver.cli.delivery_text import HEADERS, cells

    ready = "ready" if found.ready else "problem"
    what = "A push can be recorded now." if found.ready else "No push can be recorded now."
    click.echo(f"{colored('ready' if found.ready else 'not ready', ready)}  {what}")
    for one in found.problems:
        since = "" if one.since_at is None else f" since {format_time(one.since_at)}"
        held = f" Registrations that wait: {one.held}." if one.held else ""
        click.echo(f"{colored('problem', 'problem')}  {one.code}{since}: {one.message}{held}")
    for remark in found.remarks:
        click.echo(f"{colored('note', 'waiting')}  {remark}")
    rows = [
        (f"{one.app}/{one.version}", colored(one.reason or "", "parked"), one.delivery or one.id)
        for one in found.parked
    ]
    if rows:
        print_title(f"Parked: {found.parked_count}")
    print_rows(("TARGET", "REASON", "DELIVERY"), rows, plain="parked")
    more = found.parked_count - len(rows)
    if more > 0:
        click.echo(f"parked  {more} more: receiver deliveries --state parked")
    due = [
        (f"{one.app}/{one.version}", colored(one.reason or "", "waiting"), format_time(one.due_at))
        for one in found.waiting
    ]
    if due:
        print_title("Waiting")
    print_rows(("TARGET", "REASON", "TRIED AGAIN"), due, plain="waiting")
    if found.last:
        print_title("Last pushes")
    print_rows(HEADERS, [cells(one) for one in found.last], plain="push")

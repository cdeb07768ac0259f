"""`receiver deliveries`, `show`, `push`, `replay` and `wait`: pushes and their results."""

from __future__ import annotations

import asyncio
import time
from contextlib import closing
from typing import TYPE_CHECKING

import click
import msgspec
from msgspec.structs import replace

from receiver.cli.client import (
    KEY,
    PROCESSED_LATER,
    Server,
    configured,
    lenient_settings,
    reached,
    reached_ledger,
)
from receiver.cli.output import (
    INTERRUPTED,
    MAY_BE_RECORDED,
    NOT_DONE,
    NOT_FOUND,
    STILL_WAITING,
    USAGE,
    CommandError,
    colored,
    handle_errors,
    json_text,
    moment,
    print_rows,
    stopped_after,
)
from receiver.config.variables import NEEDED
from receiver.images import ImageReference, is_digest, parse_image_reference
from receiver.reasons import Reason, State, Verdict
from receiver.timestamps import Time

if TYPE_CHECKING:
    from receiver.config.settings import Settings
    from receiver.ledger.ledger import Ledger
    from receiver.ledger.views import Delivery, DeliveryDetail
    from receiver.upkeep.replay import Replayed
    from receiver.upkeep.waiting import AwaitedImage
    from receiver.web.bodies import ReplayRequest

MAX_ROWS = 1000  # the maximum of the API, too
SOURCES = ("webhook", "catch-up", "command", "restore", "test")  # and its words
LOOK_EVERY_SECONDS = 0.1
NOT_ANSWERED = f"stopped; {MAY_BE_RECORDED}"

LOOK_AGAIN_SECONDS = 0.5


@click.command()
@click.option(
    "--limit",
    default=100,
    show_default=True,
    type=click.IntRange(1, MAX_ROWS),
    help="Maximum number of deliveries to list.",
)
@click.option("--repository", help="Only deliveries of this repository (group/project).")
@click.option("--tag", help="Only deliveries of this tag.")
@click.option(
    "--verdict",
    type=click.Choice([verdict.value for verdict in Verdict]),
    help="Only deliveries with this verdict.",
)
@click.option(
    "--state",
    type=click.Choice([state.value for state in State]),
    help="Only deliveries with a registration in this state.",
)
@click.option("--app", help="Only deliveries with a registration of this app.")
@click.option("--version", help="Only deliveries with a registration of this version or channel.")
@click.option(
    "--reason",
    type=click.Choice([reason.value for reason in Reason]),
    metavar="REASON",
    help="Only deliveries with this reason, or with a registration that has it.",
)
@click.option(
    "--source",
    type=click.Choice(SOURCES),
    help="Only deliveries that were reported in this way.",
)
@click.option("--since", help="Only deliveries since a time in UTC: 2026-11-23, 2h or 3d ago.")
@click.option("--until", help="Only deliveries before a time in UTC.")
@click.option("--before", help="Only deliveries before this delivery ID: the next page.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@handle_errors
def deliveries(
    *, since: str | None, until: str | None, before: str | None, as_json: bool, **filters: object
) -> None:
    """List deliveries, newest first, with the state of their registrations.

    Works with and without a running server. The column after the repository and tag is the verdict,
    followed by the reason, if any. `receiver show ID` explains the reason and what to do. All times
    are UTC.
    """
    from receiver.cli.delivery_text import HEADERS, cells
    from receiver.ledger.queries import Filter, find_push, list_deliveries

    times = {name: text and moment(text) for name, text in (("since", since), ("until", until))}
    wanted = msgspec.convert({**filters, **times, "before": before}, Filter)
    with closing(_opened()) as ledger:
        known = before is None or ledger.read_sync(lambda tx: find_push(tx, before)) is not None
        rows = ledger.read_sync(lambda tx: list_deliveries(tx, wanted))
        any_rows = rows or ledger.read_sync(lambda tx: list_deliveries(tx, Filter(limit=1)))
    if not known:
        raise CommandError(
            f"there is no delivery {before}; pass a listed ID to --before", NOT_FOUND
        )
    if as_json:
        for row in rows:
            click.echo(json_text(row))
    else:
        print_rows(HEADERS, [cells(row) for row in rows])
    if not rows and not as_json:
        none = "No deliveries yet. `receiver link` prints the link for Docker Hub."
        click.echo("No deliveries match. Try fewer filters." if any_rows else none, err=True)


@click.command()
@click.argument("identity", metavar="ID")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@handle_errors
def show(identity: str, as_json: bool) -> None:
    """Show one delivery in full: its push, its registrations, each attempt and the next step.

    ID is the ID of a delivery or of a registration.
    """
    from receiver.ledger.queries import delivery_detail

    with closing(_opened()) as ledger:
        row = ledger.read_sync(lambda tx: delivery_detail(tx, identity))
    if row is None:
        raise CommandError(f"there is no delivery {identity}; see `receiver deliveries`", NOT_FOUND)
    _print(row, as_json=as_json)


def _print(delivery: DeliveryDetail, *, as_json: bool) -> None:
    from receiver.cli.delivery_text import format_detail

    click.echo(json_text(delivery) if as_json else format_detail(delivery))


def _opened() -> Ledger:
    from receiver.ledger.ledger import Ledger

    ledger = Ledger(lenient_settings().database_url)
    ledger.open_readonly()
    return ledger


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
@handle_errors
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
        from receiver.cli.dry_run import preview_push

        planned = asyncio.run(preview_push(settings, reference))
        text = json_text(planned)
        click.echo(text if as_json else msgspec.json.format(text, indent=2))
        if not planned.requests:
            raise SystemExit(NOT_DONE)
        return
    recorded: list[str] = []
    pushing = _push(settings, reference, recorded, wait_seconds=timeout if wait else 0)
    try:
        row = asyncio.run(pushing)
    except KeyboardInterrupt:
        raise CommandError(stopped_after(recorded), INTERRUPTED) from None
    _print(row, as_json=as_json)
    if row.verdict is not Verdict.ACCEPTED:
        raise SystemExit(NOT_DONE)
    if wait and not _finished(row):
        raise CommandError(
            f"a registration is not done yet; see `receiver show {row.id}`", STILL_WAITING
        )
    if wait and any(one.state is State.PARKED for one in row.registrations):
        raise SystemExit(NOT_DONE)


async def _push(
    settings: Settings, image: ImageReference, recorded: list[str], *, wait_seconds: float
) -> DeliveryDetail:
    """Record the push, append its delivery ID to `recorded`, and wait up to `wait_seconds`."""
    if wait_seconds:
        async with reached_ledger(settings, begin=True) as (ledger, url):
            if url is None:
                return await _push_and_process(ledger, settings, image, recorded, wait_seconds)
    async with reached(settings, begin=True) as server:
        row = await _push_to_server(server, image, recorded, wait_seconds)
        if row.registrations:
            server.note("start `receiver serve`, or use --wait")
        return row


async def _push_to_server(
    server: Server, image: ImageReference, recorded: list[str], wait_seconds: float
) -> DeliveryDetail:
    """Have the running server record the push."""
    from receiver.ledger.views import DeliveryDetail
    from receiver.web.bodies import PushRequest

    text = f"{image.repository}:{image.tag}"
    try:
        row = await server.ask("POST", "/api/deliveries", DeliveryDetail, PushRequest(text))
    except asyncio.CancelledError:
        raise CommandError(NOT_ANSWERED, INTERRUPTED) from None
    recorded.append(row.id)
    until = time.monotonic() + wait_seconds
    while not _finished(row) and time.monotonic() < until:
        await asyncio.sleep(LOOK_EVERY_SECONDS)
        row = await server.ask("GET", f"/api/deliveries/{row.id}", DeliveryDetail)
    return row


async def _push_and_process(
    ledger: Ledger,
    settings: Settings,
    image: ImageReference,
    recorded: list[str],
    wait_seconds: float,
) -> DeliveryDetail:
    """Record the push and process it in this process."""
    from receiver.logs import Source
    from receiver.service import running

    async with running(settings, ledger, catching_up=False) as service:
        push = service.manual.push(service.preflight.hub, image, Source.COMMAND)
        delivery = (await push).delivery
        recorded.append(delivery)
        row = await _read_row(ledger, delivery)
        until = time.monotonic() + wait_seconds
        while not _finished(row) and time.monotonic() < until:
            await asyncio.sleep(LOOK_EVERY_SECONDS)
            row = await _read_row(ledger, row.id)
        if settings.notices:
            await service.notification_sender.send_due()
        return row


async def _read_row(ledger: Ledger, identity: str) -> DeliveryDetail:
    from receiver.ledger.queries import delivery_detail

    row = await ledger.read(lambda tx: delivery_detail(tx, identity))
    if row is None:
        raise CommandError(f"the delivery {identity} was purged meanwhile", NOT_FOUND)
    return row


def _finished(row: DeliveryDetail) -> bool:
    return all(one.state in {State.DONE, State.PARKED} for one in row.registrations)


@click.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--parked", is_flag=True, help="All deliveries with a parked registration.")
@click.option(
    "--since",
    help="All deliveries since a time in UTC: 2026-11-23T17:00, 2h or 3d ago.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@handle_errors
def replay(ids: tuple[str, ...], parked: bool, since: str | None, as_json: bool) -> None:
    """Replay deliveries: apply the current rules to each, and try its registrations now.

    No version is created twice: a registration ends as `unchanged` if Edgegap has its version.
    Ignored, parked and done deliveries can be replayed any number of times. What a person
    requested, a move or a trial, is done again, unless the channel was moved otherwise since.
    """
    from receiver.web.bodies import ReplayRequest

    if not ids and not parked and since is None:
        raise CommandError("name deliveries by ID, or use --parked or --since", USAGE)
    settings = configured(KEY)
    asked = ReplayRequest(list(ids), parked, None if since is None else Time(moment(since)))
    replayed, missing = asyncio.run(_replay(settings, asked, as_json=as_json))
    if replayed and not as_json:
        which = replayed[0] if len(replayed) == 1 else "ID"
        click.echo(f"For the result: receiver show {which}", err=True)
    if missing:
        named = ", ".join(missing)
        raise CommandError(f"there is no delivery {named}; see `receiver deliveries`", NOT_FOUND)
    if not replayed and not as_json:
        click.echo("Nothing to replay.", err=True)


async def _replay(
    settings: Settings, asked: ReplayRequest, *, as_json: bool
) -> tuple[list[str], tuple[str, ...]]:
    """Print each part once it is replayed; return the deliveries, and the ids of none."""
    from receiver.upkeep.replay import ReplayedDeliveries

    replayed: list[str] = []
    missing: tuple[str, ...] = ()
    async with reached(settings) as server:
        if server.is_here:
            configured(frozenset({"rule"}))  # otherwise every verdict would be `no_rule`
        after: str | None = ""
        while after is not None:
            done = await server.ask("POST", "/api/replay", ReplayedDeliveries, asked)
            replayed += [one.delivery for one in done.replayed]
            if as_json:
                for one in done.replayed:
                    click.echo(json_text(one))
            else:
                print_rows(("ID", "VERDICT", "DETAILS"), [_replayed(one) for one in done.replayed])
            missing += done.missing
            after = done.next
            asked = replace(asked, ids=[], after=after)
        if replayed:
            server.note(PROCESSED_LATER)
        return replayed, missing


def _replayed(one: Replayed) -> tuple[str, str, str]:
    verdict = f"{one.verdict} {one.reason or ''}".rstrip()
    return one.delivery, colored(verdict, one.verdict), one.sentence


@click.command()
@click.argument("image", metavar="REPOSITORY:TAG")
@click.option(
    "--digest",
    metavar="SHA256",
    help="Only a push of this digest counts; for tags that are pushed again. Needs preflight.",
)
@click.option(
    "--timeout",
    default=120.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Maximum number of seconds to wait.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@handle_errors
def wait(image: str, digest: str | None, timeout: float, as_json: bool) -> None:
    """Wait until the newest push of REPOSITORY:TAG is done or parked, also in its channels.

    Reads the ledger, even while a server is running; it waits for the push itself, too. On another
    machine, `GET /api/deliveries?image=REPOSITORY:TAG&wait=60` does the same: see deploy/ci/.

    \b
    The exit code is:
      0  every registration is done
      1  a registration is parked or dismissed, the version is superseded or was deleted,
         or the push was ignored; a channel that keeps a newer image counts as done
      5  no push of the image is known after --timeout
      6  a registration is neither done nor parked after --timeout
    """
    from receiver.cli.delivery_text import HEADERS, cells
    from receiver.upkeep.waiting import AwaitedImage, Progress, progress_of, sentence_of

    if digest is not None and not is_digest(digest):
        raise CommandError(f"{digest!r} is not a digest: write sha256: and 64 digits", USAGE)
    awaited = AwaitedImage(parse_image_reference(image), digest, timeout)
    found = _wait_for(awaited)
    if found is not None and as_json:
        click.echo(json_text(found))
    elif found is not None:
        print_rows(HEADERS, [cells(found)])
    codes = {
        Progress.UNKNOWN: NOT_FOUND,
        Progress.OPEN: STILL_WAITING,
        Progress.NOT_DONE: NOT_DONE,
    }
    progress = progress_of(found)
    if progress in codes:
        raise CommandError(sentence_of(awaited, found), codes[progress])


def _wait_for(awaited: AwaitedImage) -> Delivery | None:
    """Return the newest push once it is over, or what is known of it when time is up."""
    from receiver.upkeep.waiting import is_over, newest_push

    with closing(_opened()) as ledger:
        until = time.monotonic() + awaited.seconds
        while True:
            found = ledger.read_sync(lambda tx: newest_push(tx, awaited))
            left = until - time.monotonic()
            if is_over(found) or left <= 0:
                return found
            time.sleep(min(left, LOOK_AGAIN_SECONDS))

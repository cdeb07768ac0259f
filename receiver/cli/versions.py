"""`receiver diff`, `export`, `prune` and `trial`: compare, copy, delete and try versions."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlencode

import click

from receiver.cli.client import (
    KEY,
    ask_receiver,
    check_app,
    configured,
    lenient_settings,
    perform,
    reached,
)
from receiver.cli.output import (
    NOT_DONE,
    STILL_WAITING,
    USAGE,
    CommandError,
    colored,
    handle_errors,
    is_interactive,
    json_text,
    print_rows,
    print_title,
)
from receiver.config.variables import NEEDED
from receiver.reasons import Outcome, State

if TYPE_CHECKING:
    from receiver.config.settings import Settings
    from receiver.ledger.views import DeliveryDetail, RegistrationDetail
    from receiver.upkeep.version_settings import VersionDiff

V = TypeVar("V")
PATH = "/api/prune"
PRUNING_SECONDS = 300.0  # many rate-limited calls to Edgegap

LOOK_EVERY_SECONDS = 1.0
WAIT_SECONDS = 900.0


@click.command()
@click.argument("app")
@click.argument("a")
@click.argument("b")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@handle_errors
def diff(app: str, a: str, b: str, as_json: bool) -> None:
    """Show what differs between the versions A and B of APP.

    Settings are those that this receiver sent, or those that Edgegap shows if it sent none. Values
    of variables are never shown, only whether they are the same.
    """
    from receiver.upkeep.version_settings import VersionDiff

    query = {"app": app, "a": a, "b": b}
    found = _asked(app, f"/api/diff?{urlencode(query)}", VersionDiff)
    if as_json:
        click.echo(json_text(found))
    else:
        _print(found)


@click.command()
@click.argument("app")
@click.argument("version")
@handle_errors
def export(app: str, version: str) -> None:
    """Print the settings of VERSION of APP as a [rule.settings] table for receiver.toml.

    Each variable is read from a variable of the receiver: set those that the second line names.
    """
    from receiver.upkeep.version_settings import ExportedSettings

    path = f"/api/export?{urlencode({'app': app, 'version': version})}"
    found = _asked(app, path, ExportedSettings)
    click.echo(found.toml, nl=False)


def _asked(app: str, path: str, kind: type[V]) -> V:
    settings = configured(NEEDED)
    check_app(settings, app)
    return ask_receiver(settings, "GET", path, kind)


def _print(found: VersionDiff) -> None:
    from receiver.upkeep.version_settings import as_of

    versions = [
        (f"{found.app}/{one.version}", one.image, as_of(one.sent_at), _running(one.running))
        for one in (found.a, found.b)
    ]
    print_rows(("VERSION", "IMAGE", "SETTINGS", "RUNNING"), versions)
    print_title("Differences")
    rows = [(one.name, one.a, one.b) for one in found.differences]
    print_rows(("SETTING", found.a.version, found.b.version), rows, plain="differs")
    if not rows:
        click.echo("no differences")
    if found.not_compared:
        click.echo(f"not compared: {', '.join(found.not_compared)}")


def _running(count: int | None) -> str:
    if count is None:
        return "running deployments not known"
    return f"{count} running deployment{'' if count == 1 else 's'}"


@click.command()
@click.argument("app")
@click.option("--dry-run", is_flag=True, help="Only list the versions; delete nothing.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@handle_errors
def prune(app: str, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Delete versions of APP that this receiver created, except the newest `keep` of their rule.

    Never deletes the newest version, a version of a channel, a pinned version, an older tag that
    was pushed manually, or a version with running deployments. On a terminal it asks first.
    """
    from receiver.pipeline.prune import before_deletion, keep_count
    from receiver.web.bodies import PruneRequest, PruneResult

    settings = configured(NEEDED)
    check_app(settings, app)
    if keep_count(settings, app) is None:
        raise CommandError(
            f"no rule of the app {app} has `keep`; add it, for instance keep = 10", USAGE
        )
    if dry_run:
        found = ask_receiver(settings, "POST", PATH, PruneResult, PruneRequest(app, dry_run=True))
    else:
        names = _confirmed(settings, app) if is_interactive() and not yes else None
        asked = PruneRequest(app, versions=names, source="command")
        found = ask_receiver(settings, "POST", PATH, PruneResult, asked, seconds=PRUNING_SECONDS)
    if as_json:
        click.echo(json_text(found))
        return
    rows = [
        (
            colored("would keep", "waiting") if one.running else "would delete",
            f"{app}/{one.version}",
            f"{one.why}; {before_deletion(one.running)}",
        )
        for one in found.prunable
        if dry_run
    ]
    rows += [
        (
            colored("deleted", "done") if result.deleted else colored("kept", "waiting"),
            f"{app}/{result.version}",
            result.why,
        )
        for result in found.results
    ]
    print_rows(("RESULT", "VERSION", "WHY"), rows)
    if not rows:
        click.echo(f"{app} has no versions to delete.")


def _confirmed(settings: Settings, app: str) -> list[str]:
    """Return the versions to delete, once the user has agreed; even if more could go by now."""
    from receiver.pipeline.prune import before_deletion
    from receiver.web.bodies import PruneRequest, PruneResult

    asked = PruneRequest(app, dry_run=True)
    found = ask_receiver(settings, "POST", PATH, PruneResult, asked).prunable
    names = [one.version for one in found]
    for one in found:
        click.echo(f"  {one.version}: {before_deletion(one.running)}", err=True)
    question = f"Delete {', '.join(names)} of {app} at Edgegap?"
    if names and not click.confirm(question, err=True):
        raise CommandError("nothing was deleted", NOT_DONE)
    return names


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

    Edgegap bills the deployment. With --keep it runs on after the verdict, so
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
    from receiver.web.bodies import MAX_KEEP_SECONDS

    fault = None if text is None else duration_fault(text, 1000, MAX_KEEP_SECONDS * 1000)
    if fault is not None:
        raise ValueError(f"--keep: {fault}; write for instance 10m, at most 24h")
    return read_duration(text)


def _is_over(row: DeliveryDetail) -> bool:
    """Return whether the trial is done or parked; a channel may wait on."""
    return all(one.state in {State.DONE, State.PARKED} for one in _trials(row))


def _trials(row: DeliveryDetail) -> list[RegistrationDetail]:
    """Return the trial: the delivery may also have led to the moves of channels, older ones too."""
    from receiver.rules.rule import Mode

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

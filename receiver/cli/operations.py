"""`receiver pause`, `resume`, `open-gate`, `catch-up`, `notify-test`, `reload` and `dismiss`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeVar

import click
from msgspec.structs import astuple, replace

from receiver.cli.client import (
    KEY,
    PROCESSED_LATER,
    configured,
    lenient_settings,
    perform,
    reached,
)
from receiver.cli.output import (
    INTERRUPTED,
    MAY_BE_RECORDED,
    NOT_DONE,
    NOT_FOUND,
    USAGE,
    CommandError,
    colored,
    handle_errors,
    json_text,
    moment,
    print_rows,
    stopped_after,
)
from receiver.config.variables import variables_of
from receiver.images import is_repository
from receiver.reasons import Reason
from receiver.timestamps import Time

if TYPE_CHECKING:
    from receiver.config.settings import Settings
    from receiver.dockerhub.api import Hub
    from receiver.dockerhub.webhook import Push
    from receiver.ledger.cursors import Cursor
    from receiver.ledger.transaction import Tx
    from receiver.ledger.views import Changed
    from receiver.rules.rule import Rule
    from receiver.web.bodies import (
        DismissRequest,
        MissedPushReport,
        Reloaded,
        UndoDismissalRequest,
    )

T = TypeVar("T")
MAX_WAIT_SECONDS = 3600.0  # in total, for one repository
BATCH = 100  # pushes in a request to the server

wait_for = asyncio.sleep


@click.command()
@click.argument("repository", required=False)
@click.option("--all", "everything", is_flag=True, help="All repositories.")
@handle_errors
def pause(repository: str | None, everything: bool) -> None:
    """Pause the registrations of REPOSITORY, or of all: pushes are recorded and queued."""
    from receiver.ledger import gates as pauses
    from receiver.upkeep.operations import PausedRepositories
    from receiver.web.bodies import PauseRequest

    name = _named(repository, everything=everything)
    asked = PauseRequest(name)
    done = perform(lenient_settings(KEY), "/api/pause", PausedRepositories, asked)
    names = ["all repositories" if name == pauses.ALL else name for name in done.paused]
    click.echo(f"Paused: {', '.join(names)}. Pushes are recorded and queued until `resume`.")


@click.command()
@click.argument("repository", required=False)
@click.option("--all", "everything", is_flag=True, help="All repositories.")
@handle_errors
def resume(repository: str | None, everything: bool) -> None:
    """Resume the paused registrations of REPOSITORY, or of all."""
    from receiver.ledger import gates as pauses
    from receiver.upkeep.operations import Resumed
    from receiver.web.bodies import PauseRequest

    name = _named(repository, everything=everything)
    done = perform(lenient_settings(KEY), "/api/resume", Resumed, PauseRequest(name))
    if not done.resumed:
        everything_is = (
            " (all repositories are: use `receiver resume --all`)"
            if pauses.ALL in done.paused
            else ""
        )
        subject = "nothing is" if everything else f"{name} is not"
        raise CommandError(f"{subject} paused{everything_is}", NOT_DONE)
    everywhere = "Resumed all repositories, also those that were paused by name."
    click.echo(everywhere if everything else "Resumed.")
    if pauses.ALL in done.paused:
        click.echo("receiver: all repositories are still paused", err=True)


@click.command("open-gate")
@click.argument("gate", type=click.Choice(["busy", "token"]))
@handle_errors
def open_gate(gate: Literal["busy", "token"]) -> None:
    """Open a closed gate: the work that it blocks continues.

    \b
    busy    closed because Edgegap answered 429, for the time that it named
    token   closed because Edgegap refused the API token

    If Edgegap gives the same answer, the gate closes again.
    """
    from receiver.web.bodies import OpenedGate, OpenGateRequest

    perform(lenient_settings(KEY), "/api/open-gate", OpenedGate, OpenGateRequest(gate))
    click.echo("Opened.")


def _named(repository: str | None, *, everything: bool) -> str:
    from receiver.ledger import gates as pauses

    if everything == (repository is not None):
        raise CommandError("name one repository, or use --all", USAGE)
    if repository is None:
        return pauses.ALL
    if not is_repository(repository):
        raise CommandError(f"{repository!r} is not a repository name: write group/project", USAGE)
    return repository


@click.command("catch-up")
@click.option(
    "--since",
    help="Start time in UTC: 2026-01-01, or 3d for three days ago; default: since the last run.",
)
@click.option("--repository", help="Only this group/project; default: every repository of a rule.")
@click.option("--dry-run", is_flag=True, help="Only list the pushes; record nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@handle_errors
def catch_up(since: str | None, repository: str | None, dry_run: bool, as_json: bool) -> None:
    """List the tags on Docker Hub and record each push that is not in the ledger.

    The same rules apply as for webhooks. `serve` does this automatically, starting from the time
    when a rule first named a repository; --since also records older tags.
    """
    from receiver.logs import configure_logs

    settings = configured(KEY | {"rule"})
    names = sorted({rule.repository for rule in settings.rules})
    if repository is not None and repository not in names:
        raise CommandError(f"no rule names {repository}; rules name {', '.join(names)}", NOT_FOUND)
    chosen = [repository] if repository is not None else names
    bound = None if since is None else moment(since)
    configure_logs(secrets=settings.secrets(), level="WARNING")
    recorded: list[str] = []
    catching_up = _catch_up(settings, chosen, bound, None if dry_run else recorded, as_json=as_json)
    try:
        found = asyncio.run(catching_up)
    except KeyboardInterrupt:
        raise CommandError(stopped_after(recorded), INTERRUPTED) from None
    if not found and not as_json:
        click.echo("Nothing was missed.")


async def _catch_up(
    settings: Settings,
    repositories: list[str],
    since: int | None,
    recorded: list[str] | None,
    *,
    as_json: bool,
) -> int:
    """Catch up with each repository in turn and print its pushes; return their number.

    Append the deliveries to `recorded`; if that is None, record nothing.
    """
    from receiver.dockerhub.api import Hub
    from receiver.http.client import http_client
    from receiver.upkeep.catch_up import not_known

    found = 0
    async with http_client() as http:
        hub = Hub(http, settings.hub_api_url)
        for repository in repositories:
            bound = since if since is not None else _cursor(settings, repository)
            missed = await _listed(hub, settings, repository, bound)
            new = _read(settings, partial(not_known, missed=missed), missed)
            if recorded is not None and new:
                await _record(settings, new, recorded)
            found += len(new)
            verb = "would record" if recorded is None else "recorded"
            _print(new, settings.rules, verb, as_json=as_json)
    return found


def _print(new: Sequence[Push], rules: Sequence[Rule], verb: str, *, as_json: bool) -> None:
    from receiver.rules.rule import rule_on

    rows = []
    for push in new:
        ruling = rule_on(push, rules)
        if as_json:
            row = {
                "repository": push.repository,
                "tag": push.tag,
                "pushed_at": None if push.pushed_at is None else Time(push.pushed_at),
                "digest": push.digest,
                "media_type": push.media_type,
                "verdict": ruling.verdict,
                "reason": ruling.reason,
            }
            click.echo(json_text(row))
            continue
        verdict = f"{ruling.verdict} {ruling.reason or ''}".rstrip()
        image = f"{push.repository}:{push.tag}"
        rows.append((verb, image, colored(verdict, ruling.verdict)))
    print_rows(("RESULT", "IMAGE", "VERDICT"), rows)


async def _listed(hub: Hub, settings: Settings, repository: str, since: int) -> list[Push]:
    """List a repository's tags with a progress bar; wait when Docker Hub asks to."""
    from receiver.dockerhub.api import waiting_as_asked
    from receiver.dockerhub.http import DockerHubUnavailable
    from receiver.upkeep.catch_up import credentials_for, iter_pushes_since

    login = credentials_for(settings.rules, repository)
    waiting = waiting_as_asked(_wait, longest=MAX_WAIT_SECONDS)
    missed: list[Push] = []
    try:
        with click.progressbar(length=1, label=repository, file=sys.stderr) as bar:
            pages = iter_pushes_since(hub, repository, login, since, waiting)
            async for page, total in pages:
                missed += page
                bar.length = max(total, 1)
                bar.update(len(page))
            bar.update((bar.length or 1) - bar.pos)  # older pages are not read
    except DockerHubUnavailable as error:
        sentence = f"Docker Hub could not list the tags of {repository}: {error}"
        raise CommandError(sentence, NOT_DONE) from None
    return sorted(missed, key=lambda push: push.pushed_at or 0)


async def _wait(seconds: float) -> None:
    click.echo(f"Docker Hub rate limit: waiting {seconds:.0f} s …", err=True)
    await wait_for(seconds)


def _cursor(settings: Settings, repository: str) -> int:
    from receiver.ledger.cursors import read_cursors

    none: list[Cursor] = []
    cursors = _read(settings, read_cursors, none)
    own = [cursor.looks_back_to for cursor in cursors if cursor.repository == repository]
    if not own:
        raise CommandError(f"no starting point is known for {repository}; use --since", NOT_DONE)
    return own[0]


def _read(settings: Settings, read: Callable[[Tx], T], without: T) -> T:
    """Read the ledger; return `without` if it does not exist yet."""
    from receiver.ledger.ledger import Ledger

    with closing(Ledger(settings.database_url)) as ledger:
        if ledger.path is not None and not ledger.path.exists():
            return without
        ledger.open_readonly()
        return ledger.read_sync(read)


async def _record(settings: Settings, missed: list[Push], recorded: list[str]) -> None:
    from receiver.web.bodies import CatchUpRequest, CaughtUp

    async with reached(settings, begin=True) as server:
        for first in range(0, len(missed), BATCH):
            asked = CatchUpRequest([_reported(one) for one in missed[first : first + BATCH]])
            try:
                done = await server.ask("POST", "/api/catch-up", CaughtUp, asked)
            except asyncio.CancelledError:
                sentence = f"{stopped_after(recorded)}; {MAY_BE_RECORDED}"
                raise CommandError(sentence, INTERRUPTED) from None
            recorded += done.deliveries
        server.note(PROCESSED_LATER)


def _reported(push: Push) -> MissedPushReport:
    from receiver.web.bodies import MissedPushReport

    pushed_at = None if push.pushed_at is None else Time(push.pushed_at)
    return MissedPushReport(
        push.repository, push.tag or "", pushed_at, push.digest, push.media_type
    )


@click.command("notify-test")
@handle_errors
def notify_test() -> None:
    """Send a test message to each [[notice]] of the configuration."""
    from receiver.logs import configure_logs
    from receiver.upkeep.notify import send_tests

    settings = configured()
    configure_logs(secrets=settings.secrets(), level="CRITICAL")
    if not settings.notices:
        raise CommandError("no [[notice]] is configured; see the README", NOT_DONE)
    results = asyncio.run(send_tests(settings.notices))
    rows = [
        (name, colored("not sent", "problem") if why else colored("sent", "done"), why)
        for name, why in results.items()
    ]
    print_rows(("DESTINATION", "RESULT", "WHY NOT"), rows)
    if any(results.values()):
        raise SystemExit(NOT_DONE)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@handle_errors
def reload(as_json: bool) -> None:
    """Have the running server read receiver.toml and .env again, as a SIGHUP does.

    Prints what is in force only after a restart. If the configuration has a fault, the one before
    stays in force; all faults are printed, and the exit code is 3. With replicas, only the one on
    this machine is asked. A new secret key needs a SIGHUP: the server does not know it yet.
    """
    done = asyncio.run(_reload())
    if as_json:
        click.echo(json_text(done))
        return
    rules = "1 rule" if done.rules == 1 else f"{done.rules} rules"
    click.echo(f"Reloaded: {rules}.")
    if done.needs_a_restart:
        click.echo(f"In force only after a restart: {', '.join(done.needs_a_restart)}.")
    for warning in done.warnings:
        click.echo(f"warn  {warning}", err=True)


async def _reload() -> Reloaded:
    from receiver.config.load import load_settings_lenient
    from receiver.web.bodies import Reloaded

    settings, _ = load_settings_lenient(variables_of(os.environ), need=KEY)
    async with reached(settings) as server:
        if server.is_here:
            sentence = "no server is running: it reads the configuration at its start"
            raise CommandError(sentence, NOT_DONE)
        return await server.ask("POST", "/api/reload", Reloaded)


@click.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All parked registrations.")
@click.option(
    "--reason",
    type=click.Choice([reason.value for reason in Reason]),
    metavar="REASON",
    help="With --all: only registrations parked for this reason.",
)
@click.option("--undo", is_flag=True, help="Park dismissed registrations again.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@handle_errors
def dismiss(
    ids: tuple[str, ...], everything: bool, reason: str | None, undo: bool, as_json: bool
) -> None:
    """Close parked registrations that nobody will fix: they end as `dismissed`.

    ID is the ID of a registration or of a delivery. The user name and the time are recorded. A
    dismissed push can be replayed like any other push.
    """
    from receiver.logs import user_name
    from receiver.web.bodies import DismissRequest, UndoDismissalRequest

    if everything == bool(ids):
        raise CommandError("name registrations by ID, or use --all", USAGE)
    if reason is not None and not everything:
        raise CommandError("--reason requires --all", USAGE)
    if undo and everything:
        raise CommandError("--undo requires IDs", USAGE)
    why = None if reason is None else Reason(reason)
    asked = (
        UndoDismissalRequest(list(ids), "command", user_name())
        if undo
        else DismissRequest(list(ids), everything, why, source="command", name=user_name())
    )
    path = "/api/dismiss/undo" if undo else "/api/dismiss"
    word = "parked" if undo else "dismissed"
    changed = asyncio.run(_change(path, asked, None if as_json else word))
    if as_json:
        click.echo(json_text(changed))
    elif not any(astuple(changed)):
        click.echo("Nothing is parked.", err=True)
    if changed.missing:
        named = ", ".join(changed.missing)
        raise CommandError(
            f"there is no registration {named}; see `receiver deliveries`", NOT_FOUND
        )
    if changed.unchanged:
        named = ", ".join(changed.unchanged)
        problem = "is not dismissed, or a newer registration is open" if undo else "is not parked"
        raise CommandError(f"{named} {problem}", NOT_DONE)


async def _change(
    path: str, asked: DismissRequest | UndoDismissalRequest, word: str | None
) -> Changed:
    """Return all that was changed; with `word`, print each part of it once it is."""
    from receiver.ledger.views import Changed
    from receiver.upkeep.operations import Dismissed, joined
    from receiver.web.bodies import DismissRequest

    parts: list[Changed] = []
    async with reached(lenient_settings(KEY)) as server:
        after: str | None = ""
        while after is not None:
            part = await server.ask("POST", path, Dismissed, asked)
            parts.append(part)
            if word is not None:
                _print_changed(part, word)
            after = part.next
            if isinstance(asked, DismissRequest):
                asked = replace(asked, after=after)
    return Changed(**joined(parts))


def _print_changed(changed: Changed, word: str) -> None:
    rows = [
        (word, one.id, f"{one.app}/{one.version}", one.reason or "")
        for one in changed.registrations
    ]
    rows += [
        ("superseded", one.id, f"{one.app}/{one.version}", "a later push succeeded")
        for one in changed.superseded
    ]
    print_rows(("RESULT", "ID", "TARGET", "REASON"), rows)

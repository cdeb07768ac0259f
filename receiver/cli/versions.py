"""`receiver diff`, `export` and `prune`: the settings of versions, and the deletion of old ones."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlencode

import click
import msgspec

from receiver.cli.client import ask_receiver, check_app, configured
from receiver.cli.exits import NOT_DONE, USAGE, CommandError, handle_errors
from receiver.config.variables import NEEDED

if TYPE_CHECKING:
    from receiver.upkeep.version_settings import VersionDiff

V = TypeVar("V")
PATH = "/api/prune"
READING_SECONDS = 60.0  # calls to Edgegap, which may be slow
PRUNING_SECONDS = 300.0  # many rate-limited calls to Edgegap


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
    from receiver.web.serialization import json_text

    query = {"app": app, "a": a, "b": b}
    found = _asked(app, f"/api/diff?{urlencode(query)}", VersionDiff)
    click.echo(json_text(found) if as_json else "\n".join(_lines(found)))


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
    return ask_receiver(settings, "GET", path, kind, seconds=READING_SECONDS)


def _lines(found: VersionDiff) -> list[str]:
    from receiver.upkeep.version_settings import as_of

    lines = [
        f"{found.app}/{one.version}  {one.image}, {as_of(one.sent_at)}"
        for one in (found.a, found.b)
    ]
    wide = max((len(one.name) for one in found.differences), default=0)
    lines += [f"  {one.name:<{wide}}  {one.a} → {one.b}" for one in found.differences]
    if not found.differences:
        lines.append("  no differences")
    if found.not_compared:
        lines.append(f"  not compared: {', '.join(found.not_compared)}")
    return lines


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
    from receiver.pipeline.prune import keep_count
    from receiver.web.bodies import PruneRequest, PruneResult
    from receiver.web.serialization import json_text

    settings = configured(NEEDED)
    check_app(settings, app)
    if keep_count(settings, app) is None:
        raise CommandError(
            f"no rule of the app {app} has `keep`; add it, for instance keep = 10", USAGE
        )
    found = ask_receiver(settings, "POST", PATH, PruneResult, PruneRequest(app, dry_run=True))
    names = [one.version for one in found.prunable]
    if names and not dry_run:
        if not yes and is_terminal():
            question = f"Delete {', '.join(names)} of {app} at Edgegap?"
            if not click.confirm(question, err=True):
                raise CommandError("nothing was deleted", NOT_DONE)
        asked = PruneRequest(app, versions=names, source="command")  # even if more could go by now
        done = ask_receiver(settings, "POST", PATH, PruneResult, asked, seconds=PRUNING_SECONDS)
        found = msgspec.structs.replace(found, results=done.results)
    if as_json:
        click.echo(json_text(found))
        return
    for one in found.prunable if dry_run else ():
        click.echo(f"would delete  {app}/{one.version}: {one.why}, unless it is deployed")
    for result in found.results:
        word = "deleted" if result.deleted else "kept   "
        click.echo(f"{word}  {app}/{result.version}: {result.why}")
    if not names:
        click.echo(f"{app} has no versions to delete.")


def is_terminal() -> bool:
    """Return whether standard input is a terminal."""
    return sys.stdin.isatty()

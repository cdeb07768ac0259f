"""`receiver diff` and `receiver export`: the settings of versions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlencode

import click

from receiver.cli.client import configured, reached
from receiver.cli.exits import USAGE, CommandError, handle_errors
from receiver.config.variables import NEEDED

if TYPE_CHECKING:
    from receiver.config.settings import Settings
    from receiver.upkeep.version_settings import VersionDiff

V = TypeVar("V")
READING_SECONDS = 60.0  # calls to Edgegap, which may be slow


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
    known = sorted({rule.app for rule in settings.rules})
    if app not in known:
        raise CommandError(f"no rule names the app {app}; rules name: {', '.join(known)}", USAGE)
    return asyncio.run(_read(settings, path, kind))


async def _read(settings: Settings, path: str, kind: type[V]) -> V:
    async with reached(settings) as server:
        return await server.ask("GET", path, kind, seconds=READING_SECONDS)


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

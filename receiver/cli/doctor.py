"""`receiver doctor`: check everything that a push needs."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING

import click
import msgspec

from receiver.cli.client import Server, address, configured, serving_address
from receiver.cli.config import more_faults
from receiver.cli.exits import BAD_CONFIG, NOT_DONE, CommandError, handle_errors
from receiver.config.variables import NEEDED
from receiver.doctor.finding import Finding, Health, failed, passed, warned
from receiver.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from receiver.config.settings import Settings

ASK_SECONDS = 5.0
CHANGE_IT = "Change it, then: receiver check"
CHECKED_BY_DOCTOR = ("public_url", "no Docker Hub login")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per finding.")
@handle_errors
def doctor(as_json: bool) -> None:
    """Check everything that a push needs: configuration, ledger, Edgegap, Docker Hub, public URL.

    Each check passes, warns or fails; a warning or failure comes with a fix. Doctor only reads. The
    exit code is 1 if a check fails, and 3 if the configuration has faults.
    """
    from receiver.logs import configure_logs

    try:
        settings = configured(NEEDED)
    except ConfigError as error:
        for warning in error.warnings:
            _print(warned("configuration", warning, CHANGE_IT), as_json=as_json)
        for fault in error.faults:
            found = f"{fault.where}: {fault.what}"
            _print(failed("configuration", found, fault.hint), as_json=as_json)
        raise SystemExit(BAD_CONFIG) from None
    configure_logs(secrets=settings.secrets(), level="ERROR")
    findings = asyncio.run(_shown(settings, as_json=as_json))
    counts = Counter(finding.health for finding in findings)
    bad, doubtful = counts[Health.FAIL], counts[Health.WARN]
    if not as_json:
        click.echo(f"\n{len(findings)} checks: {bad} failed, {doubtful} with a warning.")
    if bad:
        raise SystemExit(NOT_DONE)


async def _shown(settings: Settings, *, as_json: bool) -> list[Finding]:
    """Return the findings; each is printed as soon as it is known."""
    findings = []
    async for finding in _examine(settings):
        findings.append(finding)
        _print(finding, as_json=as_json)
    return findings


async def _examine(settings: Settings) -> AsyncIterator[Finding]:
    from receiver.config.warnings import config_warnings
    from receiver.doctor.checks import examine
    from receiver.pipeline.preflight import preflight_over
    from receiver.service import connected

    count = len(settings.rules)
    yield passed("configuration", f"valid, {count} rule{'s' if count > 1 else ''}")
    for warning in config_warnings(settings):
        if not warning.startswith(CHECKED_BY_DOCTOR):
            yield warned("configuration", warning, CHANGE_IT)
    for fault in await more_faults(settings):
        if fault.where not in CHECKED_BY_DOCTOR:
            yield failed("configuration", f"{fault.where}: {fault.what}", fault.hint)
    async with connected(settings) as (client, http):
        async for finding in examine(settings, client, preflight_over(http, settings), http):
            yield finding
    running = await _running(settings)
    if running is not None:
        yield running


async def _running(settings: Settings) -> Finding | None:
    """Compare these settings with those of the running server; None if no server answers."""
    from receiver.config.settings import marks_of
    from receiver.http.client import http_client
    from receiver.ledger.ledger import Ledger
    from receiver.web.bodies import SettingsHashes

    ledger = Ledger(settings.database_url)
    try:
        here = serving_address(ledger) or address(settings.host, settings.port)
    finally:
        ledger.close()
    async with http_client(direct=True, base_url=here) as http:
        try:
            server = Server(http, settings)
            hashes = await server.ask("GET", "/api/settings", SettingsHashes, seconds=ASK_SECONDS)
        except CommandError:
            return None
    own = marks_of(settings)
    differ = sorted(name for name, mark in own.items() if hashes.marks.get(name) != mark)
    if not differ:
        return passed("running server", "it has the same settings")
    fix = "Run `receiver reload` or restart it; or run doctor with the server's environment"
    return warned("running server", f"it has different values for {', '.join(differ)}", fix)


def _print(finding: Finding, *, as_json: bool) -> None:
    from receiver.logs import masking

    if as_json:
        click.echo(masking(json.dumps(msgspec.to_builtins(finding), ensure_ascii=False)))
        return
    color = {Health.PASS: "green", Health.WARN: "yellow", Health.FAIL: "red"}[finding.health]
    head = click.style(f"{finding.health.value:4}", fg=color)
    click.echo(masking(f"{head}  {finding.what}: {finding.found}"))
    if finding.hint:
        click.echo(masking(f"      {finding.hint}"))

"""`receiver check`, `link`, `api-token`, `config` and `doctor`: the configuration, and the setup.

Only doctor makes calls and opens the ledger.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import textwrap
import time
from collections import Counter
from contextlib import closing
from typing import TYPE_CHECKING

import click
import msgspec

from receiver.cli.client import (
    KEY,
    Server,
    address,
    api_keys,
    ask_receiver,
    configured,
    new_token,
    serving_address,
)
from receiver.cli.output import (
    BAD_CONFIG,
    NOT_DONE,
    USAGE,
    CommandError,
    colored,
    handle_errors,
    print_rows,
)
from receiver.config.variables import NEEDED, variables_of
from receiver.doctor.finding import Finding, Health, failed, passed, warned
from receiver.errors import ConfigError, ConfigIssue
from receiver.images import is_repository
from receiver.signing import MAX_URL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from receiver.config.settings import Settings
    from receiver.rules.rule import Rule

SECONDS_A_DAY = 86_400
ASK_SECONDS = 5.0
CHANGE_IT = "Change it, then: receiver check"
CHECKED_BY_DOCTOR = ("public_url", "no Docker Hub login")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@handle_errors
def check(as_json: bool) -> None:
    """Check the configuration and report all faults, each with its location and a fix.

    Reads the environment, .env and receiver.toml; resolves HOST if it is a name, and tries whether
    this machine has the address. Opens no other connection and no ledger. Warnings do not change
    the exit code.
    """
    from receiver.config.settings import config_warnings

    try:
        settings = configured(NEEDED)
        unreachable = asyncio.run(_check_outside(settings))
    except ConfigError as error:
        if as_json:
            rows = [
                {"where": one.where, "what": one.what, "hint": one.hint} for one in error.faults
            ]
            click.echo(json.dumps({"ok": False, "faults": rows, "warnings": error.warnings}))
            raise SystemExit(BAD_CONFIG) from None
        for warning in error.warnings:
            click.echo(f"warn  {warning}", err=True)
        raise
    warnings = config_warnings(settings) + unreachable
    if as_json:
        rules = [
            {
                "name": r.name,
                "repository": r.repository,
                "app": r.app,
                "versions": r.versions,
                "channels": list(r.channels),
            }
            for r in settings.rules
        ]
        found = {"ok": True, "faults": [], "warnings": warnings, "rules": rules}
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    listed = [(one.name, one.repository, ", ".join(_targets(one))) for one in settings.rules]
    print_rows(("RULE", "REPOSITORY", "VERSIONS AND CHANNELS"), listed, plain="rule")
    for warning in warnings:
        click.echo(f"{colored('warn', 'warn')}  {warning}")
    click.echo("The configuration is valid.")


def _targets(rule: Rule) -> list[str]:
    names = [*([rule.version] if rule.versions else []), *rule.channels]
    return [f"{rule.app}/{name}" for name in names]


@click.command()
@click.argument("repository")
@handle_errors
def link(repository: str) -> None:
    """Print the link to paste into Docker Hub, for REPOSITORY (group/project).

    \b
    On Docker Hub: the repository → Webhooks → a name → paste the link → Create.

    The link is a secret: anyone who has it can send pushes for this repository. To revoke it,
    increase the repository's number under [links] in receiver.toml and reload.
    """
    settings = configured(KEY | {"public_url"})
    if not is_repository(repository):
        sentence = f"{repository!r} is not a repository name: write group/project in lower case"
        raise CommandError(sentence, USAGE)
    url = settings.link_signer().link(settings.public_url or "", repository)
    if len(url) > MAX_URL:
        raise CommandError(
            f"the link is {len(url)} characters long and Docker Hub takes {MAX_URL}: "
            "shorten public_url",
            NOT_DONE,
        )
    click.echo(url)
    if not any(rule.repository == repository for rule in settings.rules):
        click.echo(
            f"receiver: no rule names {repository} yet; its pushes will be ignored", err=True
        )


async def _check_outside(settings: Settings) -> list[str]:
    """Return warnings about HOST; raises ConfigError."""
    from receiver.config.settings import config_warnings

    faults = await _more_faults(settings)
    if faults:
        raise ConfigError(tuple(faults), tuple(config_warnings(settings)))
    return await _host_warnings(settings.host)


async def _host_warnings(host: str) -> list[str]:
    """Return a warning if this machine cannot listen on HOST.

    It is no fault, because the configuration may be that of another machine.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, 0, type=socket.SOCK_STREAM)
    try:
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as listening:
                listening.bind(address)
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        return [f"HOST: this machine cannot listen on {host} ({reason}): `serve` fails here"]
    return []


async def _more_faults(settings: Settings) -> list[ConfigIssue]:
    """Return the faults of settings that are valid by themselves but cannot be used.

    These are a [[notice]] whose URL Apprise does not support, a HOST that has no address, and a
    public_url that makes a link too long. Nothing is sent.
    """
    from receiver.config.settings import link_length_fault
    from receiver.notifications.apprise import is_supported_url

    known = await asyncio.gather(*(is_supported_url(notice.url) for notice in settings.notices))
    fix = "See github.com/caronc/apprise for the URL format of each service"
    what = "Apprise does not support its URL"
    faults = [
        ConfigIssue(notice.name, what, fix)
        for notice, good in zip(settings.notices, known, strict=True)
        if not good
    ]
    try:
        await asyncio.get_running_loop().getaddrinfo(settings.host, settings.port)
    except (OSError, UnicodeError):
        what = f"{settings.host!r} does not resolve to an address of this machine"
        faults.append(ConfigIssue("HOST", what, "Write an address, for instance HOST=127.0.0.1"))
    too_long = link_length_fault(settings)
    if too_long is not None:
        faults.append(ConfigIssue("public_url", *too_long))
    return faults


@click.command("api-token")
@click.option(
    "--days",
    default=30,
    show_default=True,
    type=click.IntRange(1, 3650),
    help="Days until the token expires.",
)
@click.option(
    "--repository", metavar="NAME", help="Limit the token to the pushes of one repository."
)
@click.option("--revoke", metavar="ID", help="Revoke the token with this ID instead.")
@handle_errors
def api_token(days: int, repository: str | None, revoke: str | None) -> None:
    """Print an API token that is valid for the given number of days.

    The token is signed with RECEIVER_SECRET_KEY and not stored. Its ID is printed to standard
    error: `receiver api-token --revoke ID` revokes this token alone. A token that is limited to a
    repository can list, show, push and replay the pushes of that repository, and nothing else.
    """
    from receiver.web.bodies import Revoked, RevokeRequest

    settings = configured(KEY)
    if revoke is not None:
        path, asked = "/api/tokens/revoke", RevokeRequest(revoke)
        if not ask_receiver(settings, "POST", path, Revoked, asked, begin=True).revoked:
            raise CommandError(f"{revoke} was already revoked", NOT_DONE)
        click.echo(f"Revoked {revoke}.")
        return
    if repository is not None and not is_repository(repository):
        raise CommandError(
            f"{repository!r} is not a repository name: use namespace/name in lower case", USAGE
        )
    token = new_token(days * SECONDS_A_DAY, repository)
    click.echo(api_keys(settings).sign(token))
    until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(token.expires_at))
    click.echo(f"ID {token.id}, valid until {until}", err=True)


@click.group()
def config() -> None:
    """Print the configuration in force, or the JSON Schema of receiver.toml."""


@config.command()
@handle_errors
def schema() -> None:
    """Print the JSON Schema of receiver.toml, for editors and for check-jsonschema.

    \b
    For completion and checks while you type, in editors with Taplo or Even Better TOML:
      receiver config schema > receiver.schema.json
    and write as the first line of receiver.toml:
      #:schema ./receiver.schema.json
    """
    from receiver.config.model import schema_text

    click.echo(schema_text(), nl=False)


@config.command()
@handle_errors
def show() -> None:
    """Print the settings in force, with all defaults, and where each is from.

    Secrets are shown as ***. The part after the variables is a valid receiver.toml.
    """
    from receiver.config.effective import effective
    from receiver.config.load import load

    environ = variables_of(os.environ)
    click.echo(effective(load(environ), environ))


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
    from receiver.config.settings import config_warnings
    from receiver.doctor.checks import examine
    from receiver.pipeline.preflight import preflight_over
    from receiver.service import connected

    count = len(settings.rules)
    yield passed("configuration", f"valid, {count} rule{'s' if count > 1 else ''}")
    for warning in config_warnings(settings):
        if not warning.startswith(CHECKED_BY_DOCTOR):
            yield warned("configuration", warning, CHANGE_IT)
    for fault in await _more_faults(settings):
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
    from receiver.config.settings import setting_hashes
    from receiver.http.client import http_client
    from receiver.ledger.ledger import Ledger
    from receiver.web.bodies import SettingsHashes

    with closing(Ledger(settings.database_url)) as ledger:
        here = serving_address(ledger) or address(settings.host, settings.port)
    async with http_client(direct=True, base_url=here) as http:
        try:
            server = Server(http, settings)
            hashes = await server.ask("GET", "/api/settings", SettingsHashes, seconds=ASK_SECONDS)
        except CommandError:
            return None
    own = setting_hashes(settings)
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
    head = colored(f"{finding.health.value:4}", finding.health.value)
    click.echo(masking(f"{head}  {finding.what}: {finding.found}"))
    if finding.hint:
        click.echo(masking(textwrap.indent(finding.hint, " " * 6)))

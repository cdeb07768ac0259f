"""`receiver check` and `receiver link`: the configuration alone, no network, no ledger."""

import asyncio
import json
import os

import click

from receiver.cli.exits import BAD_CONFIG, NOT_DONE, USAGE, Stop, told_plainly
from receiver.errors import ConfigError, Fault
from receiver.hook_tokens import MAX_URL, LinkKeys
from receiver.images import is_repository
from receiver.notify import understands
from receiver.reading_settings import HOW_TO_MAKE_A_KEY, load_settings
from receiver.rules import shadowed
from receiver.service import NEEDED
from receiver.settings import Settings

SHORT_KEY = 32
SHORT_PASSWORD = 12


@click.command(short_help="Check the configuration, all faults at once.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@told_plainly
def check(as_json: bool) -> None:
    """Check the configuration: all faults at once, each with where and how to mend it.

    Reads the environment and receiver.toml only: no network, no ledger. Warnings do not fail.
    """
    try:
        settings = load_settings(os.environ, need=NEEDED)
        asyncio.run(_check_places(settings))
    except ConfigError as error:
        if as_json:
            faults = [_fault_row(fault) for fault in error.faults]
            click.echo(json.dumps({"ok": False, "faults": faults, "warnings": []}))
            raise SystemExit(BAD_CONFIG) from None
        raise
    warnings = config_warnings(settings)
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
    for rule in settings.rules:
        targets = [rule.version] if rule.versions else []
        named = ", ".join(f"{rule.app}/{one}" for one in [*targets, *rule.channels])
        click.echo(f"rule  {rule.name}: {rule.repository} → {named}")
    for warning in warnings:
        click.echo(f"warn  {warning}")
    click.echo("The configuration is sound.")


@click.command(short_help="Print the link to paste into Docker Hub.")
@click.argument("repository")
@told_plainly
def link(repository: str) -> None:
    """Print the link to paste into Docker Hub, for REPOSITORY (group/project).

    \b
    On Docker Hub: the repository → Webhooks → a name → paste the link → Create.

    The link is the proof that a push is the studio's own: keep it as you keep a password. To
    revoke it, raise the repository's number under [links] in receiver.toml and reload.
    """
    settings = load_settings(os.environ, need=frozenset({"RECEIVER_SECRET_KEY", "public_url"}))
    if not is_repository(repository):
        sentence = f"{repository!r} is no Docker Hub repository: write group/project, lower case"
        raise Stop(sentence, USAGE)
    keys = LinkKeys([key.reveal() for key in settings.secret_keys], settings.links)
    url = keys.link(settings.public_url or "", repository)
    if len(url) > MAX_URL:
        raise Stop(
            f"the link is {len(url)} characters long and Docker Hub takes {MAX_URL}: "
            "shorten public_url",
            NOT_DONE,
        )
    click.echo(url)
    if not any(rule.repository == repository for rule in settings.rules):
        click.echo(f"receiver: no rule names {repository} yet; its pushes are ignored", err=True)


async def _check_places(settings: Settings) -> None:
    """Raise ConfigError where a notice goes to what is no place; nothing is sent."""
    faults = await no_places(settings)
    if faults:
        raise ConfigError(tuple(faults))


async def no_places(settings: Settings) -> list[Fault]:
    """Return a fault for each notice whose URL Apprise does not understand."""
    known = await asyncio.gather(*(understands(notice.url) for notice in settings.notices))
    mend = "See github.com/caronc/apprise for the URL of each kind of place"
    what = "its URL is not one that Apprise understands"
    return [
        Fault(notice.name, what, mend)
        for notice, good in zip(settings.notices, known, strict=True)
        if not good
    ]


def config_warnings(settings: Settings) -> list[str]:
    """Return what is no fault, but likely not meant."""
    warnings = [
        f"rule {later.name!r} names the same target as {first.name!r} for the same repository: "
        "the first wins"
        for first, later in shadowed(settings.rules)
    ]
    if settings.public_url is None:
        warnings.append("public_url is not set: `receiver link` cannot print links")
    elif not settings.public_url.startswith("https://"):
        warnings.append("public_url is not https: the link, which is a secret, travels in clear")
    if any(len(key.reveal()) < SHORT_KEY for key in settings.secret_keys):
        warnings.append(
            f"a key in RECEIVER_SECRET_KEY is shorter than {SHORT_KEY} characters: whoever has a "
            "link may guess it. " + HOW_TO_MAKE_A_KEY
        )
    password = settings.admin_password
    if password is not None and len(password.reveal()) < SHORT_PASSWORD:
        warnings.append(
            f"RECEIVER_ADMIN_PASSWORD is shorter than {SHORT_PASSWORD} characters: whoever finds "
            "the page may guess it"
        )
    if any(rule.login is None for rule in settings.rules):
        warnings.append("no Docker Hub login: Edgegap can pull public images only")
    return warnings


def _fault_row(fault: Fault) -> dict[str, str]:
    return {"where": fault.where, "what": fault.what, "mend": fault.mend}

"""`receiver init --add`: append a rule for another repository to receiver.toml."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import click

from receiver.cli.answers import (
    apps_of,
    asked_app,
    asked_repository,
    check_login,
    offer_to_connect,
)
from receiver.cli.exits import NOT_DONE, CommandError
from receiver.config.variables import CONFIG, NEEDED, variables_of

RULE = """
[[rule]]
repository = {repository}   # on Docker Hub
app = {app}   # on Edgegap
# tags = ["v*", "!*-rc*"]   # which tags become versions; without it all but `latest`
# version = "{{tag}}"   # the name of the version
# channels = ["staging"]   # versions that are moved to each pushed image
# keep = 10   # how many versions to keep; without it all
# docs/rules.md describes all keys. After a change: `receiver check`, then reload with SIGHUP.
"""


def rule_text(repository: str, app: str) -> str:
    """Return a rule with comments on what else it may contain."""
    return RULE.format(repository=json.dumps(repository), app=json.dumps(app))


def add_rule(folder: Path, given: Mapping[str, str | None]) -> None:
    """Ask for repository and app, append the rule, and offer to connect the repository."""
    from receiver.config.load import load_settings
    from receiver.config.settings import DEFAULT_CONFIG

    environ = dict(os.environ)
    if folder != Path():
        environ[CONFIG] = str(folder / DEFAULT_CONFIG)
    variables = variables_of(environ)
    if variables.get("RECEIVER_CONFIG_TOML", "").strip():
        sentence = "the configuration is in RECEIVER_CONFIG_TOML: add a [[rule]] to its text"
        raise CommandError(sentence, NOT_DONE)
    path = Path(os.path.realpath(variables.get(CONFIG) or DEFAULT_CONFIG))
    settings = load_settings(variables, need=NEEDED)
    repository = asked_repository(given["repository"])
    app = asked_app(given["app"], asyncio.run(apps_of(settings)))
    if any((rule.repository, rule.app) == (repository, app) for rule in settings.rules):
        raise CommandError(f"{path} has a rule for {repository} and {app} already", NOT_DONE)
    if settings.login is not None:
        asyncio.run(check_login(settings, settings.login, repository))
    new = path.with_name(f"{path.name}.new")
    try:
        _write_longer(path, new, rule_text(repository, app).encode())
        settings = load_settings(variables_of({**environ, CONFIG: str(new)}), need=NEEDED)
        new.replace(path)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}", NOT_DONE) from None
    finally:
        with suppress(OSError):
            new.unlink()
    click.echo(f"\nAdded a rule for {repository} to {path}.")
    click.echo("If `receiver serve` is running, reload it: kill -HUP")
    if given["repository"] is None:
        offer_to_connect(settings, repository)
    else:
        click.echo(f"Next: receiver connect {repository}")


def _write_longer(path: Path, new: Path, rule: bytes) -> None:
    """Write the file with a rule appended, and with its permissions, under another name."""
    before = path.read_bytes()
    gap = b"" if before.endswith(b"\n") else b"\n"
    mode = path.stat().st_mode & 0o777
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(before + gap + rule)

"""`receiver init --add`: append a rule for another repository to receiver.toml."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from receiver.cli.answers import (
    apps_of,
    asked_app,
    asked_repository,
    check_login,
    offer_to_connect,
)
from receiver.cli.exits import BAD_CONFIG, NOT_DONE, CommandError
from receiver.config.environment import CONFIG_TEXT
from receiver.config.variables import CONFIG, NEEDED, read_text, variables_of
from receiver.errors import ConfigError

if TYPE_CHECKING:
    from receiver.config.settings import Settings

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
    if variables.get(CONFIG_TEXT, "").strip():
        sentence = f"the configuration is in {CONFIG_TEXT}: add a [[rule]] to its text"
        raise CommandError(sentence, NOT_DONE)
    path = Path(os.path.realpath(variables.get(CONFIG) or DEFAULT_CONFIG))
    settings = load_settings(variables, need=NEEDED)
    repository = asked_repository(given["repository"])
    app = asked_app(given["app"], asyncio.run(apps_of(settings)))
    if any((rule.repository, rule.app) == (repository, app) for rule in settings.rules):
        raise CommandError(f"{path} has a rule for {repository} and {app} already", NOT_DONE)
    if settings.login is not None:
        asyncio.run(check_login(settings, settings.login, repository))
    settings = _append(path, rule_text(repository, app), {**environ, **variables.from_dotenv})
    click.echo(f"\nAdded a rule for {repository} to {path}.")
    click.echo("If `receiver serve` is running, reload it: kill -HUP")
    if given["repository"] is None:
        offer_to_connect(settings, repository)
    else:
        click.echo(f"Next: receiver connect {repository}")


def _append(path: Path, rule: str, environ: Mapping[str, str]) -> Settings:
    """Append a rule to the file if the result is valid; return the settings then.

    In place, so that owner, permissions and mounts of the file stay as they are.
    """
    from receiver.config.load import load_settings

    before = read_text(path)
    added = rule if before.endswith("\n") else f"\n{rule}"
    text = {CONFIG: "", CONFIG_TEXT: before + added}
    try:
        settings = load_settings({**environ, **text}, need=NEEDED)
        with path.open("ab") as file:
            file.write(added.encode())
    except ConfigError as error:
        what = "; ".join(fault.what for fault in error.faults)
        sentence = f"the rule cannot be appended to {path}: {what}. Add it by hand:\n{rule}"
        raise CommandError(sentence, BAD_CONFIG) from None
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}", NOT_DONE) from None
    return settings

"""`receiver init`: ask for the required values, and write the configuration."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path
from secrets import token_urlsafe
from typing import TYPE_CHECKING, TypeVar

import click

from receiver.cli.exits import NOT_DONE, USAGE, CommandError, handle_errors
from receiver.config.dotenv import dotenv_line
from receiver.config.environment import clean
from receiver.config.values import bare_token, login_faults, public_url_fault, token_fault
from receiver.config.variables import DOTENV, NEEDED
from receiver.dockerhub.login import Login
from receiver.images import HUB_ALIASES, is_repository
from receiver.secret import Secret
from receiver.signing import MAX_URL, LinkSigner

if TYPE_CHECKING:
    from receiver.config.settings import Settings

T = TypeVar("T")

SCHEMA = "receiver.schema.json"
CONFIG = """#:schema ./{schema}
public_url = {public_url}

[[rule]]
repository = {repository}   # on Docker Hub
app = {app}   # on Edgegap
"""
OWNER_ONLY = 0o600
OTHER_APIS = (
    "EDGEGAP_BASE_URL",
    "DOCKERHUB_REGISTRY_URL",
    "DOCKERHUB_AUTH_URL",
    "DOCKERHUB_API_URL",
    "RECEIVER_ALLOW_PLAIN_HTTP",
)  # copied into .env, because the tokens were checked at these URLs
REFUSED = frozenset({401, 403})


@click.command()
@click.option("--public-url", help="The URL at which Docker Hub reaches this receiver: https://….")
@click.option("--repository", help="The Docker Hub repository: group/project.")
@click.option("--app", help="The Edgegap app; default: choose from a list.")
@click.option(
    "--edgegap-token",
    envvar="EDGEGAP_TOKEN",
    help="The Edgegap API token; safer at the prompt or in EDGEGAP_TOKEN.",
)
@click.option(
    "--dockerhub-username",
    envvar="DOCKERHUB_USERNAME",
    help="Docker Hub username; empty for public images.",
)
@click.option(
    "--dockerhub-token", envvar="DOCKERHUB_TOKEN", help="A read-only Docker Hub access token."
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="Folder for the files; default: the working directory.",
)
@handle_errors
def init(folder: Path, **given: str | None) -> None:
    """Generate a secret key, check both tokens, and write receiver.toml and .env.

    Asks for each value that is not given as an option. Never overwrites a file. Prints the link and
    where to paste it. Writes also the JSON Schema of receiver.toml, with which editors complete and
    check it.
    """
    from receiver.config.load import load_settings
    from receiver.config.model import schema_text
    from receiver.config.settings import DEFAULT_CONFIG, DEFAULT_LEDGER

    config, secrets = folder / DEFAULT_CONFIG, folder / DOTENV
    for path in (config, secrets):
        if path.exists() or path.is_symlink():
            raise CommandError(f"{path} already exists; move it away first", NOT_DONE)
    key = _secret_key(folder / DEFAULT_LEDGER)
    repository = _asked("Docker Hub repository (group/project)", given["repository"], _repository)
    public_url = _asked("Public URL of this receiver", given["public_url"], _public_url)
    token, apps = _asked("Edgegap API token", given["edgegap_token"], _token, hidden=True)
    app = given["app"] or click.prompt("Edgegap app", type=click.Choice(apps) if apps else str)
    if apps and app not in apps:
        raise CommandError(f"Edgegap has no app {app}; it has {', '.join(apps)}", NOT_DONE)
    username, hub_token = _login(given["dockerhub_username"], given["dockerhub_token"], repository)
    lines = {"RECEIVER_SECRET_KEY": key, "EDGEGAP_TOKEN": token}
    lines["RECEIVER_ADMIN_PASSWORD"] = token_urlsafe(12)
    lines |= {name: os.environ[name] for name in OTHER_APIS if os.environ.get(name, "").strip()}
    if username:
        lines |= {"DOCKERHUB_USERNAME": username, "DOCKERHUB_TOKEN": hub_token}
    values = {"public_url": public_url, "repository": repository, "app": app}
    written = {name: json.dumps(value) for name, value in values.items()}
    text = CONFIG.format(schema=SCHEMA, **written)
    load_settings({**lines, "RECEIVER_CONFIG_TOML": text}, need=NEEDED)
    _write(secrets, "".join(dotenv_line(name, value) for name, value in lines.items()))
    _write(config, text)
    if not os.path.lexists(folder / SCHEMA):
        _write(folder / SCHEMA, schema_text())
    link = LinkSigner([key], {}).link(public_url, repository)
    click.echo(f"Wrote {config} and {secrets} (only you may read them).\n")
    click.echo(f"Paste this link into Docker Hub: {repository} → Webhooks → New webhook:\n  {link}")
    if len(link) > MAX_URL:
        click.echo(
            f"receiver: the link is {len(link)} characters long and Docker Hub takes {MAX_URL}: "
            f"shorten public_url in {config}, then: receiver link {repository}",
            err=True,
        )
    if not public_url.startswith("https://"):
        click.echo(
            "receiver: the public URL is not https: the secret link would be sent unencrypted",
            err=True,
        )
    click.echo(f"\nThe admin page: {public_url}/ (password: RECEIVER_ADMIN_PASSWORD in {secrets}).")
    first = "" if folder == Path() else f"cd {folder}, "
    click.echo(f"\nNext: {first}receiver doctor, receiver serve, and push a tag.")


def _asked(
    question: str, given: str | None, read: Callable[[str], T], *, hidden: bool = False
) -> T:
    """Return the given or entered value as `read` returns it; ask again if the input is invalid."""
    if given:
        return read(given)
    while True:
        try:
            return read(click.prompt(question, hide_input=hidden))
        except CommandError as invalid:
            invalid.show()


def _repository(text: str) -> str:
    name = text.strip().removeprefix("https://").removeprefix("hub.docker.com/r/")
    host, slash, rest = name.partition("/")
    name = rest if slash and host in HUB_ALIASES else name
    name = name.partition(":")[0].rstrip("/")  # without the tag
    if not is_repository(name):
        raise CommandError(
            f"{text!r} is not a repository name: write group/project in lower case", USAGE
        )
    return name


def _public_url(text: str) -> str:
    fault = public_url_fault(text.strip())
    if fault is not None:
        raise CommandError(f"invalid public URL: {fault}; write https://hooks.example.com", USAGE)
    return text.strip().rstrip("/")


def _token(text: str) -> tuple[str, list[str]]:
    """Return the Edgegap token without prefix, and the names of its apps."""
    token = bare_token(text)
    fault = token_fault(token)
    if fault is not None:
        raise CommandError(f"the Edgegap token: {fault[0]}. {fault[1]}", USAGE)
    return token, asyncio.run(_apps(token))


def _secret_key(ledger: Path) -> str:
    """Return the key set in the environment, which overrides the file, or a new key.

    An existing ledger was used with a key: a new key would invalidate all of its links.
    """
    parts = os.environ.get("RECEIVER_SECRET_KEY", "").split(",")
    keys = [clean("RECEIVER_SECRET_KEY", part, parsed=True).value for part in parts]
    found = next((key for key in keys if key), None)
    if found is None and ledger.exists():
        sentence = (
            f"{ledger} already exists, and its links were signed with a key: set "
            "RECEIVER_SECRET_KEY to that key, or move the ledger away"
        )
        raise CommandError(sentence, NOT_DONE)
    return found or token_urlsafe(32)


def _login(username: str | None, token: str | None, repository: str) -> tuple[str, str]:
    if username is None:
        username = click.prompt("Docker Hub username (empty: public images only)", default="")
    if not username:
        return "", ""
    name = username.strip()

    def read(text: str) -> str:
        bare = bare_token(text)
        for part, fault, fix in login_faults(name, bare):
            raise CommandError(f"the Docker Hub {part}: {fault}. {fix}", USAGE)
        asyncio.run(_check_login(Login(name, Secret(bare)), repository))
        return bare

    return name, _asked("Docker Hub access token, read-only", token, read, hidden=True)


def _settings(**secrets: str) -> Settings:
    """Return settings to check a secret with; raises ConfigError before the secret is sent."""
    from receiver.config.load import load_settings

    addresses = {name: os.environ[name] for name in OTHER_APIS if name in os.environ}
    return load_settings({**addresses, **secrets, "RECEIVER_CONFIG_TOML": "# not written yet"})


async def _apps(token: str) -> list[str]:
    from receiver.doctor.checks import CHECK_THE_WAY
    from receiver.edgegap.client import RateLimiter, edgegap_client
    from receiver.pipeline.retry import summary_of

    settings = _settings(EDGEGAP_TOKEN=token)
    async with edgegap_client(
        settings.edgegap_base_url, Secret(token), RateLimiter(8, 1)
    ) as client:
        listing = await client.apps()
    answer = listing.answer
    if answer.says(*REFUSED):
        raise CommandError(
            f"Edgegap does not accept the token ({answer.message}): make one under "
            "app.edgegap.com/user-settings?tab=tokens",
            NOT_DONE,
        )
    if not answer.accepted:
        raise CommandError(
            f"Edgegap could not be reached: {summary_of(answer)}. {CHECK_THE_WAY}", NOT_DONE
        )
    return [str(row["name"]) for row in listing.rows]


async def _check_login(login: Login, repository: str) -> None:
    from receiver.dockerhub.api import Hub, HubForbidden
    from receiver.dockerhub.http import DockerHubUnavailable
    from receiver.http.client import http_client

    settings = _settings(DOCKERHUB_USERNAME=login.username, DOCKERHUB_TOKEN=login.token.reveal())
    async with http_client() as http:
        try:
            visible = await Hub(http, settings.hub_api_url).sees(repository, login)
        except HubForbidden as error:
            raise CommandError(f"Docker Hub does not accept the login: {error}", NOT_DONE) from None
        except DockerHubUnavailable as error:
            raise CommandError(f"Docker Hub could not be reached: {error}", NOT_DONE) from None
    if not visible:
        raise CommandError(
            f"{login.username} cannot see {repository} on Docker Hub: check its name, and that the "
            "token may read private repositories if it is private",
            NOT_DONE,
        )


def _write(path: Path, text: str) -> None:
    """Write a new file that only its owner may read; fails if the file exists by now."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}", NOT_DONE) from None

"""`receiver init`: ask the few things needed, and write the configuration."""

import asyncio
import os
from pathlib import Path
from secrets import token_urlsafe

import click
import httpx

from receiver.cli.exits import NOT_DONE, USAGE, Stop, told_plainly
from receiver.dockerhub.fetching import Unavailable
from receiver.dockerhub.hub import Hub
from receiver.edgegap.client import edgegap_client
from receiver.edgegap.pace import Pace
from receiver.hook_tokens import MAX_URL, LinkKeys
from receiver.images import is_repository
from receiver.rules import Login
from receiver.secret import Secret
from receiver.settings import DEFAULT_CONFIG, EDGEGAP, HUB_API, load_settings

CONFIG = """public_url = "{public_url}"

[[rule]]
repository = "{repository}"   # on Docker Hub
app = "{app}"   # on Edgegap
"""
OWNER_ONLY = 0o600


@click.command(short_help="Write the configuration, step by step.")
@click.option("--public-url", help="Where Docker Hub reaches this receiver: https://….")
@click.option("--repository", help="On Docker Hub: group/project.")
@click.option("--app", help="On Edgegap; chosen from a list if not given.")
@click.option(
    "--edgegap-token", envvar="EDGEGAP_TOKEN", help="Better asked for, or from EDGEGAP_TOKEN."
)
@click.option("--dockerhub-username", envvar="DOCKERHUB_USERNAME", help="Empty for public images.")
@click.option("--dockerhub-token", envvar="DOCKERHUB_TOKEN", help="A read-only access token.")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), default=Path())
@told_plainly
def init(folder: Path, **given: str | None) -> None:
    """Make a secret key, check both tokens with a read, and write receiver.toml and .env.

    Asks for what is not given. Never overwrites a file. Ends with the link and where to paste it.
    """
    config, secrets = folder / DEFAULT_CONFIG, folder / ".env"
    for path in (config, secrets):
        if path.exists():
            raise Stop(f"{path} is there already; move it away first", NOT_DONE)
    repository = given["repository"] or click.prompt("Docker Hub repository (group/project)")
    if not is_repository(repository):
        raise Stop(f"{repository!r} is no repository: group/project, lower case", USAGE)
    public_url = (given["public_url"] or click.prompt("Public URL of this receiver")).rstrip("/")
    load_settings({"RECEIVER_PUBLIC_URL": public_url, "RECEIVER_CONFIG_TOML": " \n#"})
    token = given["edgegap_token"] or click.prompt("Edgegap API token", hide_input=True)
    apps = asyncio.run(_apps(token))
    app = given["app"] or click.prompt("Edgegap app", type=click.Choice(apps) if apps else str)
    if apps and app not in apps:
        raise Stop(f"Edgegap has no app {app}; it has {', '.join(apps)}", NOT_DONE)
    username, hub_token = _login(given["dockerhub_username"], given["dockerhub_token"])
    if username:
        asyncio.run(_check_login(Login(username, Secret(hub_token)), repository))
    key = token_urlsafe(32)
    lines = {"RECEIVER_SECRET_KEY": key, "EDGEGAP_TOKEN": token}
    if username:
        lines |= {"DOCKERHUB_USERNAME": username, "DOCKERHUB_TOKEN": hub_token}
    _write(secrets, "".join(f"{name}={value}\n" for name, value in lines.items()))
    _write(config, CONFIG.format(public_url=public_url, repository=repository, app=app))
    link = LinkKeys([key], {}).link(public_url, repository)
    click.echo(f"Wrote {config} and {secrets} (only you may read them).\n")
    click.echo(f"Paste this link into Docker Hub: {repository} → Webhooks → New webhook:\n  {link}")
    if len(link) > MAX_URL:
        click.echo(
            f"It is over Docker Hub's {MAX_URL} characters: shorten the public URL.", err=True
        )
    click.echo("\nThen: receiver doctor, receiver serve, and push a tag.")


def _login(username: str | None, token: str | None) -> tuple[str, str]:
    if username is None:
        username = click.prompt("Docker Hub username (empty: public images only)", default="")
    if not username:
        return "", ""
    return username, token or click.prompt("Docker Hub access token, read-only", hide_input=True)


async def _apps(token: str) -> list[str]:
    base = os.environ.get("EDGEGAP_BASE_URL", "").strip() or EDGEGAP
    async with edgegap_client(base, Secret(token), Pace(8, 1)) as client:
        answer = await client.apps()
    if not answer.ok or answer.body is None:
        raise Stop(f"Edgegap does not accept the token: {answer.message}", NOT_DONE)
    rows = answer.body.get("applications")
    return [str(row.get("name")) for row in rows or [] if isinstance(row, dict)]


async def _check_login(login: Login, repository: str) -> None:
    base = os.environ.get("DOCKERHUB_API_URL", "").strip() or HUB_API
    async with httpx.AsyncClient() as http:
        try:
            seen = await Hub(http, base).sees(repository, login)
        except Unavailable as error:
            raise Stop(f"Docker Hub does not accept the login: {error}", NOT_DONE) from None
    if not seen:
        raise Stop(f"Docker Hub shows no {repository} to {login.username}", NOT_DONE)


def _write(path: Path, text: str) -> None:
    """Write a new file that only its owner may read; fails if it is there by now."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)

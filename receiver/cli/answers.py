"""Questions of `receiver init`, and the checks of their answers against Edgegap and Docker Hub."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeVar

import click

from receiver.cli.exits import NOT_DONE, USAGE, CommandError
from receiver.images import HUB_ALIASES, is_repository

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from receiver.config.settings import Settings
    from receiver.dockerhub.login import Login

T = TypeVar("T")

ABOUT_REPOSITORY = """
The Docker Hub repository that your builds are pushed to. Each pushed tag becomes an app version.
For example: studio/game-server"""
ABOUT_PUBLIC_URL = """
The address at which Docker Hub reaches this receiver: your own host name with a proxy that speaks
TLS, or a tunnel; docs/try-it.md shows how to get one. For example: https://hooks.example.com"""
ABOUT_EDGEGAP = """
An API token of Edgegap, from app.edgegap.com/user-settings?tab=tokens. It is checked now and stored
in .env."""
ABOUT_APP = """
The Edgegap app that gets the versions. Their settings are copied from its newest version."""
ABOUT_LOGIN = """
The login with which Edgegap pulls the image. Only private repositories need one."""
ABOUT_READ_ONLY = """
A personal access token of that login, "Read-only": on Docker Hub, Account settings → Personal
access tokens → Generate new token. It is checked now and stored in .env; Edgegap stores it, too."""
MAY_HAVE_LEDGER = (
    "DATABASE_URL names a PostgreSQL: if it has a ledger, another key invalidates all of its links"
)
ABOUT_CONNECT = """
Docker Hub needs a webhook with the link. `receiver connect` creates it, or you paste the link."""


def asked(
    question: str,
    given: str | None,
    read: Callable[[str], T],
    about: str = "",
    *,
    hidden: bool = False,
) -> T:
    """Return the given or entered value as `read` returns it; ask again if the input is invalid.

    `about` is printed before the question, once.
    """
    if given:
        return read(given)
    if about:
        click.echo(about)
    while True:
        try:
            return read(click.prompt(question, hide_input=hidden))
        except CommandError as invalid:
            invalid.show()


def asked_repository(given: str | None) -> str:
    """Return the repository that is given or entered."""
    return asked("Docker Hub repository", given, repository_name, ABOUT_REPOSITORY)


def asked_app(given: str | None, apps: Sequence[str]) -> str:
    """Return the app that is given, or chosen from the list."""
    if not given:
        click.echo(ABOUT_APP)
    app = given or click.prompt("Edgegap app", type=click.Choice(apps) if apps else str)
    if apps and app not in apps:
        raise CommandError(f"Edgegap has no app {app}; it has {', '.join(apps)}", NOT_DONE)
    return str(app)


def repository_name(text: str) -> str:
    """Return group/project of a repository as it may be pasted: with a host, a tag or a URL."""
    name = re.sub(
        r"(?:https://)?(?:hub\.docker\.com/r/)?", "", text.strip(), count=1, flags=re.IGNORECASE
    )
    host, slash, rest = name.partition("/")
    name = rest if slash and host in HUB_ALIASES else name
    name = name.partition("@")[0].partition(":")[0].rstrip("/")  # without the tag
    if not is_repository(name):
        raise CommandError(
            f"{text!r} is not a repository name: write group/project in lower case", USAGE
        )
    return name


async def apps_of(settings: Settings) -> list[str]:
    """Return the names of the apps that the Edgegap token sees."""
    from receiver.doctor.checks import CHECK_THE_WAY
    from receiver.edgegap.client import RateLimiter, edgegap_client
    from receiver.pipeline.retry import summary_of
    from receiver.secret import Secret

    token = settings.edgegap_token or Secret("")
    async with edgegap_client(settings.edgegap_base_url, token, RateLimiter(8, 1)) as client:
        listing = await client.apps()
    answer = listing.answer
    if answer.says(401, 403):
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


async def check_login(settings: Settings, login: Login, repository: str) -> None:
    """Check that Docker Hub accepts the login, and that it sees the repository."""
    from receiver.dockerhub.api import Hub, HubForbidden
    from receiver.dockerhub.http import DockerHubUnavailable
    from receiver.http.client import http_client

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


def offer_to_connect(settings: Settings, repository: str) -> None:
    """Ask whether to create the webhook now; no answer means no."""
    from receiver.cli.connect import connect_repositories

    click.echo(ABOUT_CONNECT)
    try:
        if not click.confirm(f"Create the webhook of {repository} now?", default=True):
            return
        click.echo()
        connect_repositories(settings, [repository], asked_before=True)
    except click.Abort:
        click.echo()
    except CommandError as error:
        error.show()

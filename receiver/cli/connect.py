"""`receiver connect`: create the webhook on Docker Hub, and prove that it reaches this receiver."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import click

from receiver.cli.client import configured
from receiver.cli.output import NOT_DONE, USAGE, CommandError, handle_errors, is_interactive
from receiver.config.values import bare_token, is_plain_http, token_fault
from receiver.images import Login
from receiver.secret import Secret
from receiver.signing import MAX_URL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from receiver.config.settings import Settings
    from receiver.dockerhub.api import RepositoryAdmin
    from receiver.upkeep.connect import Connection, Immutability

NEEDS = frozenset({"RECEIVER_SECRET_KEY", "public_url", "rule"})
ABOUT = """\
The webhook is created through Docker Hub's own API. Docker does not document these calls and may
change them: nothing is sent twice, and an unexpected response is shown with the steps by hand.

This needs an access token that may administrate the repository: on Docker Hub, Account settings →
Personal access tokens → Generate new token, with "Read, Write, Delete". It is used for these calls
and stored nowhere; delete it on Docker Hub afterwards. To do it by hand instead, enter no token.
"""
MAX_TAGS = 10
LATEST = "latest"
MAX_LINE = 4096  # bytes of the access token's line


@click.command()
@click.argument("repositories", metavar="[REPOSITORY]...", nargs=-1)
@click.option(
    "--username",
    help="Docker Hub user name of the token; default: the login's of the rule, or the namespace.",
)
@click.option(
    "--immutable",
    metavar="PATTERN",
    multiple=True,
    help="Also make tags that match this regular expression immutable on Docker Hub, which needs "
    "the token.",
)
@click.option(
    "--prove",
    is_flag=True,
    help="Also send a test push through the public URL; needs no token by itself.",
)
@handle_errors
def connect(
    repositories: tuple[str, ...], username: str | None, immutable: tuple[str, ...], prove: bool
) -> None:
    """Create the webhook of each REPOSITORY on Docker Hub; default: those of all rules.

    Asks for an access token that may administrate the repository, or reads it from standard input.
    The token is never stored. Docker does not document how to create webhooks, so every unexpected
    response is shown, with the steps by hand. A webhook with this receiver's present link is kept,
    and one with an outdated link is replaced.

    --prove sends a push in Docker Hub's form through the public URL and looks for it in the ledger.
    It is recorded as ignored, with the reason `test_push`, and registers nothing.
    """
    settings = configured(NEEDS)
    chosen = _chosen(settings, repositories)
    connected = connect_repositories(settings, chosen, username, immutable, proving=prove)
    proven = not prove or asyncio.run(_prove(settings, chosen))
    if not (connected and proven):
        raise SystemExit(NOT_DONE)


def connect_repositories(
    settings: Settings,
    repositories: Sequence[str],
    username: str | None = None,
    immutable: Sequence[str] = (),
    *,
    proving: bool = False,
    asked_before: bool = False,
) -> bool:
    """Ask for the token and connect the repositories; return whether all is done.

    Without a token the steps by hand are printed. `proving`: a test push follows, which needs no
    token, so without one it is done unless tags were to be made immutable. `asked_before`: other
    questions were answered on standard input, so that its buffer has the token already.
    """
    from receiver.logs import configure_logs

    configure_logs(secrets=settings.secrets(), level="WARNING")
    _check_addresses(settings, repositories)
    without = "only the test push" if proving and not immutable else "by hand"
    read = _buffered_line if asked_before else _unbuffered_line
    login = _login(settings, repositories[0], username, without, read)
    if login is None:
        if immutable:
            click.echo(
                "receiver: no tags were made immutable: --immutable needs an access token", err=True
            )
        _print_steps([] if proving else repositories, repositories if immutable else ())
        return proving and not immutable
    try:
        return asyncio.run(_connect(settings, repositories, login, immutable))
    finally:
        login.token.forget()


def _chosen(settings: Settings, repositories: Sequence[str]) -> list[str]:
    known = list(dict.fromkeys(rule.repository for rule in settings.rules))
    for repository in repositories:
        if repository not in known:
            raise CommandError(
                f"no rule names {repository}; rules name: {', '.join(known)}. Add one with "
                "`receiver init --add`",
                USAGE,
            )
    return list(dict.fromkeys(repositories)) or known


def _check_addresses(settings: Settings, repositories: Sequence[str]) -> None:
    if is_plain_http(settings.hub_api_url) and not settings.allow_plain_http:
        raise CommandError(
            "DOCKERHUB_API_URL is plain http to another machine: the token would be sent "
            "unencrypted. Write https://, or set RECEIVER_ALLOW_PLAIN_HTTP=true",
            NOT_DONE,
        )
    for repository in repositories:
        length = len(settings.link_signer().link(settings.public_url or "", repository))
        if length > MAX_URL:
            raise CommandError(
                f"the link of {repository} is {length} characters long and Docker Hub takes "
                f"{MAX_URL}: shorten public_url",
                NOT_DONE,
            )


def _login(
    settings: Settings,
    repository: str,
    username: str | None,
    without: str,
    read_line: Callable[[], str],
) -> Login | None:
    """Ask for the token on a terminal, or read it from standard input; None if it is empty.

    `without` is what is done without one.
    """
    logins = (rule.login for rule in settings.rules if rule.repository == repository)
    known = next((login.username for login in logins if login), repository.partition("/")[0])
    if is_interactive():
        click.echo(ABOUT)
        question = f"Access token (not shown; Enter: {without})"
        text = click.prompt(question, default="", hide_input=True, show_default=False)
    else:
        text = read_line()
    token = bare_token(text)
    if not token:
        return None
    fault = token_fault(token)
    if fault is not None:
        raise CommandError(f"the access token: {fault.what}. {fault.fix}", USAGE)
    if not is_interactive():
        click.echo(ABOUT)
    elif username is None:
        username = click.prompt("Docker Hub user name of the token", default=known)
    return Login((username or known).strip(), Secret(token))


def _buffered_line() -> str:
    return sys.stdin.readline() if sys.stdin is not None else ""


def _unbuffered_line() -> str:
    """Read a line byte by byte, so that no buffer keeps the token, or takes what follows it."""
    try:
        descriptor = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):  # no standard input, or not a real one
        return _buffered_line()
    line, length = bytearray(MAX_LINE), 0  # its size stays: growing would leave copies
    try:
        while length < MAX_LINE and (byte := os.read(descriptor, 1)) not in {b"", b"\n"}:
            line[length : length + 1] = byte
            length += 1
        if length == MAX_LINE:
            raise CommandError("the access token is too long: copy it again", USAGE)
        with memoryview(line) as view:
            return str(view[:length], "utf-8", "surrogateescape")
    except OSError as error:
        what = f"standard input cannot be read: {error.strerror}"
        raise CommandError(what, NOT_DONE) from None
    finally:
        line[:] = bytes(MAX_LINE)


async def _connect(
    settings: Settings, repositories: Sequence[str], login: Login, immutable: Sequence[str]
) -> bool:
    from receiver.dockerhub.api import Hub, RepositoryAdmin
    from receiver.dockerhub.http import DockerHubUnavailable
    from receiver.http.client import http_client

    done = []
    async with http_client() as http:
        hub = Hub(http, settings.hub_api_url)
        try:
            await hub.log_in(login)
            for repository in repositories:
                admin = RepositoryAdmin(hub, repository, login)
                done.append(await _connect_one(settings, admin))
                if immutable:
                    done.append(await _make_immutable(admin, immutable))
        except DockerHubUnavailable as error:  # for all of them: a login is tried only once
            nothing = "nothing more" if done else "nothing"
            click.echo(f"receiver: {nothing} is connected: {error}", err=True)
            _print_response(error.exact)
            _print_steps(repositories, repositories if immutable else ())
            return False
        finally:
            hub.forget(login)
    click.echo("Delete the access token on Docker Hub now, unless you need it again.")
    return all(done)


async def _connect_one(settings: Settings, admin: RepositoryAdmin) -> bool:
    from receiver.dockerhub.api import HubForbidden
    from receiver.dockerhub.http import DockerHubUnavailable
    from receiver.upkeep.connect import NotConnected, connect_repository

    repository = admin.repository
    try:
        made = await connect_repository(admin, settings.link_signer(), settings.public_url or "")
    except HubForbidden:
        raise
    except (DockerHubUnavailable, NotConnected) as error:
        click.echo(f"receiver: {repository} is not connected: {error}", err=True)
        _print_response(error.exact)
        _print_steps([repository])
        return False
    for line in _lines(repository, made):
        click.echo(line)
    for problem in made.problems:
        click.echo(f"receiver: {repository}: {problem}", err=True)
    return not made.problems


def _lines(repository: str, made: Connection) -> list[str]:
    state = "was created, and is in Docker Hub's list" if made.created else "exists already"
    deleted = (
        f'{repository}: the webhook "{name}", with an outdated link, was deleted.'
        for name in made.deleted
    )
    notes = (f"{repository}: {note}." for note in made.notes)
    return [f'{repository}: the webhook "{made.name}" {state}.', *deleted, *notes]


async def _make_immutable(admin: RepositoryAdmin, patterns: Sequence[str]) -> bool:
    from receiver.dockerhub.api import HubForbidden
    from receiver.dockerhub.http import DockerHubUnavailable
    from receiver.upkeep.connect import NotConnected, make_immutable

    repository = admin.repository
    try:
        made = await make_immutable(admin, patterns)
    except HubForbidden:
        raise
    except (DockerHubUnavailable, NotConnected) as error:
        click.echo(f"receiver: immutable tags of {repository} are not set: {error}", err=True)
        _print_response(error.exact)
        _print_steps((), [repository])
        return False
    for line in _immutability(repository, made):
        click.echo(line)
    return True


def _immutability(repository: str, made: Immutability) -> list[str]:
    rules = made.settings.rules
    which = f"that match {' or '.join(rules)}" if rules else "with any name"
    state = "are immutable now" if made.changed else "were immutable already"
    lines = [f"{repository}: tags {which} {state}."]
    for rule, tags in made.matching.items():
        more = f" and {len(tags) - MAX_TAGS} more" if len(tags) > MAX_TAGS else ""
        lines.append(f"  {rule} matches: {(', '.join(tags[:MAX_TAGS]) or 'no tag yet') + more}")
        if LATEST in tags:
            lines.append(f"  {LATEST} is among them: a push cannot change it any more")
    return lines


def _print_response(exact: str | None) -> None:
    if exact is not None:
        click.echo(f"The response was {exact}\n", err=True)


def _print_steps(webhooks: Sequence[str], immutable: Sequence[str] = ()) -> None:
    """Print how to create the webhooks, and how to make tags immutable, by hand."""
    for repository in webhooks:
        click.echo(
            f"By hand: `receiver link {repository}` prints the link. On Docker Hub: {repository} → "
            "Webhooks → a name → paste the link → Create."
        )
    for repository in immutable:
        click.echo(
            f"By hand: on Docker Hub, {repository} → Settings → General → Tag mutability settings.",
            err=True,
        )


async def _prove(settings: Settings, repositories: Sequence[str]) -> bool:
    from receiver.http.client import http_client
    from receiver.ledger.ledger import Ledger
    from receiver.upkeep.connect import NotProven, check_recorded, send_test_push

    proven = True
    async with http_client() as http:
        with closing(Ledger(settings.database_url)) as ledger:
            for repository in repositories:
                link = settings.link_signer().link(settings.public_url or "", repository)
                try:
                    delivery = await send_test_push(http, link, repository)
                    await check_recorded(ledger, delivery, link)
                except NotProven as error:
                    click.echo(f"receiver: {repository}: not proven: {error}", err=True)
                    proven = False
                    continue
                click.echo(
                    f"{repository}: a test push through {settings.public_url} reached this "
                    f"receiver: delivery {delivery}."
                )
    return proven

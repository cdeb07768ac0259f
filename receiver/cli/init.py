"""`receiver init`: ask for the required values, check each, and write the configuration."""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from secrets import token_urlsafe
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import click

from receiver.cli.output import BAD_CONFIG, NOT_DONE, USAGE, CommandError, handle_errors
from receiver.config.dotenv import dotenv_line
from receiver.config.environment import CONFIG_TEXT
from receiver.config.values import bare_token, base_url, login_faults, public_url_fault, token_fault
from receiver.config.variables import CONFIG, DOTENV, NEEDED, read_text, variables_of
from receiver.errors import ConfigError
from receiver.images import HUB_ALIASES, Login, is_repository
from receiver.secret import Secret
from receiver.signing import MAX_URL, LinkSigner

if TYPE_CHECKING:
    from receiver.config.settings import Settings

T = TypeVar("T")

SCHEMA = "receiver.schema.json"
TEMPLATE = f"""#:schema ./{SCHEMA}
public_url = {{public_url}}   # where Docker Hub reaches this receiver
"""
OWNER_ONLY = 0o600
OTHER_APIS = (
    "EDGEGAP_BASE_URL",
    "DOCKERHUB_REGISTRY_URL",
    "DOCKERHUB_AUTH_URL",
    "DOCKERHUB_API_URL",
    "RECEIVER_ALLOW_PLAIN_HTTP",
)  # copied into .env, because the tokens were checked at these URLs
RULE = """
[[rule]]
repository = {repository}   # on Docker Hub
app = {app}   # on Edgegap
# tags = ["v*", "!*-rc*"]   # which tags become versions; without it all but `latest`
# version = "{{tag}}"   # the name of the version
# channels = ["staging"]   # versions that are moved to each pushed image
# keep = 10   # how many versions to keep; without it all
# docs/rules.md describes all keys. After a change: `receiver check`, then `receiver reload`.
"""

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
@click.option("--add", is_flag=True, help="Add a rule for another repository to receiver.toml.")
@handle_errors
def init(folder: Path, add: bool, **given: str | None) -> None:
    """Generate a secret key, check both tokens, and write receiver.toml and .env.

    Asks for each value that is not given as an option. Never overwrites a file. Prints the link and
    where to paste it, and offers to create the webhook: `receiver connect`.

    Writes also the JSON Schema of receiver.toml, with which editors complete and check it.
    --add appends a rule for another repository to the receiver.toml that exists.
    """
    if add:
        add_rule(folder, given)
        return
    from receiver.config.load import load_settings
    from receiver.config.model import schema_text
    from receiver.config.settings import DEFAULT_CONFIG, DEFAULT_LEDGER

    config, secrets = folder / DEFAULT_CONFIG, folder / DOTENV
    for path in (config, secrets):
        if path.exists() or path.is_symlink():
            raise CommandError(f"{path} already exists; move it away first", NOT_DONE)
    answers = None in {given["repository"], given["public_url"]}  # a person does
    keys = _secret_keys(folder / DEFAULT_LEDGER, asking=answers)
    repository = asked_repository(given["repository"])
    public_url = asked(
        "Public URL of this receiver", given["public_url"], _public_url, ABOUT_PUBLIC_URL
    )
    token, apps = asked(
        "Edgegap API token", given["edgegap_token"], _token, ABOUT_EDGEGAP, hidden=True
    )
    app = asked_app(given["app"], apps)
    username, hub_token = _login(given["dockerhub_username"], given["dockerhub_token"], repository)
    lines = {"RECEIVER_SECRET_KEY": ",".join(keys), "EDGEGAP_TOKEN": token}
    lines["RECEIVER_ADMIN_PASSWORD"] = token_urlsafe(12)
    lines |= {name: os.environ[name] for name in OTHER_APIS if os.environ.get(name, "").strip()}
    if username:
        lines |= {"DOCKERHUB_USERNAME": username, "DOCKERHUB_TOKEN": hub_token}
    text = TEMPLATE.format(public_url=json.dumps(public_url)) + rule_text(repository, app)
    settings = load_settings({**lines, "RECEIVER_CONFIG_TOML": text}, need=NEEDED)
    _write(secrets, "".join(dotenv_line(name, value) for name, value in lines.items()))
    _write(config, text)
    if not os.path.lexists(folder / SCHEMA):
        _write(folder / SCHEMA, schema_text())
    click.echo(f"Wrote {config} and {secrets} (only you may read them).\n")
    link = LinkSigner(keys[::-1], {}).link(public_url, repository)
    _show_link(link, repository, config, paste=not answers)
    click.echo(f"\nThe admin page: {public_url}/ (password: RECEIVER_ADMIN_PASSWORD in {secrets}).")
    first = "" if folder == Path() else f"cd {folder}, "
    if answers:
        offer_to_connect(settings, repository)
    click.echo(f"\nNext: {first}receiver doctor, receiver serve, and in another terminal:")
    click.echo(f"receiver connect --prove sends a test push; then push a tag to {repository}.")


def _show_link(link: str, repository: str, config: Path, *, paste: bool) -> None:
    """Print the link; `paste`: nothing is asked afterwards that may create the webhook."""
    where = f"Paste this link into Docker Hub: {repository} → Webhooks → New webhook"
    click.echo(f"{where if paste else f'The link of {repository}, a secret'}:\n  {link}")
    if len(link) > MAX_URL:
        click.echo(
            f"receiver: the link is {len(link)} characters long and Docker Hub takes {MAX_URL}: "
            f"shorten public_url in {config}, then: receiver link {repository}",
            err=True,
        )
    if urlsplit(link).scheme != "https":
        click.echo(
            "receiver: the public URL is not https: the secret link would be sent unencrypted",
            err=True,
        )


def _public_url(text: str) -> str:
    fault = public_url_fault(text.strip())
    if fault is not None:
        raise CommandError(f"invalid public URL: {fault}; write https://hooks.example.com", USAGE)
    return base_url(text.strip())


def _token(text: str) -> tuple[str, list[str]]:
    """Return the Edgegap token without prefix, and the names of its apps."""
    token = bare_token(text)
    fault = token_fault(token)
    if fault is not None:
        raise CommandError(f"the Edgegap token: {fault[0]}. {fault[1]}", USAGE)
    return token, asyncio.run(apps_of(_settings(EDGEGAP_TOKEN=token)))


def _secret_keys(ledger: Path, *, asking: bool) -> list[str]:
    """Return the keys set in the environment, which overrides the file, or a new key.

    An existing ledger was used with a key: a new key would invalidate all of its links. It may be
    on PostgreSQL, which is not looked at here.
    """
    from receiver.config.environment import read_variable
    from receiver.config.settings import LOOK_FIRST, keys_in
    from receiver.config.variables import Variables
    from receiver.ledger.engine import read_database_url, sqlite_path

    variables = Variables(os.environ)
    if found := keys_in(read_variable(variables, "RECEIVER_SECRET_KEY") or ""):
        return found
    text = read_variable(variables, "DATABASE_URL")
    try:
        path = ledger if text is None else sqlite_path(read_database_url(text))
    except ValueError:  # `check` reports it
        path = ledger
    if path is None and asking:
        click.echo(f"\n{MAY_HAVE_LEDGER}.\n{LOOK_FIRST} here.")
        question = "Secret key of that ledger (empty: there is none yet, make a new key)"
        keys = keys_in(click.prompt(question, default="", show_default=False, hide_input=True))
        _settings(RECEIVER_SECRET_KEY=",".join(keys))  # raises ConfigError
        return keys or [token_urlsafe(32)]
    if path is None:
        click.echo(f"receiver: {MAY_HAVE_LEDGER}. {LOOK_FIRST} in {DOTENV}", err=True)
    elif os.path.lexists(path):
        sentence = (
            f"{path} already exists, and its links were signed with a key: set "
            "RECEIVER_SECRET_KEY to that key, or move the ledger away"
        )
        raise CommandError(sentence, NOT_DONE)
    return [token_urlsafe(32)]


def _login(username: str | None, token: str | None, repository: str) -> tuple[str, str]:
    if username is None:
        click.echo(ABOUT_LOGIN)
        question = "Docker Hub username (empty: public images only)"
        username = click.prompt(question, default="", show_default=False)
    if not username:
        return "", ""
    name = username.strip()

    def read(text: str) -> str:
        bare = bare_token(text)
        for part, fault, fix in login_faults(name, bare):
            raise CommandError(f"the Docker Hub {part}: {fault}. {fix}", USAGE)
        settings = _settings(DOCKERHUB_USERNAME=name, DOCKERHUB_TOKEN=bare)
        asyncio.run(check_login(settings, Login(name, Secret(bare)), repository))
        return bare

    question = "Docker Hub access token, read-only"
    return name, asked(question, token, read, ABOUT_READ_ONLY, hidden=True)


def _settings(**secrets: str) -> Settings:
    """Return settings to check a secret with; raises ConfigError before the secret is sent."""
    from receiver.config.load import load_settings

    addresses = {name: os.environ[name] for name in OTHER_APIS if name in os.environ}
    return load_settings({**addresses, **secrets, "RECEIVER_CONFIG_TOML": "# not written yet"})


def _write(path: Path, text: str) -> None:
    """Write a new file that only its owner may read; fails if the file exists by now."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}", NOT_DONE) from None


def rule_text(repository: str, app: str) -> str:
    """Return a rule with comments on what else it may contain."""
    return RULE.format(repository=json.dumps(repository), app=json.dumps(app))


def add_rule(folder: Path, given: Mapping[str, str | None]) -> None:
    """Ask for repository and app, append the rule, and offer to connect the repository."""
    from receiver.config.load import load_settings
    from receiver.config.settings import DEFAULT_CONFIG, config_warnings

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
    before = config_warnings(settings)
    settings = _append(path, rule_text(repository, app), {**environ, **variables.from_dotenv})
    click.echo(f"\nAdded a rule for {repository} to {path}.")
    for warning in config_warnings(settings):
        if warning not in before:
            click.echo(f"warn  {warning}", err=True)
    click.echo("If `receiver serve` is running: receiver reload")
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


# Questions, and the checks of their answers against Edgegap and Docker Hub.


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
    kind = click.Choice(apps) if apps else str
    only = apps[0] if len(apps) == 1 else None
    app = given or click.prompt("Edgegap app", type=kind, default=only)
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

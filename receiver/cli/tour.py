"""The server, sandboxes and output of `receiver demo`."""

import asyncio
import json
import shlex
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from secrets import token_urlsafe
from threading import Event, Thread

import click
import httpx

from receiver.cli.server import Stopper, run_server
from receiver.config.settings import Settings
from receiver.http.client import http_client
from receiver.ledger.engine import read_database_url
from receiver.ledger.ledger import Ledger
from receiver.ledger.registrations import Claimed
from receiver.ledger.result import Result
from receiver.logs import configure_logs
from receiver.reasons import Outcome, State
from receiver.rules.rule import Mode, Rule
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from receiver.secret import Secret
from receiver.signing import LinkSigner
from receiver.web.app import create_app

REPOSITORY = "studio/game-server"
APP = "my-game"
FIRST, TAG, NEXT, FOR_ARM = "1.4.1", "1.4.2", "1.5.0", "1.5.0-arm64"
CHANNEL = "staging"
PATIENCE_SECONDS = 20.0
TWO_DAYS = 2 * 86_400


def run_demo(*, once: bool, port: int) -> bool:
    """Run the demo until it is stopped; return whether its version was created."""
    configure_logs(stream=sys.stderr, level="WARNING")
    sandbox = EdgegapSandbox(apps=(APP,))
    sandbox.add_version(
        APP, FIRST, docker_image=REPOSITORY, docker_tag=FIRST, req_cpu=1024, req_memory=2048,
        ports=[{"port": 7777, "protocol": "UDP", "to_check": True, "tls_upgrade": False,
                "name": "gameport"}],
    )  # fmt: skip
    hub = DockerHubSandbox()
    hub.add_repository(REPOSITORY)
    before = time.time() - TWO_DAYS  # catch-up records no pushes from before its start
    for tag in (FIRST, TAG, NEXT):
        hub.push_image(REPOSITORY, tag, attestations=True, pushed_at=before)
    hub.push_image(REPOSITORY, FOR_ARM, ("linux/arm64",), pushed_at=before)
    with (
        tempfile.TemporaryDirectory(prefix="receiver-demo-") as folder,
        serving(sandbox.app) as url,
        serving(hub.app) as hub_url,
    ):
        password = Secret(token_urlsafe(12))
        database = f"sqlite:///{Path(folder) / 'receiver.db'}"
        settings = Settings(
            rules=(Rule(REPOSITORY, APP, f"{REPOSITORY} → {APP}", channels=(CHANNEL,)),),
            secret_keys=(Secret(token_urlsafe(32)),),
            edgegap_token=Secret(sandbox.token),
            edgegap_base_url=url,
            registry_url=hub_url,
            registry_auth_url=f"{hub_url}/token",
            hub_api_url=hub_url,
            admin_password=password,
            database_url=read_database_url(database),
            port=port,
        )
        tour = _Tour(settings, sandbox, database, password, once=once)
        ledger = Ledger(settings.database_url)
        ledger.open_to_write()
        app = create_app(settings, ledger, settled=tour.settled)
        run_server(app, settings, ledger, listening=tour.begin)
    return tour.created


@dataclass(slots=True)
class _Tour:
    """Sends a push to the server, and prints each step as a sender sees it."""

    settings: Settings
    sandbox: EdgegapSandbox
    database: str
    password: Secret
    once: bool
    created: bool = False
    _version_done: Event | None = None
    _channel_done: Event | None = None

    def begin(self, url: str, stop: Stopper) -> None:
        """Start the tour once the server listens."""
        self._version_done, self._channel_done = Event(), Event()
        Thread(target=self._show, args=(url, stop), name="tour", daemon=True).start()

    def settled(self, claimed: Claimed, result: Result) -> None:
        """Print the result of each registration."""
        detail = result.outcome or result.reason
        click.echo(f"  → {claimed.app}/{claimed.version}: {result.state} {detail}")
        if result.sentence:
            click.echo(f"    {result.sentence}")
        if result.state is State.DONE and result.outcome is Outcome.CREATED:
            self.created = True
        if self._version_done is not None:
            self._version_done.set()
        if self._channel_done is not None and claimed.mode is Mode.CHANNEL:
            self._channel_done.set()

    def _show(self, url: str, stop: Stopper) -> None:
        keys = [key.reveal() for key in self.settings.secret_keys]
        link = LinkSigner(keys, {}).link(url, REPOSITORY)
        click.echo(f"The receiver runs at {url}, with sandboxes of Edgegap and Docker Hub.\n")
        click.echo(f"Admin page (the password changes in each run):\n  {url}/")
        click.echo(f"  password {self.password.reveal()}\n")
        click.echo(f"The link to paste into Docker Hub:\n  {link}\n")
        click.echo(f"Docker Hub reports a push of {REPOSITORY}:{TAG} …")
        started = time.monotonic()
        answer = asyncio.run(_post(link, _body(TAG)))
        click.echo(f"  response: {answer.status_code} {answer.text}")
        if self._version_done is not None and self._version_done.wait(PATIENCE_SECONDS):
            self._show_version(time.monotonic() - started)
            if self.created and self._channel_done is not None:
                # Otherwise the channel's result would be printed after the last line.
                self._channel_done.wait(PATIENCE_SECONDS)
        else:
            click.echo("  no version was created; see the log above")
        if self.once:
            stop()
            return
        body = shlex.quote(json.dumps(_body(NEXT)))
        click.echo(
            f"\nPush a tag yourself, from another terminal:\n  curl -d {body} \\\n    {link}"
        )
        click.echo(
            f"or {FOR_ARM} instead of {NEXT}, an image that Edgegap cannot run. Other tags do not"
        )
        click.echo("exist in the sandbox of Docker Hub: they are retried, then parked.")
        click.echo("\nList the deliveries:")
        receiver = _program_name()
        click.echo(f"  DATABASE_URL={self.database} {receiver} deliveries")
        click.echo("and show one delivery, with an ID from that list:")
        click.echo(f"  DATABASE_URL={self.database} {receiver} show ID")
        click.echo(f"\nThe sandbox of Edgegap is at {self.settings.edgegap_base_url}")
        click.echo(f"and that of Docker Hub at {self.settings.hub_api_url}")
        click.echo("\nPress Ctrl-C to stop the demo.")

    def _show_version(self, seconds: float) -> None:
        version = self.sandbox.versions.get((APP, TAG))
        if version is None:
            return
        names = ("docker_repository", "docker_image", "docker_tag", "req_cpu", "req_memory")
        fields = "  ".join(f"{name}={version[name]}" for name in names)
        click.echo(f"Edgegap has {APP}/{TAG} after {seconds:.2f} s:\n  {fields}")
        click.echo(f"  (resources and ports were copied from the newest version, {FIRST})")


async def _post(link: str, body: dict[str, object]) -> httpx.Response:
    async with http_client(direct=True) as http:
        return await http.post(link, json=body)


def _program_name() -> str:
    """Return the command that runs this program in the current shell."""
    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m receiver"
    return shlex.quote(str(program))


def _body(tag: str) -> dict[str, object]:
    """Return a webhook body like Docker Hub's, with the fields that are read."""
    return {
        "push_data": {"tag": tag, "pusher": "studio", "pushed_at": int(time.time())},
        "repository": {"repo_name": REPOSITORY, "namespace": "studio", "name": "game-server"},
    }

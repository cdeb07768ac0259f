"""What `receiver demo` runs and shows: a receiver, its sandboxes, and a push."""

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

from receiver.app import create_app
from receiver.cli.server import Stopper, run_server
from receiver.hook_tokens import LinkKeys
from receiver.ledger.engines import read_database_url
from receiver.ledger.ledger import Ledger
from receiver.ledger.registrations import Claimed
from receiver.ledger.settlements import Settlement
from receiver.logs import configure_logs
from receiver.outgoing import http_client
from receiver.reasons import Outcome, State
from receiver.rules import Mode, Rule
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from receiver.secret import Secret
from receiver.settings import Settings

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
    before = time.time() - TWO_DAYS  # catch-up takes in nothing from before it began
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
    return tour.came


@dataclass(slots=True)
class _Tour:
    """Shows what happens, from beside the server, as a sender would see it."""

    settings: Settings
    sandbox: EdgegapSandbox
    database: str
    password: Secret
    once: bool
    came: bool = False
    _first: Event | None = None
    _channel: Event | None = None

    def begin(self, here: str, stop: Stopper) -> None:
        """Start the tour once the server listens."""
        self._first, self._channel = Event(), Event()
        Thread(target=self._show, args=(here, stop), name="tour", daemon=True).start()

    def settled(self, claimed: Claimed, settlement: Settlement) -> None:
        """Tell of each registration as it ends."""
        became = settlement.outcome or settlement.reason
        click.echo(f"  → {claimed.app}/{claimed.version}: {settlement.state} {became}")
        if settlement.sentence:
            click.echo(f"    {settlement.sentence}")
        if settlement.state is State.DONE and settlement.outcome is Outcome.CREATED:
            self.came = True
        if self._first is not None:
            self._first.set()
        if self._channel is not None and claimed.mode is Mode.CHANNEL:
            self._channel.set()

    def _show(self, here: str, stop: Stopper) -> None:
        keys = [key.reveal() for key in self.settings.secret_keys]
        link = LinkKeys(keys, {}).link(here, REPOSITORY)
        click.echo(
            f"The receiver runs at {here}, with sandboxes of Edgegap and Docker Hub inside.\n"
        )
        click.echo(f"Its page, with a password for this time only:\n  {here}/")
        click.echo(f"  password {self.password.reveal()}\n")
        click.echo(f"The link, as you would paste it into Docker Hub:\n  {link}\n")
        click.echo(f"A push of {REPOSITORY}:{TAG} comes in …")
        began = time.monotonic()
        answer = asyncio.run(_post(link, _body(TAG)))
        click.echo(f"  answered {answer.status_code} {answer.text}")
        if self._first is not None and self._first.wait(PATIENCE_SECONDS):
            self._show_version(time.monotonic() - began)
            if self.came and self._channel is not None:
                self._channel.wait(PATIENCE_SECONDS)  # else it is told of after the last line
        else:
            click.echo("  no version came of it; see the log above")
        if self.once:
            stop()
            return
        body = shlex.quote(json.dumps(_body(NEXT)))
        click.echo(f"\nPush one yourself, from another terminal:\n  curl -d {body} \\\n    {link}")
        click.echo(f"or {FOR_ARM} in place of {NEXT}, which Edgegap could not run (Docker Hub's")
        click.echo("sandbox holds no other tag; what it does not hold is waited for, then parked);")
        click.echo("then look at what the receiver remembers:")
        receiver = _as_called()
        click.echo(f"  DATABASE_URL={self.database} {receiver} deliveries")
        click.echo("and, with an id from that list in place of ID, at the whole story of one:")
        click.echo(f"  DATABASE_URL={self.database} {receiver} show ID")
        click.echo(f"The sandbox of Edgegap is at {self.settings.edgegap_base_url}")
        click.echo(f"and that of Docker Hub at {self.settings.hub_api_url}")
        click.echo("\nCtrl-C ends the demo.")

    def _show_version(self, seconds: float) -> None:
        version = self.sandbox.versions.get((APP, TAG))
        if version is None:
            return
        names = ("docker_repository", "docker_image", "docker_tag", "req_cpu", "req_memory")
        told = "  ".join(f"{name}={version[name]}" for name in names)
        click.echo(f"Edgegap has {APP}/{TAG} after {seconds:.2f} s:\n  {told}")
        click.echo(f"  (resources and ports were copied from the newest version, {FIRST})")


async def _post(link: str, body: dict[str, object]) -> httpx.Response:
    async with http_client(direct=True) as http:
        return await http.post(link, json=body)


def _as_called() -> str:
    """Return how this very program is called from where the person stands."""
    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m receiver"
    return shlex.quote(str(program))


def _body(tag: str) -> dict[str, object]:
    """Return a webhook body as Docker Hub sends it, the fields that matter."""
    return {
        "push_data": {"tag": tag, "pusher": "studio", "pushed_at": int(time.time())},
        "repository": {"repo_name": REPOSITORY, "namespace": "studio", "name": "game-server"},
    }

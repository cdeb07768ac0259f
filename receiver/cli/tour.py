"""The server, sandboxes and output of `receiver demo`."""

import asyncio
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from secrets import token_urlsafe
from threading import Condition, Thread

import click
import httpx
import msgspec

from receiver.cli.server import Stopper, run_server
from receiver.config.load import load_settings, read_connecting
from receiver.config.variables import NEEDED
from receiver.http.client import http_client
from receiver.ledger.claims import Claimed
from receiver.ledger.ledger import Ledger
from receiver.ledger.results import Result
from receiver.logs import configure_logs
from receiver.reasons import Outcome, Reason, State
from receiver.rules.rule import Mode
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from receiver.signing import LinkSigner
from receiver.web.app import create_app

REPOSITORY = "studio/game-server"
APP = "my-game"
FIRST, TAG, CRASHES, NEXT, FOR_ARM = "1.4.1", "1.4.2", "1.4.3", "1.5.0", "1.5.0-arm64"
CHANNEL = "staging"
TIMEOUT_SECONDS = 20.0
TWO_DAYS = 2 * 86_400
CONFIG = f"""
[[rule]]
repository = "{REPOSITORY}"
app = "{APP}"
channels = ["{CHANNEL}"]
[rule.trial]
at = "45.5,-73.6"
ready_within = "10s"
steady_for = "1s"
"""
ENDED = frozenset({State.DONE, State.PARKED})


def run_demo(*, once: bool, port: int) -> bool:
    """Run the demo until it is stopped; return whether its version was created.

    Raises KeyboardInterrupt if it was stopped before.
    """
    configure_logs(stream=sys.stderr, level="WARNING")
    sandbox = EdgegapSandbox(apps=(APP,))
    sandbox.add_version(
        APP, FIRST, docker_image=REPOSITORY, docker_tag=FIRST, req_cpu=1024, req_memory=2048,
        ports=[{"port": 7777, "protocol": "UDP", "to_check": True, "tls_upgrade": False,
                "name": "gameport"}],
    )  # fmt: skip
    hub = DockerHubSandbox()
    hub.add_repository(REPOSITORY)
    sandbox.deployments.set_lifecycle(ready_after=0.5)
    sandbox.deployments.set_lifecycle(
        version=CRASHES, ready_after=0.5, crash_after=0.5, exit_code=139,
        crash_message="Segmentation fault", crash_log="Loading the map\nSegmentation fault\n",
    )  # fmt: skip
    before = time.time() - TWO_DAYS  # catch-up records no pushes from before its start
    for tag in (FIRST, TAG, CRASHES, NEXT):
        hub.push_image(REPOSITORY, tag, attestations=True, pushed_at=before)
    hub.push_image(REPOSITORY, FOR_ARM, ("linux/arm64",), pushed_at=before)
    with (
        tempfile.TemporaryDirectory(prefix="receiver-demo-") as folder,
        serving(sandbox.app) as url,
        serving(hub.app) as hub_url,
    ):
        environ = {
            "RECEIVER_CONFIG_TOML": CONFIG,
            "RECEIVER_SECRET_KEY": token_urlsafe(32),
            "RECEIVER_ADMIN_PASSWORD": token_urlsafe(12),
            "EDGEGAP_TOKEN": sandbox.token,
            "EDGEGAP_BASE_URL": url,
            "DOCKERHUB_REGISTRY_URL": hub_url,
            "DOCKERHUB_AUTH_URL": f"{hub_url}/token",
            "DOCKERHUB_API_URL": hub_url,
            "DATABASE_URL": f"sqlite:///{Path(folder) / 'receiver.db'}",
            "PORT": str(port),
        }
        connecting = {name: one.reveal() for name, one in read_connecting(os.environ).items()}
        settings = load_settings({**connecting, **environ}, need=NEEDED)
        tour = _Tour(sandbox, environ, once=once)
        ledger = Ledger(settings.database_url)
        ledger.open_to_write()
        app = create_app(settings, ledger, environ={**os.environ, **environ}, settled=tour.settled)
        stopped = run_server(app, settings, ledger, listening=tour.begin)
    if stopped and not tour.created:
        raise KeyboardInterrupt
    return tour.created


class _Tour(msgspec.Struct):
    """Sends two pushes to the server, and prints each step as a sender sees it."""

    sandbox: EdgegapSandbox
    environ: Mapping[str, str]
    once: bool
    created: bool = False
    _ended: set[tuple[Mode, str]] = msgspec.field(default_factory=set)
    _tried: set[str] = msgspec.field(default_factory=set)
    _change: Condition = msgspec.field(default_factory=Condition)

    def begin(self, url: str, stop: Stopper) -> None:
        """Start the tour once the server listens."""
        Thread(target=self._show, args=(url, stop), name="tour", daemon=True).start()

    def settled(self, claimed: Claimed, result: Result) -> None:
        """Print the result of each registration, and once that a trial is running."""
        if result.reason is Reason.TRIAL_RUNNING:
            if claimed.id in self._tried:
                return
            self._tried.add(claimed.id)
        detail = result.outcome or result.reason
        what = "trial of " if claimed.mode is Mode.TRIAL else ""
        click.echo(f"  → {what}{claimed.app}/{claimed.version}: {result.state} {detail}")
        if result.sentence:
            click.echo(f"    {result.sentence}")
        if result.state is State.DONE and result.outcome is Outcome.CREATED:
            self.created = True
        if result.state in ENDED:
            with self._change:
                self._ended.add((claimed.mode, claimed.version))
                self._change.notify_all()

    def _show(self, url: str, stop: Stopper) -> None:
        link = LinkSigner([self.environ["RECEIVER_SECRET_KEY"]], {}).link(url, REPOSITORY)
        click.echo(f"The receiver runs at {url}, with sandboxes of Edgegap and Docker Hub.\n")
        click.echo(f"Admin page (the password changes in each run):\n  {url}/")
        click.echo(f"  password {self.environ['RECEIVER_ADMIN_PASSWORD']}\n")
        click.echo(f"The link to paste into Docker Hub:\n  {link}")
        started = time.monotonic()
        _report(link, TAG, "")
        if not self._has_ended(Mode.CREATE, TAG):
            click.echo("  no version was created; see the log above")
        elif self.created:
            self._show_version(time.monotonic() - started)
            self._has_ended(Mode.CHANNEL, CHANNEL)
            _report(link, CRASHES, ", whose server crashes")
            self._has_ended(Mode.TRIAL, CRASHES)
            there = self.sandbox.versions.get((APP, CHANNEL), {})
            click.echo(f"Edgegap has {there.get('docker_tag')} in {APP}/{CHANNEL}, as before.")
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
        click.echo(f"  DATABASE_URL={self.environ['DATABASE_URL']} {receiver} deliveries")
        click.echo("and show one delivery, with an ID from that list:")
        click.echo(f"  DATABASE_URL={self.environ['DATABASE_URL']} {receiver} show ID")
        click.echo(f"\nThe sandbox of Edgegap is at {self.environ['EDGEGAP_BASE_URL']}")
        click.echo(f"and that of Docker Hub at {self.environ['DOCKERHUB_API_URL']}")
        click.echo("\nPress Ctrl-C to stop the demo.")

    def _has_ended(self, mode: Mode, version: str) -> bool:
        """Wait until this registration has ended; return whether it has."""
        with self._change:
            return self._change.wait_for(
                lambda: (mode, version) in self._ended, timeout=TIMEOUT_SECONDS
            )

    def _show_version(self, seconds: float) -> None:
        version = self.sandbox.versions.get((APP, TAG))
        if version is None:
            return
        names = ("docker_repository", "docker_image", "docker_tag", "req_cpu", "req_memory")
        fields = "  ".join(f"{name}={version[name]}" for name in names)
        click.echo(f"Edgegap has {APP}/{TAG} after {seconds:.2f} s:\n  {fields}")
        click.echo(f"  (resources and ports were copied from the newest version, {FIRST})")


def _report(link: str, tag: str, what: str) -> None:
    click.echo(f"\nDocker Hub reports a push of {REPOSITORY}:{tag}{what} …")
    answer = asyncio.run(_post(link, _body(tag)))
    click.echo(f"  response: {answer.status_code} {answer.text}")


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

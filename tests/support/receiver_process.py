"""A receiver as a real process, driven as its users drive it: HTTP, signals, commands."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx

from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.signing import LinkSigner
from tests.support.forked import ForkedReceiver

T = TypeVar("T")

PROGRAM = (sys.executable, "-m", "receiver")
KEY = "test-key-0123456789-0123456789-abcdef"
REPOSITORY = "studio/game-server"
APP = "my-game"
TIMEOUT_SECONDS = 30.0
OURS = ("EDGEGAP_", "DOCKERHUB_", "RECEIVER_", "DATABASE_URL", "HOST", "PORT")
NOWHERE = "http://127.0.0.1:9"
RULE = f"""
[[rule]]
repository = "{REPOSITORY}"
app = "{APP}"
preflight = false

[rule.settings]
req_cpu = 1024
req_memory = 2048
ports = [{{ port = 7777, protocol = "UDP", name = "gameport" }}]
"""
NO_CATCH_UP = '\n[catch_up]\nevery = "off"\n'
TRIAL = """
[rule.trial]
at = "45.5,-73.6"
ready_within = "2s"
steady_for = "1s"
"""


def webhook_body(
    tag: str | None = "1.0.0", repository: str = REPOSITORY, **push_data: Any
) -> dict[str, Any]:
    """A webhook body in today's shape, the fields that matter."""
    namespace, _, name = repository.partition("/")
    return {
        "callback_url": f"https://registry.hub.docker.com/u/{repository}/hook/0123456789abcdef/",
        "push_data": {
            "pusher": "builder",
            "pushed_at": int(time.time()),
            "tag": tag,
            "images": [],
            "media_type": "application/vnd.oci.image.index.v1+json",
            **push_data,
        },
        "repository": {
            "status": "Active",
            "namespace": namespace,
            "name": name,
            "repo_name": repository,
            "full_description": None,
            "owner": namespace,
        },
    }


def until(look: Callable[[], T], seconds: float = TIMEOUT_SECONDS) -> T:
    """Return the first true answer; fails when none comes in time."""
    end, pause = time.monotonic() + seconds, 0.01
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


class ReceiverProcess:
    """One `receiver serve` in a folder of its own; may be killed and started again.

    `fresh`: it imports everything itself, so that its start and its memory can be measured.
    """

    def __init__(
        self,
        folder: Path,
        edgegap_url: str,
        *,
        config: str = RULE,
        environment: Mapping[str, str] | None = None,
        fresh: bool = False,
    ) -> None:
        self.folder = folder
        self.fresh = fresh
        self.program: tuple[str, ...] = PROGRAM
        self.config = folder / "receiver.toml"
        self.config.write_text(config, "utf-8")
        self.log = folder / "serve.log"
        self.process: subprocess.Popen[bytes] | ForkedReceiver | None = None
        self.url = ""
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(OURS)},
            "RECEIVER_SECRET_KEY": KEY,
            "RECEIVER_PUBLIC_URL": "https://hooks.example.com",
            "EDGEGAP_TOKEN": "sandbox-token",
            "EDGEGAP_BASE_URL": edgegap_url,
            "EDGEGAP_REQUESTS_PER_SECOND": "500",
            "HOST": "127.0.0.1",  # chosen: in a container the default is warned of
            "PORT": "0",
            "DOCKERHUB_REGISTRY_URL": NOWHERE,  # no test may reach the real one
            "DOCKERHUB_AUTH_URL": NOWHERE,
            "DOCKERHUB_API_URL": NOWHERE,
            **(environment or {}),
        }

    def start(self, *options: str) -> "ReceiverProcess":
        """Start it and wait until it answers."""
        self.log.touch()
        before = self.log.stat().st_size
        self.process = self._started("serve", *options)
        self.url = until(lambda: self._listens_at(before))
        return self

    def _started(self, *arguments: str) -> "subprocess.Popen[bytes] | ForkedReceiver":
        imported = self.environment.get("PYTHONPATH") == os.environ.get("PYTHONPATH")
        if self.program == PROGRAM and imported and not self.fresh:
            return ForkedReceiver(arguments, cwd=self.folder, env=self.environment, log=self.log)
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*self.program, *arguments],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def _listens_at(self, before: int) -> str:
        assert self.process is not None
        text = self.log.read_bytes()[before:].decode()
        assert self.process.poll() is None, text
        for line in text.splitlines():
            if '"listening"' in line:
                return str(json.loads(line)["at"])
        return ""

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait for the end, return the exit code."""
        if self.process is None:
            return 0
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(TIMEOUT_SECONDS)
        self.process = None
        return code

    def kill(self) -> None:
        """End it as a crash would."""
        self.stop(signal.SIGKILL)

    def link(self, repository: str = REPOSITORY) -> str:
        """The link as Docker Hub would call it, at the port it really listens on."""
        return LinkSigner([KEY], {}).link(self.url, repository)

    def post(self, body: Any, *, repository: str = REPOSITORY, **kwargs: Any) -> httpx.Response:
        """Send one webhook to the repository's link."""
        sent = {"content": body} if isinstance(body, bytes) else {"json": body}
        return httpx.post(self.link(repository), **sent, trust_env=False, timeout=20, **kwargs)

    def push(self, tag: str = "1.0.0", **kwargs: Any) -> str:
        """Send a webhook that is accepted; return the delivery's id."""
        answer = self.post(webhook_body(tag, **kwargs))
        assert answer.status_code == 202, answer.text
        return str(answer.json()["delivery"])

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the receiver's beside it."""
        return subprocess.run(
            [*self.program, *arguments],
            cwd=self.folder,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def show(self, identity: str) -> dict[str, Any]:
        """All details of one delivery, from `receiver show`."""
        done = self.run("show", identity, "--json")
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def details(self, identity: str) -> dict[str, Any]:
        """The same over the API: quicker to ask again and again."""
        token = self.api_token()
        answer = httpx.get(
            f"{self.url}/api/deliveries/{identity}",
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
        )
        assert answer.status_code == 200, answer.text
        result: dict[str, Any] = answer.json()
        return result

    def api_token(self) -> str:
        """A good API token."""
        from receiver.signing import ApiToken, ApiTokenSigner  # noqa: PLC0415

        return ApiTokenSigner([KEY]).sign(ApiToken("ab" * 8, int(time.time()) + 60))

    def ended(self, identity: str, seconds: float = TIMEOUT_SECONDS) -> dict[str, Any]:
        """Wait until its registrations are done or parked; return the first of them."""

        def look() -> dict[str, Any] | None:
            registrations = self.details(identity)["registrations"]
            over = all(one["state"] in {"done", "parked"} for one in registrations)
            return registrations[0] if registrations and over else None

        found = until(look, seconds)
        assert found is not None
        self.wait_for_commits()
        return found

    def wait_for_commits(self) -> None:
        """Wait until what was settled so far stands in the log and the metrics, too.

        They come after the commit, so that a reader may be quicker. The writer answers in order:
        when a later write of no effect is answered, all that was committed before it is reported.
        """
        httpx.post(
            f"{self.url}/api/resume",
            headers={"Authorization": f"Bearer {self.api_token()}"},
            json={"repository": "studio/never-paused"},
            trust_env=False,
            timeout=20,
        )

    def everything_written(self) -> str:
        """All it has written anywhere: its log and every file beside its ledger, as text."""
        return "".join(
            path.read_bytes().decode("utf-8", "replace")
            for path in sorted(self.folder.iterdir())
            if path.is_file() and path.name != "receiver.toml"
        )


def created_once(sandbox: EdgegapSandbox, tag: str, app: str = APP) -> bool:
    """Whether exactly one POST made this version."""
    return sandbox.posts_that_created(app, tag) == 1

"""Pushes to several replicas that are killed again and again while trials and approvals run."""

import asyncio
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy.engine import URL

from receiver.errors import LedgerError
from receiver.images import ImageReference
from receiver.ledger.ledger import Ledger
from receiver.ledger.transaction import Tx
from receiver.ledger.trials import has_passed
from receiver.rules.tag_order import version_number
from receiver.rules.trial import TAG
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.edgegap_deployments import DeploymentQuirks
from receiver.sandbox.faults import Fault
from receiver.sandbox.serving import serving
from tests.support.approvals import approve_waiting
from tests.support.postgres import Postgres, plain, programs
from tests.support.receiver_process import APP, REPOSITORY, RULE, ReceiverProcess, webhook_body

ENDS_WITHIN_SECONDS = 180.0
CHANNELS = ("staging", "prod")
WITH_CHANNEL = 'preflight = false\nchannels = ["staging"]'
CONFIG = f"""
{RULE.replace("preflight = false", WITH_CHANNEL)}
[rule.trial]
at = "45.5,-73.6"
ready_within = "8s"
steady_for = "1s"

[[channel]]
app = "{APP}"
name = "prod"
from = "staging"
needs = ["trial", "approval"]

[catch_up]
every = "off"
"""
FAULTS = (
    Fault("status", status=503),
    Fault("status", status=429, retry_after=1),
    Fault("reset"),
    Fault("reset", after=True),
    Fault("reset", method="POST", after=True),
    Fault("status", method="PATCH", status=500, after=True),
    Fault("garbage"),
    Fault("declined", method="DELETE"),
    Fault("status", path_contains="/status/", status=404, body='{"message": "Not found"}'),
)
LIVES: tuple[dict[str, Any], ...] = (
    {"ready_after": 0.3},
    {"ready_after": 0.3},
    {"ready_after": 1.0, "stop_takes": 0.5},
    {"ready_after": None},
    {"ready_after": 0.2, "crash_after": 0.4, "exit_code": 139},
    {"error_after": 0.5},
)


@dataclass(frozen=True)
class StormReport:
    """What a storm did, and what must not be: `faults` is empty if all is well."""

    counts: dict[str, object]
    faults: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether nothing is as it must not be."""
        return not self.faults

    def __str__(self) -> str:
        lines = [f"{name}: {value}" for name, value in self.counts.items()]
        return "\n".join([*lines, *self.faults, "SOUND" if self.passed else "NOT SOUND"])


def run_storm(*, pushes: int, replicas: int, seed: int, url: URL | None = None) -> StormReport:
    """Run a storm on PostgreSQL and return what it found at its end."""
    with tempfile.TemporaryDirectory() as folder, _ledger(Path(folder), url) as database:
        sandbox = EdgegapSandbox(apps=(APP,))
        sandbox.deployments.quirks = DeploymentQuirks(capacity=4)
        with serving(sandbox.app) as edgegap:
            storm = _Storm(sandbox, edgegap, database, Path(folder), seed)
            return storm.run(pushes, replicas)


@contextmanager
def _ledger(folder: Path, url: URL | None) -> Iterator[URL]:
    if url is not None:
        yield url
        return
    found = programs()
    assert found is not None, "PostgreSQL is not installed: apt-get install postgresql"
    folder.chmod(0o755)
    data = folder / "postgres"
    data.mkdir()
    server = Postgres(data, found)
    server.start()
    try:
        yield server.new_database()
    finally:
        server.stop()


class _Storm:
    def __init__(
        self, sandbox: EdgegapSandbox, edgegap: str, database: URL, folder: Path, seed: int
    ) -> None:
        self._sandbox, self._edgegap, self._database = sandbox, edgegap, database
        self._folder, self._rng = folder, random.Random(seed)
        self._ledger = Ledger(database)
        self._over = threading.Event()
        self._kills = self._approvals = 0

    def run(self, pushes: int, replicas: int) -> StormReport:
        self._ledger.open_to_write()
        receivers = [self._replica(number).start() for number in range(replicas)]
        threads = [
            threading.Thread(target=self._kill, args=(receivers,)),
            *(threading.Thread(target=self._approve) for _ in range(2)),
        ]
        for thread in threads:
            thread.start()
        try:
            accepted = self._push(receivers, pushes)
        finally:
            self._over.set()
            for thread in threads:
                thread.join()
        self._sandbox.behave()
        self._sandbox.deployments.quirks = DeploymentQuirks()
        for receiver in receivers:
            receiver.kill()
            receiver.start()  # its start sweeps
        open_at_end = self._end()
        report = self._report(accepted, open_at_end)
        for receiver in receivers:
            receiver.stop()
        self._ledger.close()
        return report

    def _replica(self, number: int) -> ReceiverProcess:
        folder = self._folder / f"replica-{number}"
        folder.mkdir()
        environment = {"DATABASE_URL": plain(self._database)}
        return ReceiverProcess(folder, self._edgegap, config=CONFIG, environment=environment)

    def _push(self, receivers: Sequence[ReceiverProcess], pushes: int) -> int:
        accepted = 0
        for number in range(pushes):
            tag = f"1.{number}.0"
            self._sandbox.deployments.set_lifecycle(version=tag, **self._rng.choice(LIVES))
            if self._rng.random() < 0.3:
                self._sandbox.misbehave(self._rng.choice(FAULTS))
            while True:  # Docker Hub reports once; here each push must be accepted
                receiver = self._rng.choice(receivers)
                with suppress(httpx.HTTPError):
                    body = webhook_body(tag, pushed_at=1_780_000_000 + number)
                    answer = receiver.post(body)
                    if answer.is_success:
                        accepted += 1
                        break
                time.sleep(0.02)
            time.sleep(self._rng.uniform(0.0, 0.25))
        return accepted

    def _kill(self, receivers: Sequence[ReceiverProcess]) -> None:
        rng = random.Random(self._rng.random())
        while not self._over.wait(rng.uniform(0.3, 2.0)):
            receiver = rng.choice(receivers)
            receiver.kill()
            receiver.start()
            self._kills += 1

    def _approve(self) -> None:
        """Approve what waits, two at once, as people do who click the same link."""
        while not self._over.wait(0.2):
            self._approve_all()

    def _approve_all(self) -> int:
        with suppress(LedgerError):
            fresh = sum(asyncio.run(self._ledger.write(approve_waiting)))
            self._approvals += fresh
            return fresh
        return 0

    def _end(self) -> list[str]:
        """Wait until everything is done or parked; return what is not."""
        until = time.monotonic() + ENDS_WITHIN_SECONDS
        while True:
            self._approve_all()
            left = [str(row) for row in self._read(_open)]
            if not left or time.monotonic() >= until:
                return left
            time.sleep(0.5)

    def _read(self, look: Any) -> Any:
        return asyncio.run(self._ledger.read(look))

    def _report(self, accepted: int, left: list[str]) -> StormReport:
        faults = [f"not ended: {one}" for one in left]
        running = self._sandbox.deployments.active(TAG)
        faults += [f"a deployment of {one.version} is left" for one in running]
        moved = {name: self._moves(name) for name in CHANNELS}
        for name, tags in moved.items():
            faults += _wrong_moves(name, tags)
            faults += [
                f"{name} moved to {tag}, which did not pass"
                for tag in tags
                if not self._read(lambda tx, one=tag: has_passed(tx, APP, _image(one), None))
            ]
        versions = sum(1 for app, name in self._sandbox.versions if name not in CHANNELS)
        if versions != accepted:
            faults.append(f"{accepted} pushes were accepted, and there are {versions} versions")
        counts: dict[str, object] = {
            "accepted": accepted,
            "kills": self._kills,
            "approvals": self._approvals,
            "moves": {name: len(tags) for name, tags in moved.items()},
            "ended": dict(self._read(_ended)),
            "deployments": sum(
                1
                for call in self._sandbox.calls
                if call.method == "POST" and "/v2/deployments" in call.path and call.status == 202
            ),
        }
        return StormReport(counts, tuple(faults))

    def _moves(self, channel: str) -> list[str]:
        """The tags that the channel had at Edgegap, in order, without repetitions."""
        tags: list[str] = []
        for call in self._sandbox.calls:
            body = call.body or {}
            made = call.method == "POST" and body.get("name") == channel
            moved = call.method == "PATCH" and call.path.endswith(f"/version/{channel}")
            tag = body.get("docker_tag")
            done = call.status is None or call.status < 300  # lost responses count as done
            if (made or moved) and done and isinstance(tag, str) and tags[-1:] != [tag]:
                tags.append(tag)
        return tags


def _open(tx: Tx) -> list[Any]:
    return list(
        tx.run(
            "SELECT mode, version, tag, state, waiting_reason FROM registrations"
            " WHERE state NOT IN ('done', 'parked')"
        )
    )


def _ended(tx: Tx) -> Counter[str]:
    rows = tx.run("SELECT mode, state, outcome, reason FROM registrations")
    return Counter(f"{row.mode} {row.state} {row.outcome or row.reason}" for row in rows)


def _wrong_moves(name: str, tags: Sequence[str]) -> list[str]:
    wrong = []
    for one, after in pairwise(tags):
        before, now = version_number(one), version_number(after)
        if before is None or now is None or now <= before:
            wrong.append(f"{name} moved from {one} to {after}")
    return wrong


def _image(tag: str) -> ImageReference:
    return ImageReference(repository=REPOSITORY, tag=tag)

"""Pushes and moves by hand, while replicas are killed at each step of trials and moves."""

import asyncio
import queue
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy.engine import URL

from receiver.errors import LedgerError
from receiver.images import ImageReference
from receiver.ledger.ledger import Ledger
from receiver.ledger.transaction import Tx
from receiver.ledger.trials import has_passed
from receiver.rules.channel_order import version_number
from receiver.rules.trial import TAG
from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap_deployments import DeploymentQuirks
from receiver.sandbox.serving import serving
from tests.storm.steps import KilledAtSteps, MovesNoted
from tests.support.approvals import approve_waiting
from tests.support.postgres import Postgres, plain, programs
from tests.support.receiver_process import APP, REPOSITORY, RULE, ReceiverProcess, webhook_body

ENDS_WITHIN_SECONDS = 600.0
BETWEEN_PUSHES_SECONDS = 2.0  # at most: trials keep up, so that channels move all the time
MOVED_WITHIN_SECONDS = 120.0  # by hand, after the last push
CHANNELS = ("staging", "prod")
BY_HAND: tuple[tuple[str, dict[str, str]], ...] = (
    ("promote", {"app": APP, "channel": "prod", "from": "staging"}),
    ("rollback", {"app": APP, "channel": "staging"}),
    ("rollback", {"app": APP, "channel": "prod"}),
)
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
        sandbox = MovesNoted(apps=(APP,))
        sandbox.deployments.quirks = DeploymentQuirks(capacity=4)
        steps = KilledAtSteps(sandbox.app, random.Random(seed), max(1, pushes // 40))
        with serving(steps) as edgegap:
            storm = _Storm(
                sandbox, steps, edgegap=edgegap, database=database, folder=Path(folder), seed=seed
            )
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
        self,
        sandbox: MovesNoted,
        steps: KilledAtSteps,
        *,
        edgegap: str,
        database: URL,
        folder: Path,
        seed: int,
    ) -> None:
        self._sandbox, self._edgegap, self._database = sandbox, edgegap, database
        self._steps, self._folder, self._rng = steps, folder, random.Random(seed)
        self._ledger = Ledger(database)
        self._pushed, self._over = threading.Event(), threading.Event()
        self._receivers: list[ReceiverProcess] = []
        self._up: set[int] = set()
        self._dead: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._kills = self._approvals = self._by_hand = 0

    def run(self, pushes: int, replicas: int) -> StormReport:
        self._ledger.open_to_write()
        receivers = [self._replica(number).start() for number in range(replicas)]
        self._receivers, self._up = receivers, set(range(replicas))
        self._steps.kill = self._kill_now
        threads = [
            threading.Thread(target=self._kill),
            *(threading.Thread(target=self._approve) for _ in range(2)),
        ]
        moving = threading.Thread(target=self._move_by_hand, args=(max(1, pushes // 20),))
        for thread in (*threads, moving):
            thread.start()
        try:
            accepted = self._push(receivers, pushes)
            self._pushed.set()
            moving.join()
        finally:
            self._over.set()
            for thread in threads:
                thread.join()
        self._steps.kill = lambda _: False
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
        edgegap = self._steps.url(self._edgegap, number)
        return ReceiverProcess(folder, edgegap, config=CONFIG, environment=environment)

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
            time.sleep(self._rng.uniform(0.0, BETWEEN_PUSHES_SECONDS))
        return accepted

    def _move_by_hand(self, wanted: int) -> None:
        """Promote and roll back in turn, until as many requests as wanted were accepted."""
        rng, turns = random.Random(self._rng.random()), cycle(BY_HAND)
        until = float("inf")
        while self._by_hand < wanted and time.monotonic() < until:
            if self._pushed.is_set() and until == float("inf"):
                until = time.monotonic() + MOVED_WITHIN_SECONDS
            receiver, (action, body) = rng.choice(self._receivers), next(turns)
            headers = {"Authorization": f"Bearer {receiver.api_token()}"}
            with suppress(httpx.HTTPError):  # whether it was done is in the ledger
                url = f"{receiver.url}/api/{action}"
                answer = httpx.post(url, json=body, headers=headers, trust_env=False, timeout=20)
                self._by_hand += answer.is_success
            time.sleep(rng.uniform(0.2, 1.0))

    def _kill_now(self, number: int) -> bool:
        """Kill a replica that is running, at once; another thread starts it again."""
        process = self._receivers[number].process
        if number not in self._up or process is None:
            return False
        self._up.discard(number)
        process.kill()
        self._dead.put(number)
        return True

    def _kill(self) -> None:
        """Kill replicas at any time, too, and start those that were killed."""
        rng = random.Random(self._rng.random())
        while not self._over.is_set():
            with suppress(queue.Empty):
                self._restart(self._dead.get(timeout=rng.uniform(0.5, 4.0)))
                continue
            number = rng.randrange(len(self._receivers))
            if self._kill_now(number):
                self._restart(self._dead.get())

    def _restart(self, number: int) -> None:
        receiver = self._receivers[number]
        receiver.kill()
        receiver.start()
        self._kills += 1
        self._up.add(number)

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
        moved = {name: self._sandbox.tags_of(name) for name in CHANNELS}
        for name, tags in moved.items():
            faults += wrong_moves(name, tags, self._read(partial(_requested, channel=name)))
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
            "kills at": dict(self._steps.killed),
            "moved by hand": self._by_hand,
            "moves": {name: len(tags) for name, tags in moved.items()},
            "ended": dict(self._read(_ended)),
            "deployments": sum(
                1
                for call in self._sandbox.calls
                if call.method == "POST" and "/v2/deployments" in call.path and call.status == 202
            ),
        }
        return StormReport(counts, tuple(faults))


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


def _requested(tx: Tx, channel: str) -> list[str]:
    """The tags that a person had a channel moved to, once for each request."""
    rows = tx.run(
        "SELECT r.tag FROM deliveries d JOIN led_to l ON l.delivery_id = d.id"
        " JOIN registrations r ON r.id = l.registration_id"
        " WHERE d.source = 'command' AND r.version = :channel",
        channel=channel,
    )
    return [str(row.tag) for row in rows]


def wrong_moves(name: str, tags: Sequence[str], requested: Sequence[str]) -> list[str]:
    """Return what a channel must not have done, given the tags that Edgegap gave it, in order.

    A push moves it once and never back; a person may have `requested` a tag once more.
    """
    wrong = []
    for one, after in pairwise(tags):
        before, now = version_number(one), version_number(after)
        if one != after and not (before and now and now > before) and after not in requested:
            wrong.append(f"{name} moved from {one} to {after}")
    asked = Counter(requested)
    for tag, count in Counter(tags).items():
        if count > 1 + asked[tag]:
            wrong.append(f"{name} moved to {tag} {count} times; by hand: {asked[tag]}")
    return wrong


def _image(tag: str) -> ImageReference:
    return ImageReference(repository=REPOSITORY, tag=tag)

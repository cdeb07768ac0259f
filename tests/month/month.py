"""Runs the month: builds push, faults come and go, the receiver is restarted, people approve."""

import asyncio
import io
import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import httpx

from receiver.config.load import load_settings
from receiver.config.variables import NEEDED
from receiver.http import client as http_client
from receiver.ledger import ledger, writer
from receiver.ledger.ledger import Ledger
from receiver.logs import configure_logs
from receiver.sandbox import edgegap_account
from receiver.sandbox.calls import Misbehaving
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.edgegap_deployments import DeploymentQuirks
from receiver.sandbox.edgegap_lifecycle import shown_time
from receiver.signing import LinkSigner
from receiver.upkeep import links
from receiver.web.app import create_app
from tests.month.at_once import WriterAtOnce
from tests.month.clock import BEGIN, AtOnce, Clock, JumpingLoop
from tests.month.fault_schedule import (
    DAY,
    EDGEGAP_PORT,
    HOUR,
    HUB_PORT,
    MINUTE,
    RECEIVER_PORT,
    Period,
    Troubles,
    periods,
)
from tests.month.history import RecordedEdgegap
from tests.month.network import Network
from tests.month.studio import LIVES, Project, Push, configuration, projects
from tests.support.approvals import approve_waiting
from tests.support.receiver_process import KEY, OURS, webhook_body

LOGIN = ("studio", "hub-token")
ON_DOCKER_HUB_SECONDS = 4 * DAY  # then the studio deletes a tag there
QUIET_SECONDS = DAY
PAGE = 4096
MAX_DOWN_SECONDS = 20 * MINUTE


@dataclass(frozen=True, slots=True)
class Pushed:
    """A push that was made, in epoch seconds, and how its webhook went."""

    project: Project
    push: Push
    at: float


@dataclass(frozen=True, slots=True)
class Parking:
    """A registration was parked, as the log says."""

    app: str
    version: str
    reason: str
    at: str


@dataclass(frozen=True, slots=True)
class Ending:
    """A registration ended without its version or its move, as the log says."""

    app: str
    version: str
    sentence: str


@dataclass(slots=True)
class Facts:
    """What happened in a month, for the checks and the report."""

    studio: list[Project]
    edgegap: RecordedEdgegap
    pushed: list[Pushed] = field(default_factory=list)
    periods: list[Period] = field(default_factory=list)
    starts: list[float] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    taken: Counter[str] = field(default_factory=Counter)
    parkings: list[Parking] = field(default_factory=list)
    superseded: list[Ending] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)  # bytes: each day at midnight
    failures: list[str] = field(default_factory=list)
    simulated: float = 0.0


class Log(io.StringIO):
    """Writes the receiver's log to a file, and counts its warnings and errors by event."""

    def __init__(self, file: Path, facts: Facts) -> None:
        super().__init__()
        self._file = file.open("w", encoding="utf-8")
        self._facts = facts
        self.events: Counter[str] = Counter()

    def write(self, text: str) -> int:
        self._file.write(text)
        for line in text.splitlines():
            event = json.loads(line)
            if event["level"] in {"warning", "error", "critical"}:
                self.events[event["event"]] += 1
            if event["event"] == "registration_parked":
                self._facts.parkings.append(
                    Parking(event["app"], event["version"], event["reason"], event["timestamp"])
                )
            elif event["event"] == "registration_done" and event["outcome"] == "superseded":
                self._facts.superseded.append(
                    Ending(event["app"], event["version"], event["sentence"])
                )
        return len(text)

    def flush(self) -> None:
        self._file.flush()


class Month:
    """One month in a folder, which has the ledger and the log at the end."""

    def __init__(self, clock: Clock, folder: Path, *, repositories: int, seed: int) -> None:
        self._clock, self._folder, self._seed = clock, folder, seed
        self._chance = random.Random(f"{seed} month")
        self._network = Network(random.Random(f"{seed} network"))
        studio = projects(repositories, seed)
        apps = [app for project in studio for app in project.apps]
        edgegap = RecordedEdgegap(clock.time, apps=apps)
        self._hub = DockerHubSandbox(clock=clock.time, api_limit=600)
        self._facts = Facts(studio, edgegap)
        self._furnish()
        self._troubles = Troubles(edgegap, self._hub, self._network, seed)
        schedule = self._troubles
        at_edgegap = Misbehaving(edgegap.app, schedule.of_edgegap)
        self._network.apps[EDGEGAP_PORT] = edgegap.recorded(at_edgegap)
        self._network.apps[HUB_PORT] = Misbehaving(self._hub.app, schedule.of_hub)
        self._environment = self._configure()
        self._sender = httpx.AsyncClient(transport=self._network, timeout=10.0)
        self._links = LinkSigner([KEY], {})
        self._running: AsyncExitStack | None = None
        self._ledger: Ledger | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._log = Log(folder / "receiver.log", self._facts)

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        return self._folder / "receiver.db"

    def run(self, *, pushes: int, days: float) -> Facts:
        """Let the month pass."""
        random.seed(self._seed)  # the receiver's own jitter
        configure_logs(stream=self._log, level="INFO", form="json")
        with self._injected(), asyncio.Runner(loop_factory=self._loop) as runner:
            runner.run(self._month(pushes, days * DAY))
        self._facts.simulated = self._clock.passed
        self._facts.taken = self._troubles.of_edgegap.taken + self._troubles.of_hub.taken
        self._facts.failures += self._network.failures
        self._facts.failures += [
            f"the log has {event} {times} times"
            for event, times in self._log.events.items()
            if event.endswith(("_fault", "_lost", "_overwritten")) or event == "ledger_unavailable"
        ]
        return self._facts

    def _loop(self) -> JumpingLoop:
        return JumpingLoop(self._clock)

    @contextmanager
    def _injected(self) -> Iterator[None]:
        network = self._network

        def connect(*_: object) -> Network:  # a Mock would keep the arguments of all calls
            return network

        def now() -> str:
            return shown_time(self._clock.time())

        with (
            mock.patch.object(http_client._Routed, "_open", connect),
            mock.patch.object(ledger, "ThreadPoolExecutor", AtOnce),
            mock.patch.object(ledger, "Writer", WriterAtOnce),
            mock.patch.object(writer, "LOOK_EVERY_SECONDS", 3600.0),  # its thread stays out
            mock.patch.object(links, "COST", 2),
            mock.patch.object(edgegap_account, "timestamp", now),
        ):
            yield

    def _furnish(self) -> None:
        """Add what the studio has at the begin."""
        edgegap = self._facts.edgegap
        self._hub.add_login(*LOGIN, pull_limit=None)
        for project in self._facts.studio:
            self._hub.add_repository(project.repository, private=project.private)
            if project.room is not None:
                edgegap.limits.update(dict.fromkeys(project.apps, project.room))
            if "copied" in project.repository:
                port = {"port": 7777, "protocol": "UDP", "to_check": True, "name": "game"}
                hidden = {"key": "KEY", "value": "value", "is_hidden": True}
                edgegap.add_version(
                    project.apps[0],
                    "first",
                    docker_image=project.repository,
                    ports=[{**port, "tls_upgrade": False}],
                    envs=[hidden],
                )

    def _configure(self) -> dict[str, str]:
        config = self._folder / "receiver.toml"
        config.write_text(configuration(self._facts.studio), "utf-8")
        hub = f"http://127.0.0.1:{HUB_PORT}"
        return {
            **{k: v for k, v in os.environ.items() if not k.startswith(OURS)},
            "RECEIVER_SECRET_KEY": KEY,
            "RECEIVER_PUBLIC_URL": "https://hooks.example.com",
            "RECEIVER_CONFIG": str(config),
            "DATABASE_URL": f"sqlite:///{self.ledger}",
            "EDGEGAP_TOKEN": "sandbox-token",
            "EDGEGAP_BASE_URL": f"http://127.0.0.1:{EDGEGAP_PORT}",
            "DOCKERHUB_REGISTRY_URL": hub,
            "DOCKERHUB_AUTH_URL": f"{hub}/token",
            "DOCKERHUB_API_URL": hub,
            "DOCKERHUB_USERNAME": LOGIN[0],
            "DOCKERHUB_TOKEN": LOGIN[1],
            "GAME_KEY": "a value that nobody sees",
        }

    async def _month(self, pushes: int, seconds: float) -> None:
        await self._start()
        self._facts.memory.append(resident())
        restarts = max(3, round(seconds / DAY / 2))
        beside = [
            asyncio.create_task(one)
            for one in (self._storms(seconds), self._restart(restarts, seconds), self._people())
        ]
        days = asyncio.create_task(self._midnights())
        await self._push_all(pushes, seconds)
        await asyncio.gather(*beside[:2])
        self._behave()
        await asyncio.sleep(HOUR)
        await self._restart_once(MINUTE)  # as for an update: it reads the configuration again
        await asyncio.sleep(QUIET_SECONDS)
        for task in (*beside[2:], days):
            task.cancel()
        await asyncio.gather(*beside[2:], days, *self._tasks, return_exceptions=True)
        self._facts.memory.append(resident())
        self._facts.failures += await self._left()
        await self._stop()
        await self._sender.aclose()
        await self._network.end()

    async def _start(self) -> None:
        settings = load_settings(self._environment, need=NEEDED)
        self._ledger = Ledger(settings.database_url)
        self._ledger.open_to_write()
        app = create_app(settings, self._ledger, environ=self._environment)
        self._running = AsyncExitStack()
        await self._running.enter_async_context(app.router.lifespan_context(app))
        self._network.apps[RECEIVER_PORT] = app
        self._facts.starts.append(self._clock.time())

    async def _stop(self) -> None:
        self._network.apps.pop(RECEIVER_PORT, None)
        assert self._running is not None
        await self._running.aclose()
        self._ledger = None

    async def _restart(self, times: int, seconds: float) -> None:
        for at in sorted(self._chance.uniform(0, seconds) for _ in range(times)):
            await self._wait_until(BEGIN + at)
            await self._restart_once(self._chance.uniform(1.0, MAX_DOWN_SECONDS))

    async def _restart_once(self, down: float) -> None:
        await self._stop()
        await asyncio.sleep(down)
        await self._start()
        self._facts.counts["restarts"] += 1

    async def _push_all(self, pushes: int, seconds: float) -> None:
        """Push in bursts, as builds do, more often by day."""
        times: list[float] = []
        while len(times) < pushes:
            at = self._chance.uniform(0, seconds)
            by_day = 8 * HOUR < at % DAY < 19 * HOUR
            if by_day or self._chance.random() < 0.3:
                burst = self._chance.choice((1, 1, 1, 2, 4))
                times += [at + self._chance.uniform(0, 30) for _ in range(burst)]
        for at in sorted(times[:pushes]):
            await self._wait_until(BEGIN + at)
            self._push(self._chance.choice(self._facts.studio))

    def _push(self, project: Project) -> None:
        push, now = next(project.pushes), self._clock.time()
        if project.tried:
            self._prepare(project, push)
        lag = self._chance.choice((0.0,) * 8 + (20.0, 240.0))
        self._hub.push_image(
            project.repository,
            push.tag,
            push.platforms,
            pushed_at=now,
            visible_after=lag,
            attestations=self._chance.random() < 0.1,
            kind=self._chance.choice(("index", "manifest", "docker-list")),
        )
        self._facts.pushed.append(Pushed(project, push, now))
        for delay in self._delays():
            self._begin(self._deliver(project.repository, push.tag, now, delay))

    def _prepare(self, project: Project, push: Push) -> None:
        dice = self._chance.random()
        passes, life = next((good, life) for share, good, life in LIVES if dice <= share)
        project.lives[push.tag] = passes
        self._facts.edgegap.deployments.set_lifecycle(project.apps[0], push.tag, **life)

    def _delays(self) -> list[float]:
        """Return after how many seconds each webhook of a push arrives; none: it is lost."""
        dice, soon = self._chance.random(), self._chance.uniform(0.3, 5.0)
        if dice < 0.03:
            self._facts.counts["webhooks lost"] += 1
            return []
        if dice < 0.08:
            self._facts.counts["webhooks late"] += 1
            return [self._chance.uniform(MINUTE, 2 * HOUR)]
        if dice < 0.12:
            self._facts.counts["webhooks repeated"] += 1
            return [soon, self._chance.uniform(MINUTE, 3 * HOUR)]
        return [soon]

    async def _deliver(self, repository: str, tag: str, at: float, delay: float) -> None:
        await asyncio.sleep(delay)
        link = self._links.link(f"http://127.0.0.1:{RECEIVER_PORT}", repository)
        body = webhook_body(tag, repository, pushed_at=int(at))
        try:
            answer = await self._sender.post(link, json=body)
        except httpx.TransportError:
            self._facts.counts["webhooks while it was down"] += 1
            return
        if answer.status_code not in {200, 202}:  # 200: no rule takes it
            self._facts.failures.append(f"{repository}:{tag} was answered {answer.status_code}")

    async def _storms(self, seconds: float) -> None:
        planned = periods(self._troubles, begin=BEGIN, seconds=seconds, seed=self._seed)
        self._facts.periods = [period for _, period in planned]
        turns = [(period.begin, number, kind.on) for number, (kind, period) in enumerate(planned)]
        turns += [(period.end, number, kind.off) for number, (kind, period) in enumerate(planned)]
        for at, _, turn in sorted(turns, key=lambda one: one[:2]):
            await self._wait_until(at)
            turn()

    def _behave(self) -> None:
        for kind in self._troubles.kinds:
            kind.off()
        self._facts.edgegap.deployments.quirks = DeploymentQuirks()

    async def _people(self) -> None:
        """Approve what waits, a few times an hour."""
        while True:
            await asyncio.sleep(20 * MINUTE)
            if self._ledger is not None:
                with suppress(Exception):  # it is being stopped
                    self._facts.counts["approvals"] += sum(
                        await self._ledger.write(approve_waiting)
                    )

    async def _midnights(self) -> None:
        """Each day, note the memory; each hour, have the sandboxes forget what nobody asks for."""
        while True:
            for _ in range(24):
                await asyncio.sleep(HOUR)
                self._forget()
            self._facts.memory.append(resident())
            self._log.flush()

    def _forget(self) -> None:
        edgegap, now = self._facts.edgegap, self._clock.time()
        edgegap.calls.clear()
        self._hub.calls.clear()
        given = self._hub.bearers._given
        for token in [token for token, bearer in given.items() if bearer.expires_at < now]:
            del given[token]
        for repository in self._hub.repositories.values():
            long_ago = now - ON_DOCKER_HUB_SECONDS
            old = {push.tag for push in repository.pushes if push.pushed_at < long_ago}
            kept = {push.tag for push in repository.pushes if push.pushed_at >= long_ago}
            repository.pushes = [p for p in repository.pushes if p.tag not in old - kept]
        every = edgegap.deployments._all
        for one in [one for one, run in every.items() if (run.ended_at or now) < now - HOUR]:
            del every[one]

    async def _left(self) -> list[str]:
        """Return which deployments run at the end."""
        running = self._facts.edgegap.deployments.active()
        return [f"a deployment of {one.app}/{one.version} is left" for one in running]

    def _begin(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _wait_until(self, at: float) -> None:
        await asyncio.sleep(max(0.0, at - self._clock.time()))


def resident() -> int:
    """Return the bytes of memory that this process has now."""
    return int(Path("/proc/self/statm").read_text("utf-8").split()[1]) * PAGE


def run_month(
    clock: Clock, folder: Path, *, pushes: int, repositories: int, days: float, seed: int
) -> tuple[Facts, Path]:
    """Run a month; return what happened, and the ledger."""
    month = Month(clock, folder, repositories=repositories, seed=seed)
    began = time.perf_counter()
    facts = month.run(pushes=pushes, days=days)
    facts.counts["seconds"] = round(time.perf_counter() - began)
    return facts, month.ledger

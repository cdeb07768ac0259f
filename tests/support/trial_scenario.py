"""A trial that is made step by step, against the sandbox of Edgegap on a clock of its own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

from msgspec.structs import replace

from receiver.backoff import WaitState
from receiver.config.settings import Settings
from receiver.edgegap.client import EdgegapClient, RateLimiter, edgegap_client
from receiver.edgegap.deployment_answers import Coordinates
from receiver.edgegap.deployments import stop
from receiver.edgegap.version_cache import VersionCache
from receiver.images import ImageReference
from receiver.ledger.claims import Claimed
from receiver.ledger.results import Result
from receiver.ledger.trials import STOPPED_UNWATCHED
from receiver.pipeline.preflight import Findings, ImageOk, Preflight
from receiver.pipeline.trial import TrialAttempt
from receiver.reasons import State
from receiver.rules.rule import Mode, Rule
from receiver.rules.trial import TAG, Phase, Trial, TrialRun
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from receiver.secret import Secret
from tests.contract.openapi import contract_checked
from tests.support.attempt_ledger import empty_ledger
from tests.support.dockerhub_client import Clock

APP, REPOSITORY = "my-game", "studio/game-server"
TRIAL = Trial(Coordinates(45.5, -73.6))
MINUTE, HOUR = 60_000, 3_600_000
DIGEST = "sha256:" + "a" * 64
OTHER_DIGEST = "sha256:" + "b" * 64


def rule(trial: Trial | None = TRIAL) -> Rule:
    return Rule(REPOSITORY, APP, "a rule", trial=trial)


CLAIMED = Claimed(
    id="r01n0e03600qpvp6tds",
    rule="a rule",
    app=APP,
    version="1.0",
    mode=Mode.TRIAL,
    image=ImageReference(REPOSITORY, "1.0"),
    push_time=0,
    attempt=1,
    fence=1,
    waited=WaitState(),
    created_at=0,
    digest=DIGEST,
)


class Images:
    """Returns what is found of an image, the last one again and again."""

    def __init__(self, *found: Findings) -> None:
        self.found = list(found)

    async def check(self, image: ImageReference, rule: Rule) -> Findings:
        assert (image, rule.name) == (CLAIMED.image, CLAIMED.rule)
        return self.found.pop(0) if len(self.found) > 1 else self.found[0]


class Scenario:
    """A registration whose attempts run when they are due."""

    def __init__(self, sandbox: EdgegapSandbox, clock: Clock, client: EdgegapClient) -> None:
        self.sandbox, self.clock, self._client = sandbox, clock, client
        self.claimed = CLAIMED
        self.rule: Rule | None = rule()
        self.images = Images(ImageOk(DIGEST))
        self.sent: list[str] = []
        self.tried: list[str | None] = []  # the digest in the ledger at each POST
        self.results: list[Result] = []

    @property
    def now(self) -> int:
        return int(self.clock.now * 1000)

    async def step(self) -> Result:
        """Make one attempt, as the worker does: what it found is there for the next."""

        def record(method: str) -> None:
            self.sent.append(method)
            if method == "POST":
                self.tried.append(self.claimed.digest)
            if method == "POST" and _over(self.claimed.trial):
                self.claimed = replace(self.claimed, trial=TrialRun(requested_at=self.now))

        attempt = TrialAttempt(
            self.claimed,
            Settings(rules=() if self.rule is None else (self.rule,)),
            self._client,
            VersionCache(self._client),
            preflight=cast("Preflight", self.images),
            ledger=empty_ledger(lambda: self.now, record),
            jitter=lambda: 1.0,
        )
        result = await attempt.run()
        self.results.append(result)
        self.claimed = replace(
            self.claimed,
            trial=result.trial if result.trial is not None else self.claimed.trial,
            waited=result.waited,
            digest=result.digest or self.claimed.digest,
            attempt=self.claimed.attempt + 1,
        )
        return result

    async def ended(self, most: int = 60) -> Result:
        """Make attempts, each when it is due, until the registration is done or parked."""
        result = await self.step()
        while result.state is State.WAITING:
            assert len(self.results) < most, result
            self.clock.now = max(self.clock.now, result.due_at / 1000)
            result = await self.step()
        return result

    async def sweep(self) -> None:
        """Stop what runs although nothing works on it, as the sweep does."""
        run = self.claimed.trial
        if run is None or (run.stop_at is not None and run.stop_at > self.now):
            return
        for left in self.sandbox.deployments.active(TAG, self.claimed.id):
            noted = run if run.passed is not None else replace(run, why=STOPPED_UNWATCHED)
            run = replace(noted, request_id=left.request_id, stop_at=run.stop_at or self.now)
            await stop(self._client, left.request_id)
        self.claimed = replace(self.claimed, trial=run)


def _over(run: TrialRun | None) -> bool:
    return run is None or run.phase is Phase.ENDED


@asynccontextmanager
async def scenario(sandbox: EdgegapSandbox, clock: Clock) -> AsyncIterator[Scenario]:
    checked = contract_checked(sandbox.app)
    with serving(checked) as url:
        async with edgegap_client(url, Secret("sandbox-token"), RateLimiter(10_000, 4)) as client:
            yield Scenario(sandbox, clock, client)
    assert checked.violations == []


def run_scenario(
    sandbox: EdgegapSandbox, clock: Clock, then: Callable[[Scenario], Awaitable[Any]]
) -> Any:
    """Run a scenario; at its end nothing may run."""

    async def run() -> Any:
        async with scenario(sandbox, clock) as one:
            return await then(one)

    found = asyncio.run(run())
    assert sandbox.deployments.active(TAG) == []
    return found

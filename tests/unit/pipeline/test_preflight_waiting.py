"""How long preflight holds a registration back, on a clock of the test's own."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pytest
from msgspec.structs import replace

from receiver.backoff import MINUTE, SECOND, WaitState
from receiver.config.load import load_settings
from receiver.dockerhub.api import Hub
from receiver.dockerhub.registry import Registry
from receiver.edgegap.client import RateLimiter, edgegap_client
from receiver.edgegap.version_cache import VersionCache
from receiver.images import ImageReference
from receiver.ledger.claims import Claimed
from receiver.ledger.results import Result
from receiver.pipeline.attempt import Attempt
from receiver.pipeline.preflight import Outage, Preflight
from receiver.reasons import Outcome, Reason, State
from receiver.rules.rule import Mode
from receiver.sandbox.calls import Fault
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from receiver.secret import Secret
from tests.support.attempt_ledger import empty_ledger
from tests.support.receiver_process import APP, KEY, REPOSITORY, RULE

SETTINGS = load_settings(
    {
        "RECEIVER_CONFIG_TOML": RULE.replace("preflight = false\n", ""),
        "RECEIVER_SECRET_KEY": KEY,
        "EDGEGAP_TOKEN": "sandbox-token",
    }
)
BEGAN = 1_780_000_000 * SECOND
DOWN = Fault("status", path_contains=f"/v2/{REPOSITORY}/", status=503, times=None)


@dataclass
class Scenario:
    """One registration, tried whenever it is due, in a time of its own."""

    attempt: Callable[[Claimed], Attempt]
    time: "Time"
    waits: list[int] = field(default_factory=list)
    reasons: set[Reason | None] = field(default_factory=set)

    async def ended(self, registration: Claimed, most: int = 1000) -> Result:
        """Try until it is done or parked; `waits` says how long it waited between, in seconds."""
        waited = WaitState()
        for _ in range(most):
            claimed = replace(registration, waited=waited)
            answer = await self.attempt(claimed).run()
            if answer.state is not State.WAITING:
                return answer
            waited, due = answer.waited, answer.due_at
            self.waits.append(round((due - self.time.now) / SECOND))
            self.reasons.add(answer.reason)
            self.time.now = due
        raise AssertionError("it never ended")


@dataclass
class Time:
    now: int = BEGAN

    def seconds(self) -> float:
        return self.now / SECOND


CLAIMED = Claimed(
    id="r0",
    rule=SETTINGS.rules[0].name,
    app=APP,
    version="1.0",
    mode=Mode.CREATE,
    image=ImageReference(REPOSITORY, "1.0"),
    push_time=BEGAN,
    attempt=1,
    fence=1,
    waited=WaitState(),
    created_at=BEGAN,
)


def of(tag: str) -> Claimed:
    """The registration of another tag."""
    return replace(CLAIMED, image=ImageReference(REPOSITORY, tag), version=tag)


@asynccontextmanager
async def scenarios(
    hub: DockerHubSandbox, *, jitter: float = 1.0, reached: bool = True
) -> AsyncIterator[Callable[[], Scenario]]:
    """Begin scenarios that share one preflight, a served Docker Hub and a served Edgegap."""
    time = Time()
    with serving(hub.app) as served, serving(EdgegapSandbox(apps=(APP,)).app) as edgegap:
        url = served if reached else "http://127.0.0.1:9"
        async with (
            httpx.AsyncClient(trust_env=False) as http,
            edgegap_client(edgegap, Secret("sandbox-token"), RateLimiter(500, 4)) as client,
        ):
            registry = Registry(http, url, f"{url}/token")
            preflight = Preflight(registry, Hub(http, url), clock=time.seconds)

            def attempt(claimed: Claimed) -> Attempt:
                return Attempt(
                    claimed,
                    SETTINGS,
                    client,
                    VersionCache(client),
                    preflight=preflight,
                    ledger=empty_ledger(lambda: time.now),
                    jitter=lambda: jitter,
                )

            yield lambda: Scenario(attempt, time)


@pytest.fixture
def hub() -> DockerHubSandbox:
    hub = DockerHubSandbox()
    hub.push_image(REPOSITORY, "1.0")
    return hub


def test_a_tag_that_never_comes_is_waited_for_ten_minutes_and_then_parked(
    hub: DockerHubSandbox,
) -> None:
    async def run() -> tuple[Scenario, Result]:
        async with scenarios(hub) as begin:
            scenario = begin()
            return scenario, await scenario.ended(of("never-pushed"))

    scenario, result = asyncio.run(run())

    assert scenario.waits == [2, 5, 15, 30, 60, 120, 120, 120, 120, 8]
    assert sum(scenario.waits) == 600
    assert scenario.reasons == {Reason.IMAGE_NOT_READY}
    assert (result.state, result.reason) == (State.PARKED, Reason.IMAGE_NOT_PULLABLE)
    assert "HTTP 404: no such tag" in result.sentence


@pytest.mark.parametrize("jitter", [0.0, 0.37, 1.0])
def test_an_outage_holds_back_for_its_time_then_it_goes_on_and_says_so(
    hub: DockerHubSandbox, jitter: float
) -> None:
    hub.misbehave(DOWN)

    async def run() -> tuple[Scenario, Result]:
        async with scenarios(hub, jitter=jitter) as begin:
            scenario = begin()
            return scenario, await scenario.ended(CLAIMED)

    scenario, result = asyncio.run(run())

    assert sum(scenario.waits) == pytest.approx(300, abs=len(scenario.waits) / 2)
    assert min(scenario.waits) >= 1
    assert scenario.reasons == {Reason.DOCKER_HUB_UNAVAILABLE}
    assert (result.outcome, result.digest) == (Outcome.CREATED, None)
    assert (
        result.notes[0] == "created without preflight: Docker Hub could not be queried (HTTP 503)"
    )


def test_what_cannot_be_reached_at_all_holds_nothing_back(hub: DockerHubSandbox) -> None:
    async def run() -> tuple[Scenario, Result]:
        async with scenarios(hub, reached=False) as begin:
            scenario = begin()
            return scenario, await scenario.ended(CLAIMED)

    scenario, result = asyncio.run(run())

    assert scenario.waits == []
    assert result.outcome is Outcome.CREATED
    assert "without preflight: Docker Hub could not be queried (no connection)" in result.notes[0]


def test_who_comes_late_in_an_outage_waits_for_what_is_left_of_its_time(
    hub: DockerHubSandbox,
) -> None:
    hub.misbehave(DOWN)

    async def run() -> list[list[int]]:
        async with scenarios(hub) as begin:
            first, second, third = begin(), begin(), begin()
            await first.attempt(CLAIMED).run()
            first.time.now += 4 * MINUTE
            assert (await second.ended(CLAIMED)).outcome is Outcome.CREATED
            assert (await third.ended(of("1.1"))).outcome is Outcome.CREATED
            return [second.waits, third.waits]

    second, third = asyncio.run(run())

    assert sum(second) == 60
    assert third == []


def test_an_outage_long_after_another_holds_back_for_all_its_time(hub: DockerHubSandbox) -> None:
    hub.misbehave(DOWN)

    async def run() -> int:
        async with scenarios(hub) as begin:
            await begin().attempt(CLAIMED).run()
            scenario = begin()
            scenario.time.now += 24 * 60 * MINUTE  # nobody asked meanwhile
            await scenario.ended(CLAIMED)
            return sum(scenario.waits)

    assert asyncio.run(run()) == 300


@pytest.mark.parametrize("answer", ["found", "not there", "denied"])
def test_any_answer_of_the_registry_ends_an_outage(hub: DockerHubSandbox, answer: str) -> None:
    async def run() -> int:
        async with scenarios(hub) as begin:
            hub.misbehave(DOWN)
            await begin().attempt(CLAIMED).run()
            scenario = begin()
            scenario.time.now += 4 * MINUTE
            hub.behave()
            if answer == "denied":
                hub.add_repository(REPOSITORY, private=True)
            first = await scenario.attempt(of("2.0" if answer == "not there" else "1.0")).run()
            assert first.reason is not Reason.DOCKER_HUB_UNAVAILABLE
            hub.misbehave(DOWN)
            later = of("3.0")
            result = await scenario.attempt(later).run()
            assert result.reason is Reason.DOCKER_HUB_UNAVAILABLE
            scenario.time.now += 2 * MINUTE
            held = await scenario.attempt(replace(later, waited=result.waited)).run()
            return held.due_at - scenario.time.now

    assert asyncio.run(run()) > 0


def test_docker_hub_is_left_alone_as_long_as_it_asks(hub: DockerHubSandbox) -> None:
    hub.misbehave(Fault("status", path_contains="/manifests/", status=429, retry_after=75))

    async def run() -> tuple[list[int], Result]:
        async with scenarios(hub, jitter=0.0) as begin:
            scenario = begin()
            return scenario.waits, await scenario.ended(CLAIMED)

    waits, result = asyncio.run(run())

    assert waits == [75]
    assert result.outcome is Outcome.CREATED
    assert result.digest is not None


def test_an_outage_is_known_with_its_beginning_until_it_is_over_or_long_past(
    hub: DockerHubSandbox,
) -> None:
    async def run() -> list[Outage | None]:
        async with scenarios(hub) as begin:
            scenario, seen = begin(), list[Outage | None]()

            async def look(minutes: int) -> None:
                scenario.time.now += minutes * MINUTE
                attempt = scenario.attempt(CLAIMED)
                await attempt.run()
                seen.append(attempt._preflight.outage)

            hub.misbehave(DOWN)
            await look(0)
            await look(2)
            scenario.time.now += 11 * MINUTE  # nothing is held back any more
            seen.append(scenario.attempt(CLAIMED)._preflight.outage)
            await look(0)
            hub.behave()
            await look(0)
            return seen

    first, second, long_past, again, over = asyncio.run(run())

    assert first is not None
    assert second is not None
    assert second.detail == "HTTP 503"
    assert (
        abs(first.since - second.since - 2 * MINUTE) < MINUTE
    )  # the same by this scenario's clock
    assert long_past is None
    assert again is not None
    assert over is None

"""The calls about deployments and pull profiles, over real HTTP, and each held to the document."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest

from receiver.edgegap import deployments, pull_profiles
from receiver.edgegap.client import EdgegapClient, RateLimiter, edgegap_client
from receiver.edgegap.deployment_answers import (
    Coordinates,
    DeploymentState,
    Meaning,
    Read,
    read_near,
)
from receiver.edgegap.pull_profiles import PullProfile
from receiver.edgegap.responses import Effect
from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.edgegap_deployments import DeploymentQuirks
from receiver.sandbox.edgegap_quirks import ListQuirks
from receiver.sandbox.serving import serving
from receiver.secret import Secret
from tests.contract.mock import DocumentMock
from tests.contract.openapi import contract_checked
from tests.support.dockerhub_client import Clock

T = TypeVar("T")
Asking = Callable[[Callable[[EdgegapClient], Awaitable[Any]]], Any]

APP, TRIAL = "my-game", "receiver-trial"
MONTREAL = Coordinates(45.5, -73.6)
MAPS = PullProfile("bucket", "maps")


@pytest.fixture
def sandbox(clock: Clock) -> EdgegapSandbox:
    made = EdgegapSandbox(clock=clock)
    made.add_version(APP, "1.0", restart_policy="always")
    return made


def asking(url: str) -> Asking:
    def ask(call: Callable[[EdgegapClient], Awaitable[Any]]) -> Any:
        async def run() -> Any:
            pace, secrets = RateLimiter(10_000, 4), (Secret("canary-password"),)
            token = Secret("sandbox-token")
            async with edgegap_client(url, token, pace, secrets) as client:
                return await call(client)

        return asyncio.run(run())

    return ask


@pytest.fixture
def ask(sandbox: EdgegapSandbox) -> Iterator[Asking]:
    """Calls with a client of the receiver's own; at the end nothing may break the document."""
    checked = contract_checked(sandbox.app)
    with serving(checked) as url:
        yield asking(url)
    assert checked.violations == []


def deploy(ask: Asking, version: str = "1.0", *tags: str) -> Read[str]:
    found: Read[str] = ask(
        lambda client: deployments.deploy(client, APP, version, MONTREAL, [TRIAL, *tags])
    )
    return found


def deployed(ask: Asking, *tags: str) -> str:
    found = deploy(ask, "1.0", *tags)
    assert found.meaning is Meaning.DONE, found
    assert found.value is not None
    return found.value


def call(ask: Asking, one: Callable[..., Awaitable[Read[T]]], *arguments: Any) -> Read[T]:
    found: Read[T] = ask(lambda client: one(client, *arguments))
    return found


def test_a_trial_from_start_to_stop(sandbox: EdgegapSandbox, ask: Asking, clock: Clock) -> None:
    sandbox.deployments.set_lifecycle(APP, "1.0", ready_after=5, cpu=70, memory=800)

    found = deployed(ask, "d01")
    early = call(ask, deployments.status, found).value
    clock.now += 25
    ready = call(ask, deployments.status, found).value
    logs = call(ask, deployments.logs, found).value
    usage = call(ask, deployments.usage, found).value
    stopped = call(ask, deployments.stop, found)
    after = call(ask, deployments.status, found).value

    assert early is not None
    assert early.state is DeploymentState.STARTING
    assert ready is not None
    assert (ready.state, ready.seconds) == (DeploymentState.READY, 20)
    assert ready.tags == frozenset({TRIAL, "d01"})
    assert logs is not None
    assert logs.last() == ("Listening on port 7777", "Waiting for players")
    assert not logs.crashed
    assert usage is not None
    assert usage.cpu is not None
    assert usage.memory is not None
    assert (usage.cpu.mean, usage.memory.peak) == (70, 800)
    assert (stopped.meaning, stopped.answer.effect) == (Meaning.DONE, Effect.DONE)
    assert after is not None
    assert after.state is DeploymentState.TERMINATED
    assert call(ask, deployments.logs, found).meaning is Meaning.GONE
    assert call(ask, deployments.stop, found).meaning is Meaning.GONE
    assert sandbox.deployments.active() == []


def test_it_may_be_deployed_near_an_address(sandbox: EdgegapSandbox, ask: Asking) -> None:
    near = read_near("192.0.2.7")

    found = ask(lambda client: deployments.deploy(client, APP, "1.0", near, [TRIAL]))

    assert found.meaning is Meaning.DONE
    assert found.answer.effect is Effect.DONE
    sent = sandbox.calls[-1].body
    assert sent is not None
    assert sent["users"] == [{"user_type": "ip_address", "user_data": {"ip_address": "192.0.2.7"}}]


def test_a_crash_is_in_the_logs_while_the_status_is_ready(
    sandbox: EdgegapSandbox, ask: Asking, clock: Clock
) -> None:
    sandbox.deployments.set_lifecycle(
        ready_after=0, crash_after=10, crash_log="password=canary-password\nSegmentation fault\n"
    )
    found = deployed(ask)
    clock.now += 21

    status = call(ask, deployments.status, found).value
    logs = call(ask, deployments.logs, found).value

    assert status is not None
    assert status.state is DeploymentState.READY
    assert logs is not None
    assert (logs.crashed, logs.restarts) == (True, 2)
    assert logs.crash is not None
    assert (logs.crash.exit_code, logs.crash.message) == (137, "OOM killed")
    assert logs.last() == ("password=***", "Segmentation fault")


def test_an_error_says_why(sandbox: EdgegapSandbox, ask: Asking, clock: Clock) -> None:
    sandbox.deployments.set_lifecycle(error_after=1, error_detail="Pull image timeout exceeded")
    found = deployed(ask)
    clock.now += 2

    status = call(ask, deployments.status, found).value

    assert status is not None
    assert status.state is DeploymentState.ERROR
    assert status.error == "Pull image timeout exceeded"


@pytest.mark.parametrize(
    ("quirks", "meaning"),
    [
        (DeploymentQuirks(capacity=0), Meaning.NO_CAPACITY),
        (DeploymentQuirks(capacity=0, keeps_refused=True), Meaning.NO_CAPACITY),
        (DeploymentQuirks(limit=0), Meaning.DEPLOYMENT_LIMIT),
        (DeploymentQuirks(limit=0, limit_status=402), Meaning.DEPLOYMENT_LIMIT),
        (DeploymentQuirks(limit=0, limit_status=422), Meaning.DEPLOYMENT_LIMIT),
        (DeploymentQuirks(rates={"creations": 0}), Meaning.RATE_LIMITED),
    ],
)
def test_what_does_not_fit_now_waits(
    sandbox: EdgegapSandbox, ask: Asking, quirks: DeploymentQuirks, meaning: Meaning
) -> None:
    sandbox.deployments.quirks = quirks

    found = deploy(ask)

    assert found.meaning is meaning
    # The id of a refused deployment is known, so that it can be stopped if it exists.
    assert (found.value is not None) is (meaning is Meaning.NO_CAPACITY)
    if quirks.keeps_refused:
        assert [one.request_id for one in sandbox.deployments.active()] == [found.value]
        assert call(ask, deployments.stop, found.value).meaning is Meaning.DONE


def test_statuses_and_lists_have_their_own_rates(sandbox: EdgegapSandbox, ask: Asking) -> None:
    sandbox.deployments.quirks = DeploymentQuirks(rates={"statuses": 1, "lists": 1})
    found = deployed(ask)

    for one, argument in ((deployments.status, found), (deployments.deployments_tagged, TRIAL)):
        asked: Callable[..., Awaitable[Read[Any]]] = one
        assert call(ask, asked, argument).meaning is Meaning.DONE
        assert call(ask, asked, argument).meaning is Meaning.RATE_LIMITED


def test_a_version_that_does_not_exist_is_named(ask: Asking) -> None:
    assert deploy(ask, "9.9").meaning is Meaning.UNKNOWN_NAME


@pytest.mark.parametrize("unknown", [400, 404])
def test_an_id_that_is_not_known_is_gone(
    sandbox: EdgegapSandbox, ask: Asking, unknown: int
) -> None:
    sandbox.deployments.quirks = DeploymentQuirks(unknown_status=unknown)

    for one in (deployments.status, deployments.logs, deployments.usage, deployments.stop):
        asked: Callable[..., Awaitable[Read[Any]]] = one
        found = call(ask, asked, "f68e011bfb01")
        assert (found.meaning, found.value) == (Meaning.GONE, None)


def test_an_early_stop_is_accepted_and_done_later(
    sandbox: EdgegapSandbox, ask: Asking, clock: Clock
) -> None:
    sandbox.deployments.set_lifecycle(ready_after=5)
    found = deployed(ask)

    stopped = call(ask, deployments.stop, found)

    assert (stopped.meaning, stopped.answer.status) == (Meaning.DONE, 202)
    assert stopped.answer.effect is Effect.DONE
    assert len(sandbox.deployments.active()) == 1
    clock.now += 5
    assert call(ask, deployments.stop, found).answer.status == 410


def test_a_stop_may_be_forbidden(sandbox: EdgegapSandbox, ask: Asking) -> None:
    sandbox.deployments.set_lifecycle(stoppable=False)
    found = deployed(ask)

    assert call(ask, deployments.stop, found).meaning is Meaning.FORBIDDEN


UNCERTAIN = [
    Fault("status", status=500),
    Fault("status", status=503, body="<h1>Busy</h1>"),
    Fault("status", status=404, body="<h1>Not found</h1>"),
    Fault("status", status=410, body="<h1>Gone</h1>"),
    Fault("status", status=302, headers={"location": "https://login.example/"}),
    Fault("garbage"),
    Fault("garbage", body="{}", content_type="application/json"),
    Fault("declined"),
    Fault("reset"),
    Fault("truncated"),
]


@pytest.mark.parametrize("fault", UNCERTAIN, ids=lambda one: f"{one.kind}-{one.status}-{one.body}")
def test_what_is_not_edgegaps_answer_is_uncertain(
    sandbox: EdgegapSandbox, ask: Asking, fault: Fault
) -> None:
    sandbox.deployments.set_lifecycle(ready_after=0)
    found = deployed(ask)
    reading = (deployments.status, deployments.logs, deployments.usage, deployments.stop)
    for one in (*reading, deployments.deployments_tagged):
        asked: Callable[..., Awaitable[Read[Any]]] = one
        sandbox.misbehave(fault)
        argument = TRIAL if one is deployments.deployments_tagged else found
        assert call(ask, asked, argument).meaning is Meaning.UNCERTAIN, one
    sandbox.misbehave(fault)
    assert deploy(ask).meaning is Meaning.UNCERTAIN
    sandbox.misbehave(fault)
    assert call(ask, pull_profiles.link, MAPS, APP, "1.0").meaning is Meaning.UNCERTAIN
    assert len(sandbox.deployments.active()) == 1


def test_a_status_of_null_is_gone(sandbox: EdgegapSandbox, ask: Asking) -> None:
    found = deployed(ask)
    null = Fault("garbage", body="null", content_type="application/json")
    sandbox.misbehave(null, null)

    assert call(ask, deployments.status, found).meaning is Meaning.GONE
    assert call(ask, deployments.logs, found).meaning is Meaning.UNCERTAIN


def test_a_deployment_whose_answer_was_lost_is_found_by_its_tag(
    sandbox: EdgegapSandbox, ask: Asking
) -> None:
    sandbox.misbehave(Fault("reset", method="POST", after=True))
    lost = deploy(ask, "1.0", "d01")

    found = call(ask, deployments.deployments_tagged, "d01").value

    assert (lost.meaning, lost.answer.effect) == (Meaning.UNCERTAIN, Effect.UNKNOWN)
    assert found is not None
    assert found.complete
    (request_id,) = found.tagged("d01")
    call(ask, deployments.stop, request_id)


def test_the_list_is_read_to_its_end_and_only_ours_are_ours(
    sandbox: EdgegapSandbox, ask: Asking
) -> None:
    for number in range(230):
        sandbox.deployments.run(APP, "1.0", "players" if number % 3 else TRIAL)
    ours = [one.request_id for one in sandbox.deployments.active(TRIAL)]

    found = call(ask, deployments.deployments_tagged, TRIAL).value
    sandbox.deployments.quirks = DeploymentQuirks(ignores_tags_filter=True)
    unfiltered = call(ask, deployments.deployments_tagged, TRIAL).value

    assert found is not None
    assert unfiltered is not None
    assert list(found.tagged(TRIAL)) == list(unfiltered.tagged(TRIAL)) == ours
    assert (len(found.rows), found.complete) == (77, True)
    assert (len(unfiltered.rows), unfiltered.complete) == (230, False)


def test_rows_without_tags_are_nobodys(sandbox: EdgegapSandbox, ask: Asking) -> None:
    players = sandbox.deployments.run(APP, "1.0", "players")
    sandbox.deployments.quirks = DeploymentQuirks(ignores_tags_filter=True, shows_tags=False)

    found = call(ask, deployments.deployments_tagged, TRIAL).value
    status = call(ask, deployments.status, players).value

    assert found is not None
    assert (found.tagged(TRIAL), found.without_tags) == ((), (players,))
    assert status is not None
    assert status.tags is None


def test_a_list_that_ignores_the_page_has_an_end(sandbox: EdgegapSandbox, ask: Asking) -> None:
    for _ in range(30):
        sandbox.deployments.run(APP, "1.0", TRIAL)
    sandbox.lists = ListQuirks(ignores_page=True, always_next=True)

    found = call(ask, deployments.deployments_tagged, TRIAL).value

    assert found is not None
    assert (len(found.rows), found.complete) == (10, False)


def test_a_server_made_from_the_document_is_understood() -> None:
    mock = DocumentMock()
    for path in ("/v1/status/text", "/v1/stop/text", "/v1/metrics/deployment/text"):
        mock.put(path)
    link = "/v1/storage/endpoint/bucket/pull-profile/maps/app/my-game/version/1.0"
    mock.put(link, pull_profile="maps")

    with serving(mock) as url:
        ask = asking(url)
        found = deployed(ask)
        status = call(ask, deployments.status, found)
        others: list[Read[Any]] = [
            call(ask, deployments.logs, found),
            call(ask, deployments.usage, found),
            call(ask, deployments.deployments_tagged, TRIAL),
            call(ask, deployments.stop, found),
            call(ask, pull_profiles.pull_profiles),
        ]
        call(ask, pull_profiles.link, MAPS, APP, "1.0")

    assert status.value is not None
    assert status.value.state is DeploymentState.READY
    assert [one.meaning for one in others] == [Meaning.DONE] * 5
    assert mock.violations == []


# Pull profiles


def test_pull_profiles_of_all_endpoints_are_listed(sandbox: EdgegapSandbox, ask: Asking) -> None:
    sandbox.storage.add("bucket", "maps", "mods")
    sandbox.storage.add("empty")
    sandbox.storage.add("logs", *(f"p{number}" for number in range(120)))

    found = call(ask, pull_profiles.pull_profiles)

    assert found.meaning is Meaning.DONE
    assert found.value is not None
    assert found.value.complete
    assert list(map(str, found.value.profiles[:3])) == ["bucket/maps", "bucket/mods", "logs/p0"]
    assert len(found.value.profiles) == 122
    assert "access" not in repr(found)


def test_without_endpoints_there_are_no_pull_profiles(ask: Asking) -> None:
    found = call(ask, pull_profiles.pull_profiles)

    assert found.value is not None
    assert (found.meaning, found.value.profiles) == (Meaning.DONE, ())


@pytest.mark.parametrize("path", ["endpoints", "pull-profiles"])
def test_a_list_of_pull_profiles_that_fails_is_none(
    sandbox: EdgegapSandbox, ask: Asking, path: str
) -> None:
    sandbox.storage.add("bucket", "maps")
    sandbox.misbehave(Fault("status", status=500, path_contains=path))

    found = call(ask, pull_profiles.pull_profiles)

    assert (found.meaning, found.value) == (Meaning.UNCERTAIN, None)


@pytest.mark.parametrize("linked", [200, 400, 409])
def test_a_pull_profile_is_linked_once(sandbox: EdgegapSandbox, ask: Asking, linked: int) -> None:
    sandbox.storage.add("bucket", "maps")
    sandbox.storage.linked_status = linked

    first = call(ask, pull_profiles.link, MAPS, APP, "1.0")
    second = call(ask, pull_profiles.link, MAPS, APP, "1.0")

    assert (first.meaning, first.answer.effect) == (Meaning.DONE, Effect.DONE)
    assert second.meaning is Meaning.DONE
    assert sandbox.storage.links == {("bucket", "maps", APP, "1.0")}


@pytest.mark.parametrize("unknown", [400, 404])
@pytest.mark.parametrize(
    ("profile", "version"),
    [(MAPS, "9.9"), (PullProfile("bucket", "x"), "1.0"), (PullProfile("x", "maps"), "1.0")],
)
def test_an_unknown_name_is_not_linked(
    sandbox: EdgegapSandbox, ask: Asking, profile: PullProfile, version: str, unknown: int
) -> None:
    sandbox.storage.add("bucket", "maps")
    sandbox.storage.unknown_status = unknown

    found = call(ask, pull_profiles.link, profile, APP, version)

    assert found.meaning is Meaning.UNKNOWN_NAME
    assert sandbox.storage.links == set()

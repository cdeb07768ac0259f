"""Trials whose deployment, logs or responses are in doubt: what is no failure of the image."""

import dataclasses
from typing import Any

import pytest
from msgspec.structs import replace

from receiver.edgegap.responses import MAX_MESSAGE
from receiver.ledger.results import Result
from receiver.pipeline.retry import OF_OTHER_RULES
from receiver.reasons import Outcome, Reason, State
from receiver.rules.trial import TrialRun
from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.edgegap_deployments import DeploymentQuirks
from receiver.sandbox.edgegap_quirks import Quirks
from tests.support.dockerhub_client import Clock
from tests.support.trial_scenario import APP, TRIAL, Scenario, rule, run_scenario

LOGS = "/container-logs"
HIDDEN = "canary-of-the-version"


async def is_ready(one: Scenario) -> TrialRun:
    """Go on until a look shows that the deployment is Ready."""
    while one.claimed.trial is None or one.claimed.trial.ready_at is None:
        one.clock.now = max(one.clock.now, (await one.step()).due_at / 1000)
    return one.claimed.trial


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", path_contains=LOGS, status=429, retry_after=45, times=3),
        Fault("status", path_contains="/version/1.0", status=429, retry_after=45, times=3),
        Fault("status", path_contains=LOGS, status=503, times=2),
        Fault("status", path_contains=LOGS, status=404, body='{"message": "no"}', times=2),
        Fault("status", path_contains=LOGS, status=409, body='{"message": "no"}', times=1),
        Fault("status", path_contains="/version/1.0", status=409, body='{"message": "no"}'),
    ],
    ids=["429", "429 of the version", "503", "404", "409", "409 of the version"],
)
@pytest.mark.parametrize("away", [0, 300])
def test_what_a_verdict_needs_is_waited_for(
    sandbox: EdgegapSandbox, clock: Clock, fault: Fault, away: int
) -> None:
    """It counts since it could not be read first, however late after the steady period that is."""
    sandbox.deployments.set_lifecycle(ready_after=1)

    async def then(one: Scenario) -> Result:
        await is_ready(one)
        clock.now += away
        sandbox.misbehave(fault)
        ended = await one.ended()
        assert one.sent == ["POST", "DELETE"]  # it is not repeated for that
        return ended

    ended = run_scenario(sandbox, clock, then)
    assert ended.outcome is Outcome.PASSED, ended.sentence


def test_logs_that_edgegap_cannot_return_for_a_while_prove_nothing(
    sandbox: EdgegapSandbox, clock: Clock
) -> None:
    sandbox.deployments.set_lifecycle(ready_after=1)

    async def then(one: Scenario) -> Result:
        await is_ready(one)
        sandbox.misbehave(Fault("status", path_contains=LOGS, status=503, times=None))
        run = await is_ready(one)
        while run.stop_at is None:
            clock.now = max(clock.now, (await one.step()).due_at / 1000)
            run = one.claimed.trial or run
        assert (run.passed, run.why) == (
            None,
            "its logs cannot be read: HTTP 503: Something went wrong",
        )
        sandbox.behave()
        ended = await one.ended()
        assert one.sent.count("POST") == 2
        return ended

    assert run_scenario(sandbox, clock, then).outcome is Outcome.PASSED


def test_a_run_that_proves_nothing_is_repeated_more_and_more_rarely(
    sandbox: EdgegapSandbox, clock: Clock
) -> None:
    """Each costs money, and was repeated every two minutes for as long as no log could be read."""
    sandbox.deployments.set_lifecycle(ready_after=1)

    async def then(one: Scenario) -> Result:
        await one.step()
        sandbox.misbehave(Fault("status", path_contains=LOGS, status=503, times=None))
        day = clock.now + 24 * 3600
        result = await one.step()
        while clock.now < day:
            clock.now = max(clock.now, result.due_at / 1000)
            result = await one.step()
        assert 12 < one.sent.count("POST") < 60
        sandbox.behave()
        return await one.ended(most=len(one.results) + 60)

    assert run_scenario(sandbox, clock, then).outcome is Outcome.PASSED


def test_a_server_without_logs_fails_and_the_message_says_what_to_do(
    sandbox: EdgegapSandbox, clock: Clock
) -> None:
    sandbox.deployments.set_lifecycle(ready_after=1)

    async def then(one: Scenario) -> Result:
        await is_ready(one)
        body = '{"message": "The request could not be understood"}'
        sandbox.misbehave(Fault("status", path_contains=LOGS, status=400, body=body, times=None))
        return await one.ended()

    ended = run_scenario(sandbox, clock, then)
    assert ended.reason is Reason.TRIAL_FAILED
    assert "HTTP 400: The request could not be understood" in ended.sentence
    assert "let it write a line at its start" in ended.sentence


def test_the_log_of_a_failure_is_waited_for(sandbox: EdgegapSandbox, clock: Clock) -> None:
    sandbox.deployments.set_lifecycle(error_after=4, crash_after=2, exit_code=3, crash_log="bye")

    async def then(one: Scenario) -> tuple[int | None, tuple[str, ...]]:
        sandbox.misbehave(Fault("status", path_contains=LOGS, status=503, times=2))
        assert (await one.ended()).reason is Reason.TRIAL_FAILED
        assert one.claimed.trial is not None
        return one.claimed.trial.exit_code, one.claimed.trial.log

    assert run_scenario(sandbox, clock, then) == (3, ("bye",))


@pytest.mark.parametrize("known_for", [60.0, 1e9], ids=["forgotten", "terminated"])
@pytest.mark.parametrize("seen_ready", [True, False])
def test_a_deployment_that_ended_unwatched_has_not_failed(
    sandbox: EdgegapSandbox, clock: Clock, known_for: float, seen_ready: bool
) -> None:
    """It ran well for its longest duration, an hour; the receiver was away for two."""
    sandbox.add_version(APP, "1.0", restart_policy="always", max_duration=60)
    sandbox.deployments.quirks = dataclasses.replace(
        sandbox.deployments.quirks, remembered_for=known_for
    )
    sandbox.deployments.set_lifecycle(ready_after=1)

    async def then(one: Scenario) -> Result:
        await one.step()
        if seen_ready:
            await is_ready(one)
        clock.now += 7200
        ended = await one.ended()
        assert one.sent.count("POST") == 2
        return ended

    assert run_scenario(sandbox, clock, then).outcome is Outcome.PASSED


@pytest.mark.parametrize(
    "detail", ["No server available near this location", "No capacity was found"]
)
def test_no_capacity_after_the_request_was_accepted_is_waited_for(
    sandbox: EdgegapSandbox, clock: Clock, detail: str
) -> None:
    sandbox.deployments.set_lifecycle(ready_after=None, error_after=3, error_detail=detail)

    async def then(one: Scenario) -> Result:
        begun = clock.now
        while clock.now - begun < 1800:
            result = await one.step()
            assert result.state is State.WAITING, result.sentence
            clock.now = max(clock.now, result.due_at / 1000)
        assert Reason.NO_CAPACITY in {result.reason for result in one.results}
        assert one.sent.count("POST") <= 30  # each is a deployment
        sandbox.deployments.set_lifecycle(ready_after=1)
        return await one.ended(most=400)

    assert run_scenario(sandbox, clock, then).outcome is Outcome.PASSED


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/status/"), ("DELETE", "/v1/stop/")], ids=["status", "stop"]
)
@pytest.mark.parametrize("status", [400, 409])
def test_one_odd_answer_is_no_refusal(
    sandbox: EdgegapSandbox, clock: Clock, method: str, path: str, status: int
) -> None:
    """Only the request of the deployment itself can be refused."""
    sandbox.deployments.set_lifecycle(ready_after=1)

    async def then(one: Scenario) -> Result:
        await one.step()
        body = '{"message": "Bad Request"}'
        sandbox.misbehave(Fault("status", method, path, status=status, body=body))
        return await one.ended()

    ended = run_scenario(sandbox, clock, then)
    assert ended.outcome is Outcome.PASSED, ended.sentence


@pytest.mark.parametrize("decided", [False, True])
def test_what_the_list_shows_is_there_although_its_status_is_not_found(
    sandbox: EdgegapSandbox, clock: Clock, decided: bool
) -> None:
    """Rows need not have tags: the request id is enough."""
    sandbox.deployments.set_lifecycle(ready_after=1, stop_takes=30)
    sandbox.deployments.quirks = DeploymentQuirks(shows_tags=False)
    body = '{"message": "Bad Request ID provided"}'

    async def then(one: Scenario) -> Result:
        await one.step()
        if decided:
            while (run := one.claimed.trial) is None or run.decided_at is None:
                clock.now = max(clock.now, one.results[-1].due_at / 1000)
                await one.step()
        sandbox.misbehave(Fault("status", "GET", "/v1/status/", status=400, body=body, times=2))
        return await one.ended()

    ended = run_scenario(sandbox, clock, then)
    assert ended.outcome is Outcome.PASSED, ended.sentence


@pytest.mark.parametrize("crash_after", [None, 5.0], ids=["passed", "failed"])
def test_a_verdict_is_not_lost_if_the_deployment_cannot_be_stopped(
    sandbox: EdgegapSandbox, clock: Clock, crash_after: float | None
) -> None:
    sandbox.deployments.set_lifecycle(ready_after=1, crash_after=crash_after)
    forbidden = Fault("status", "DELETE", "/v1/stop/", status=403, body='{"message": "No"}')

    async def then(one: Scenario) -> Result:
        sandbox.misbehave(dataclasses.replace(forbidden, times=None))
        ended = await one.ended()
        assert len(sandbox.deployments.active("receiver-trial")) == 1
        sandbox.behave()
        await one.sweep()
        return ended

    ended = run_scenario(sandbox, clock, then)
    if crash_after is None:
        assert ended.outcome is Outcome.PASSED
    else:
        assert ended.reason is Reason.TRIAL_FAILED
    assert "could not be stopped yet" in ended.sentence


def test_a_replica_without_the_table_leaves_it_to_the_others() -> None:
    """It gets the changed configuration later than the one that opened the trial."""
    assert Reason.TRIAL_GONE in OF_OTHER_RULES


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (HIDDEN, f"{'x' * (MAX_MESSAGE - 15)} {HIDDEN}"),
        ("canary of  two words", "pass canary of  two words"),
    ],
    ids=["cut off", "spaces"],
)
@pytest.mark.parametrize("where", ["crash_log", "crash_message", "error_detail"])
def test_a_hidden_value_is_masked_before_a_text_is_cut(
    sandbox: EdgegapSandbox, clock: Clock, value: str, text: str, where: str
) -> None:
    sandbox.quirks = Quirks(reveals_hidden=True)
    envs = [{"key": "DB", "value": value, "is_hidden": True}]
    sandbox.add_version(APP, "1.0", restart_policy="always", envs=envs)
    lifecycle: dict[str, Any] = {"ready_after": 5, "crash_after": 10, "exit_code": 1, where: text}
    if where == "error_detail":
        lifecycle = {"error_after": 5, where: text}
    sandbox.deployments.set_lifecycle(**lifecycle)

    async def then(one: Scenario) -> tuple[str, TrialRun | None]:
        return (await one.ended()).sentence, one.claimed.trial

    sentence, run = run_scenario(sandbox, clock, then)
    assert "***" in "\n".join((run.why, *run.log)) or len(text) > MAX_MESSAGE
    assert "cana" not in "\n".join((sentence, run.why, *run.log))


def test_a_hidden_value_is_masked_as_the_version_was_read_for_the_verdict(
    sandbox: EdgegapSandbox, clock: Clock
) -> None:
    """Edgegap returns no version after that: a second look would have masked nothing."""
    sandbox.quirks = Quirks(reveals_hidden=True)
    envs = [{"key": "DB", "value": HIDDEN, "is_hidden": True}]
    sandbox.add_version(APP, "1.0", restart_policy="always", envs=envs)
    sandbox.deployments.set_lifecycle(
        ready_after=5, crash_after=10, exit_code=1, crash_log=f"DB {HIDDEN}"
    )
    begun = len(sandbox.calls)

    async def then(one: Scenario) -> TrialRun | None:
        one.rule = rule(replace(TRIAL, keep_failed=0))
        await one.ended()
        return one.claimed.trial

    run = run_scenario(sandbox, clock, then)
    assert run.log == ("DB ***",)
    looks = [call for call in sandbox.calls[begun:] if call.path.endswith("/version/1.0")]
    assert len(looks) == 2  # before the deployment, and for the verdict

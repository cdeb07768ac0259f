"""Trials, step by step, against the sandbox of Edgegap on a clock of the test's own."""

import dataclasses
import json
from typing import Any

import pytest
from msgspec.structs import replace

from receiver.edgegap.plans import Rejected
from receiver.edgegap.responses import Answer
from receiver.ledger.results import Result
from receiver.pipeline.preflight import DockerHubOut, Findings, ImageOk, ImagePending, ImageRejected
from receiver.reasons import Outcome, Reason, State
from receiver.rules.channel_order import Evidence
from receiver.rules.trial import OnFailure, Phase, TrialRun
from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.edgegap_deployments import DeploymentQuirks
from receiver.sandbox.edgegap_quirks import Quirks
from tests.support.dockerhub_client import Clock
from tests.support.trial_scenario import (
    APP,
    DIGEST,
    MINUTE,
    OTHER_DIGEST,
    TRIAL,
    Images,
    Scenario,
    rule,
    run_scenario,
)


def test_a_server_that_runs_steadily_passes_and_is_stopped(
    sandbox: EdgegapSandbox, clock: Clock
) -> None:
    sandbox.deployments.set_lifecycle(ready_after=20, stop_takes=3)

    async def then(one: Scenario) -> None:
        begun = clock.now
        result = await one.ended()
        assert result.outcome is Outcome.PASSED
        assert one.claimed.trial is not None
        assert one.claimed.trial.passed is True
        assert 20 + 60 <= clock.now - begun <= 20 + 60 + 30
        assert {"POST", "DELETE"} == set(one.sent)
        assert one.sent.count("POST") == 1
        assert len(one.results) <= 12  # so that a thousand can wait
        assert any("CPU at most" in note and "units requested" in note for note in result.notes)
        assert any("memory at most" in note and "MB requested" in note for note in result.notes)

    run_scenario(sandbox, clock, then)


@pytest.mark.parametrize(
    ("lifecycle", "words"),
    [
        ({"ready_after": None}, "it was not Ready within 3 min"),
        ({"ready_after": 5, "crash_after": 10, "exit_code": 139}, "exit code 139"),
        ({"error_after": 4, "error_detail": "Pull image timeout exceeded"}, "Pull image timeout"),
    ],
)
def test_a_server_that_does_not_run_fails_and_is_stopped(
    sandbox: EdgegapSandbox, clock: Clock, lifecycle: dict[str, Any], words: str
) -> None:
    sandbox.deployments.set_lifecycle(**lifecycle)

    async def then(one: Scenario) -> Result:
        return await one.ended()

    result = run_scenario(sandbox, clock, then)

    assert (result.state, result.reason) == (State.PARKED, Reason.TRIAL_FAILED)
    assert words in result.sentence
    assert "No channel was moved" in result.sentence


def test_a_crash_shows_its_last_lines_without_hidden_values(
    sandbox: EdgegapSandbox, clock: Clock
) -> None:
    sandbox.quirks = Quirks(reveals_hidden=True)
    envs = [{"key": "DB", "value": "canary-of-the-version", "is_hidden": True}]
    sandbox.add_version(APP, "2.0", restart_policy="always", envs=envs, docker_tag="1.0")
    lines = "\n".join(f"line {number}" for number in range(60))
    sandbox.deployments.set_lifecycle(
        ready_after=5, crash_after=10, exit_code=1, crash_log=f"{lines}\nDB canary-of-the-version"
    )

    async def then(one: Scenario) -> TrialRun | None:
        one.claimed = replace(one.claimed, version="2.0")
        await one.ended()
        return one.claimed.trial

    run = run_scenario(sandbox, clock, then)

    assert run.exit_code == 1
    assert (len(run.log), run.log[-1]) == (40, "DB ***")


def test_it_is_only_a_warning_where_the_rule_says_so(sandbox: EdgegapSandbox, clock: Clock) -> None:
    sandbox.deployments.set_lifecycle(ready_after=None)

    async def then(one: Scenario) -> Result:
        one.rule = rule(replace(TRIAL, on_failure=OnFailure.WARN))
        return await one.ended()

    result = run_scenario(sandbox, clock, then)

    assert (result.state, result.outcome) == (State.DONE, Outcome.FAILED)
    assert any("trial failed" in warning for warning in result.warnings)


@pytest.mark.parametrize(
    "quirks",
    [
        DeploymentQuirks(capacity=0),
        DeploymentQuirks(capacity=0, keeps_refused=True),
        DeploymentQuirks(limit=0),
        DeploymentQuirks(rates={"creations": 0}),
    ],
    ids=["no capacity", "refused but there", "plan", "rate"],
)
def test_it_waits_for_a_server(
    sandbox: EdgegapSandbox, clock: Clock, quirks: DeploymentQuirks
) -> None:
    sandbox.deployments.quirks = quirks

    async def then(one: Scenario) -> Result:
        for _ in range(20):
            result = await one.step()
            assert result.state is State.WAITING, result
            clock.now = max(clock.now, result.due_at / 1000)
        sandbox.deployments.quirks = DeploymentQuirks()
        sandbox.deployments.set_lifecycle(ready_after=1)
        return await one.ended()

    assert run_scenario(sandbox, clock, then).outcome is Outcome.PASSED


def test_it_is_as_a_person_requested_it_after_a_wait_for_a_server(
    sandbox: EdgegapSandbox, clock: Clock
) -> None:
    sandbox.deployments.quirks = DeploymentQuirks(capacity=0)

    async def then(one: Scenario) -> TrialRun | None:
        one.rule = rule(None)
        one.claimed = replace(one.claimed, trial=TrialRun(near="203.0.113.7", keep=5 * MINUTE))
        for _ in range(9):
            clock.now = max(clock.now, (await one.step()).due_at / 1000)
        assert one.sent.count("POST") > 2
        sandbox.deployments.quirks = DeploymentQuirks()
        sandbox.deployments.set_lifecycle(ready_after=1)
        assert (await one.ended()).outcome is Outcome.PASSED
        clock.now += 300
        await one.sweep()
        return one.claimed.trial

    run = run_scenario(sandbox, clock, then)
    assert (run.near, run.keep) == ("203.0.113.7", 5 * MINUTE)
    assert run.stop_at - run.decided_at == 5 * MINUTE


def test_it_waits_for_a_server_as_long_as_it_takes(sandbox: EdgegapSandbox, clock: Clock) -> None:
    """And what fails after the wait has its own 24 hours."""
    sandbox.deployments.quirks = DeploymentQuirks(capacity=0)
    begun = clock.now

    async def then(one: Scenario) -> Result:
        while clock.now - begun < 30 * 3600:
            result = await one.step()
            assert result.state is State.WAITING, result
            clock.now = max(clock.now, result.due_at / 1000)
        sandbox.deployments.quirks = DeploymentQuirks()
        sandbox.deployments.set_lifecycle(ready_after=1)
        sandbox.misbehave(Fault("status", "POST", "/v2/deployments", status=503))
        failed = await one.step()
        assert (failed.state, failed.reason) == (State.WAITING, Reason.EDGEGAP_ERROR)
        return await one.ended(most=400)

    assert run_scenario(sandbox, clock, then).outcome is Outcome.PASSED


@pytest.mark.parametrize("after", [True, False], ids=["carried out", "lost"])
@pytest.mark.parametrize("shows_tags", [True, False])
def test_a_lost_response_results_in_one_deployment(
    sandbox: EdgegapSandbox, clock: Clock, after: bool, shows_tags: bool
) -> None:
    sandbox.deployments.quirks = DeploymentQuirks(shows_tags=shows_tags)
    sandbox.deployments.set_lifecycle(ready_after=1)
    sandbox.misbehave(Fault("reset", method="POST", after=after))

    async def then(one: Scenario) -> Result:
        first = await one.step()
        assert first.reason is Reason.EDGEGAP_UNREACHABLE
        assert len(sandbox.deployments.active("receiver-trial")) == int(after)
        result = await one.ended()
        assert one.sent.count("POST") == (1 if after and shows_tags else 2)
        return result

    if after and not shows_tags:  # it cannot be recognized, and no status shows its tags either
        return
    assert run_scenario(sandbox, clock, then).outcome is Outcome.PASSED


def test_a_deployment_that_ended_by_itself_has_failed(
    sandbox: EdgegapSandbox, clock: Clock
) -> None:
    sandbox.add_version(APP, "1.0", restart_policy="never")
    sandbox.deployments.set_lifecycle(ready_after=1, crash_after=5, exit_code=0)

    async def then(one: Scenario) -> Result:
        return await one.ended()

    result = run_scenario(sandbox, clock, then)

    assert result.reason is Reason.TRIAL_FAILED
    assert "ended" in result.sentence


def test_a_wrong_not_found_does_not_end_it(sandbox: EdgegapSandbox, clock: Clock) -> None:
    """A status that is not found is believed only if the list does not show it either."""
    sandbox.deployments.set_lifecycle(ready_after=1)

    async def then(one: Scenario) -> Result:
        await one.step()
        clock.now += 5
        sandbox.misbehave(
            Fault("status", path_contains="/status/", status=404, body='{"message": "Not found"}')
        )
        result = await one.step()
        assert result.state is State.WAITING
        return await one.ended()

    assert run_scenario(sandbox, clock, then).outcome is Outcome.PASSED


def test_a_look_that_fails_is_repeated_soon(sandbox: EdgegapSandbox, clock: Clock) -> None:
    """The looks before it were no failures; it waited 10 minutes, and the deployment ran on."""
    sandbox.deployments.set_lifecycle(ready_after=150)

    async def then(one: Scenario) -> Result:
        while len(one.results) < 12:
            clock.now = max(clock.now, (await one.step()).due_at / 1000)
        sandbox.misbehave(Fault("status", path_contains="/status/", status=503))
        failed = await one.step()
        assert failed.reason is Reason.EDGEGAP_ERROR
        assert failed.due_at - one.now <= 2_000
        return await one.ended()

    assert run_scenario(sandbox, clock, then).outcome is Outcome.PASSED


NOT_READY = Fault(
    "status",
    "GET",
    "/v1/status/",
    status=200,
    body=json.dumps(
        {
            "request_id": "000000000001",
            "fqdn": "a.example",
            "app_name": APP,
            "app_version": "1.0",
            "current_status": "Status.DEPLOYING",
            "running": False,
            "whitelisting_active": False,
        }
    ),
    content_type="application/json",
)


@pytest.mark.parametrize("times", [1, 2, None], ids=["once", "twice", "for good"])
@pytest.mark.parametrize("late", [False, True], ids=["in time", "when it is no longer waited for"])
def test_one_that_is_no_longer_ready_is_steady_only_from_the_next_time_on(
    sandbox: EdgegapSandbox, clock: Clock, times: int | None, late: bool
) -> None:
    """Twice, it is not waited for again: it may go on forever."""
    sandbox.deployments.set_lifecycle(ready_after=1)

    async def then(one: Scenario) -> tuple[Result, float]:
        one.rule = rule(replace(TRIAL, ready_within=(30 if late else 180) * 1000))
        while one.claimed.trial is None or one.claimed.trial.ready_at is None:
            clock.now = max(clock.now, (await one.step()).due_at / 1000)
        left = clock.now
        sandbox.misbehave(NOT_READY if times else dataclasses.replace(NOT_READY, times=None))
        again = await one.step()
        assert again.state is State.WAITING
        if times == 2:  # it is Ready once more, and then no longer
            clock.now = again.due_at / 1000
            clock.now = (await one.step()).due_at / 1000
            sandbox.misbehave(NOT_READY)
        clock.now = max(clock.now, again.due_at / 1000)
        while one.results[-1].state is State.WAITING and one.claimed.trial.passed is None:
            clock.now = max(clock.now, (await one.step()).due_at / 1000)
        decided = clock.now - left
        sandbox.behave()
        return await one.ended(), decided

    result, decided = run_scenario(sandbox, clock, then)

    assert (result.outcome is Outcome.PASSED) is (times == 1), result
    if times == 1:
        assert decided >= 60
    if times == 2:
        assert "Ready twice" in result.sentence
    if times is None:
        assert "not Ready again within" in result.sentence
        assert (decided >= 180) is not late


@pytest.mark.parametrize("keep", [None, 5 * MINUTE])
def test_a_person_may_keep_it_running(
    sandbox: EdgegapSandbox, clock: Clock, keep: int | None
) -> None:
    """Its channels do not wait for that: the verdict counts at once."""
    sandbox.deployments.set_lifecycle(ready_after=1)

    async def then(one: Scenario) -> None:
        one.rule = rule(None)
        one.claimed = replace(one.claimed, trial=TrialRun(near="203.0.113.7", keep=keep))
        begun = clock.now
        ended = await one.ended()
        assert ended.outcome is Outcome.PASSED
        assert clock.now - begun < 60 + 15
        assert ("Its deployment runs on until" in ended.sentence) is (keep is not None)
        await one.sweep()
        assert len(sandbox.deployments.active("receiver-trial")) == (keep is not None)
        clock.now += 300
        await one.sweep()

    run_scenario(sandbox, clock, then)


def test_a_failed_one_that_is_kept_is_reported_at_once(
    sandbox: EdgegapSandbox, clock: Clock
) -> None:
    """Only then can anybody look at it. What is requested meanwhile stops it, and is a new run."""
    sandbox.deployments.set_lifecycle(ready_after=1, crash_after=5, exit_code=139)

    async def then(one: Scenario) -> Result:
        one.rule = rule(replace(TRIAL, keep_failed=10 * MINUTE))
        failed = await one.ended()
        assert failed.reason is Reason.TRIAL_FAILED
        assert "its deployment runs on until" in failed.sentence
        await one.sweep()
        (kept,) = sandbox.deployments.active("receiver-trial")
        clock.now += 60
        sandbox.deployments.set_lifecycle(ready_after=1)
        ended = await one.ended()  # a person had it queued again
        assert one.sent == ["POST", "DELETE", "POST", "DELETE"]
        assert kept.is_ended(clock.now)
        return ended

    assert run_scenario(sandbox, clock, then).outcome is Outcome.PASSED


def test_without_the_table_nothing_is_deployed(sandbox: EdgegapSandbox, clock: Clock) -> None:
    async def then(one: Scenario) -> Result:
        one.rule = rule(None)
        result = await one.step()
        assert one.sent == []
        return result

    assert run_scenario(sandbox, clock, then).reason is Reason.TRIAL_GONE


@pytest.mark.parametrize("after", [False, True], ids=["known", "response lost"])
def test_a_table_that_was_removed_gives_no_verdict(
    sandbox: EdgegapSandbox, clock: Clock, after: bool
) -> None:
    """A failure would count for the digest, which may have passed before."""
    sandbox.deployments.set_lifecycle(ready_after=1)
    if after:
        sandbox.misbehave(Fault("status", "POST", "/v2/deployments", status=504, after=True))

    async def then(one: Scenario) -> Result:
        await one.step()
        one.rule = rule(None)
        parked = await one.ended(most=10)
        run = one.claimed.trial
        assert (parked.reason, run and run.passed) == (Reason.TRIAL_GONE, None)
        await one.sweep()
        clock.now += 5  # it is stopped once it is Ready
        assert sandbox.deployments.active("receiver-trial") == []
        one.rule = rule()
        return await one.ended()

    assert run_scenario(sandbox, clock, then).outcome is Outcome.PASSED


def test_a_request_without_effect_is_not_sent_again_without_its_table(
    sandbox: EdgegapSandbox, clock: Clock
) -> None:
    sandbox.misbehave(Fault("status", "POST", "/v2/deployments", status=504))

    async def then(one: Scenario) -> Result:
        await one.step()
        one.rule = rule(None)
        ended = await one.ended(most=10)
        assert one.sent == ["POST"]
        return ended

    assert run_scenario(sandbox, clock, then).reason is Reason.TRIAL_GONE


def test_a_rule_that_is_gone_does_not_lose_what_passed(
    sandbox: EdgegapSandbox, clock: Clock
) -> None:
    """Its channels are not known then. Once the rule is back, it is not deployed again."""
    sandbox.deployments.set_lifecycle(ready_after=1, stop_takes=3)

    async def then(one: Scenario) -> Result:
        while one.claimed.trial is None or one.claimed.trial.passed is None:
            clock.now = max(clock.now, (await one.step()).due_at / 1000)
        one.rule = None
        parked = await one.ended()
        assert (parked.state, parked.reason) == (State.PARKED, Reason.RULE_GONE)
        assert sandbox.deployments.active("receiver-trial") == []

        one.rule = rule()
        one.claimed = replace(one.claimed, evidence=Evidence(passed=True))
        result = await one.step()
        assert one.sent.count("POST") == 1
        one.claimed = replace(one.claimed, evidence=Evidence())  # the tag was overwritten since
        assert (await one.ended()).outcome is Outcome.PASSED
        assert one.sent.count("POST") == 2
        return result

    assert run_scenario(sandbox, clock, then).outcome is Outcome.PASSED


def test_a_rule_of_another_repository_with_the_name_tries_nothing(
    sandbox: EdgegapSandbox, clock: Clock
) -> None:
    async def then(one: Scenario) -> Result:
        one.rule = dataclasses.replace(rule(), repository="studio/lobby")
        ended = await one.ended(most=1)
        assert one.sent == []
        return ended

    assert run_scenario(sandbox, clock, then).reason is Reason.RULE_GONE


REJECTED = ImageRejected(Rejected(Reason.NOT_AMD64, "Built for arm64."))


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (DockerHubOut("HTTP 503", longest=0), Reason.DOCKER_HUB_UNAVAILABLE),
        (
            DockerHubOut("429: too many requests", longest=0, asked=90_000),
            Reason.DOCKER_HUB_UNAVAILABLE,
        ),
        (ImagePending((Answer("HEAD", "manifests/1.0", 404),)), Reason.IMAGE_NOT_READY),
    ],
)
def test_nothing_is_deployed_before_it_is_known_which_digest_is_tried(
    sandbox: EdgegapSandbox, clock: Clock, found: Findings, reason: Reason
) -> None:
    """What was created while the registry was away passed for whatever its tag had later."""
    sandbox.deployments.set_lifecycle(ready_after=1)

    async def then(one: Scenario) -> Result:
        one.claimed = replace(one.claimed, digest=None)
        one.images = Images(found, found, ImageOk(DIGEST))
        waits = await one.step()
        assert (waits.reason, waits.digest, one.sent) == (reason, None, [])
        if isinstance(found, DockerHubOut):
            assert "is tried once the registry returns the digest of the tag" in waits.sentence
            assert waits.due_at >= one.now + found.asked
        ended = await one.ended()
        assert one.tried == [DIGEST]  # so it is known after a crash, too
        return ended

    ended = run_scenario(sandbox, clock, then)

    assert (ended.outcome, ended.digest) == (Outcome.PASSED, DIGEST)


def test_a_tag_that_was_overwritten_before_the_run_is_not_tried(
    sandbox: EdgegapSandbox, clock: Clock
) -> None:
    """The verdict was recorded for the first image, and the second one ran."""
    sandbox.deployments.quirks = DeploymentQuirks(capacity=0)

    async def then(one: Scenario) -> Result:
        assert (await one.step()).state is State.WAITING
        sandbox.deployments.quirks = DeploymentQuirks()
        one.images = Images(ImageOk(OTHER_DIGEST))
        ended = await one.ended()
        assert one.tried == [DIGEST]
        return ended

    ended = run_scenario(sandbox, clock, then)

    assert (ended.reason, ended.digest) == (Reason.DIGEST_CHANGED, DIGEST)
    assert f"{DIGEST} before, {OTHER_DIGEST} now" in ended.sentence


def test_a_digest_that_its_version_has_meanwhile_is_tried(
    sandbox: EdgegapSandbox, clock: Clock
) -> None:
    """A run that may be of the first one keeps the registration from getting it."""
    sandbox.deployments.set_lifecycle(ready_after=1)

    async def then(one: Scenario) -> Result:
        one.claimed = replace(one.claimed, known_digest=OTHER_DIGEST)
        one.images = Images(ImageOk(OTHER_DIGEST))
        ended = await one.ended()
        assert one.tried == [OTHER_DIGEST]
        return ended

    ended = run_scenario(sandbox, clock, then)

    assert (ended.outcome, ended.digest) == (Outcome.PASSED, OTHER_DIGEST)


def test_a_known_digest_that_the_registry_does_not_return_is_waited_for(
    sandbox: EdgegapSandbox, clock: Clock
) -> None:
    sandbox.deployments.set_lifecycle(ready_after=1)

    async def then(one: Scenario) -> Result:
        one.images = Images(ImageOk(None), ImageOk(DIGEST))
        waits = await one.step()
        assert (waits.reason, one.sent) == (Reason.DOCKER_HUB_UNAVAILABLE, [])
        return await one.ended()

    assert run_scenario(sandbox, clock, then).outcome is Outcome.PASSED


def test_an_image_that_is_not_there_any_more_is_not_tried(
    sandbox: EdgegapSandbox, clock: Clock
) -> None:
    async def then(one: Scenario) -> Result:
        one.claimed = replace(one.claimed, digest=None)
        one.images = Images(REJECTED)
        ended = await one.ended()
        assert one.sent == []
        return ended

    assert run_scenario(sandbox, clock, then).reason is Reason.NOT_AMD64


def test_without_preflight_the_registry_is_not_asked(sandbox: EdgegapSandbox, clock: Clock) -> None:
    sandbox.deployments.set_lifecycle(ready_after=1)

    async def then(one: Scenario) -> Result:
        one.claimed, one.rule = (
            replace(one.claimed, digest=None),
            dataclasses.replace(rule(), preflight=False),
        )
        one.images = Images(REJECTED)
        return await one.ended()

    assert run_scenario(sandbox, clock, then).outcome is Outcome.PASSED


def test_a_version_with_another_image_is_not_deployed(
    sandbox: EdgegapSandbox, clock: Clock
) -> None:
    """Also one that a person wants tried."""
    sandbox.versions[APP, "1.0"]["docker_tag"] = "0.9"

    async def then(one: Scenario) -> Result:
        one.claimed = replace(one.claimed, trial=TrialRun(near="203.0.113.7"))
        ended = await one.ended()
        assert one.sent == []
        return ended

    ended = run_scenario(sandbox, clock, then)

    assert (ended.state, ended.reason) == (State.PARKED, Reason.NAME_TAKEN)
    assert "studio/game-server:0.9" in ended.sentence


@pytest.mark.parametrize("ready_after", [1, None], ids=["runs", "does not run"])
@pytest.mark.parametrize("change", ["another image", "deleted"])
def test_a_run_proves_nothing_if_its_version_changed_meanwhile(
    sandbox: EdgegapSandbox, clock: Clock, ready_after: float | None, change: str
) -> None:
    sandbox.deployments.set_lifecycle(ready_after=ready_after)

    async def then(one: Scenario) -> Result:
        await one.step()
        held = sandbox.versions.pop((APP, "1.0"))
        if change == "another image":
            sandbox.versions[APP, "1.0"] = {**held, "docker_tag": "0.9"}
        while not (run := one.claimed.trial) or run.phase is not Phase.ENDED:
            clock.now = max(clock.now, (await one.step()).due_at / 1000)
        assert (run.passed, run.decided_at) == (None, None)
        assert "not known which image ran" in run.why
        assert sandbox.deployments.active("receiver-trial") == []
        if change == "deleted":
            sandbox.versions[APP, "1.0"] = held
            sandbox.deployments.set_lifecycle(ready_after=1)
        return await one.ended()

    ended = run_scenario(sandbox, clock, then)

    if change == "another image":
        assert ended.reason is Reason.NAME_TAKEN
    else:
        assert ended.outcome is Outcome.PASSED


@pytest.mark.parametrize("ready_after", [1, None], ids=["runs", "does not run"])
@pytest.mark.parametrize("times", [2, None], ids=["twice", "for good"])
def test_a_verdict_waits_a_while_for_its_version(
    sandbox: EdgegapSandbox, clock: Clock, ready_after: float | None, times: int | None
) -> None:
    """The deployment does not run on for as long as the version cannot be read."""
    sandbox.deployments.set_lifecycle(ready_after=ready_after)
    broken = Fault("status", path_contains="/version/1.0", status=503, times=times)

    async def then(one: Scenario) -> tuple[bool | None, float]:
        await one.step()
        begun = clock.now
        sandbox.misbehave(broken)
        while not (run := one.claimed.trial) or run.phase is Phase.WATCHED:
            clock.now = max(clock.now, (await one.step()).due_at / 1000)
        took = clock.now - begun
        sandbox.behave()
        await one.ended()
        return run.passed, took

    passed, took = run_scenario(sandbox, clock, then)

    assert passed is (None if times is None else ready_after is not None)
    assert took < 3 * 60 + 60 + 60


def test_a_version_that_is_not_there_parks(sandbox: EdgegapSandbox, clock: Clock) -> None:
    async def then(one: Scenario) -> Result:
        one.claimed = replace(one.claimed, version="9.9")
        return await one.ended()

    assert run_scenario(sandbox, clock, then).reason is Reason.TRIAL_REFUSED

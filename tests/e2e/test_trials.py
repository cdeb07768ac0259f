"""Trials in a running receiver: what they hold back, and that nothing is left running."""

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from receiver import backoff
from receiver.backoff import MAX_CALL
from receiver.images import ImageReference
from receiver.ledger.approvals import approve
from receiver.ledger.transaction import Tx
from receiver.ledger.trials import last_run, trial_time
from receiver.rules import trial
from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.edgegap_deployments import DeploymentQuirks
from receiver.signing import Approvable
from tests.support.approvals import PUSHED
from tests.support.commands import commands_beside
from tests.support.metrics import scrape
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import (
    APP,
    RULE,
    TIMEOUT_SECONDS,
    TRIAL,
    ReceiverProcess,
    until,
)
from tests.support.visitor import PAGE, visitor

OURS = "receiver-trial"
RULES = RULE.replace("preflight = false", 'preflight = false\nchannels = ["staging"]')
CONFIG = f'{RULES}{TRIAL}\n[catch_up]\nevery = "off"\n'


@pytest.fixture
def sandbox(quick_trials: EdgegapSandbox) -> EdgegapSandbox:
    return quick_trials


@pytest.fixture
def here(edgegap: str, tmp_path: Path) -> Iterator[ReceiverHere]:
    with receiver_here(tmp_path, edgegap, config=CONFIG) as receiver:
        receiver.environment["PORT"] = receiver.url.rpartition(":")[2]
        yield receiver


def by_kind(receiver: ReceiverProcess, delivery: str) -> dict[str, dict[str, Any]]:
    """The registrations of a delivery by what they do."""
    return {one["mode"]: one for one in receiver.details(delivery)["registrations"]}


def ended(
    receiver: ReceiverProcess, delivery: str, *kinds: str, seconds: float = TIMEOUT_SECONDS
) -> dict[str, dict[str, Any]]:
    """Wait until these are there and everything is done or parked."""

    def look() -> dict[str, dict[str, Any]]:
        found = by_kind(receiver, delivery)
        over = all(one["state"] in {"done", "parked"} for one in found.values())
        return found if over and set(kinds) <= set(found) else {}

    found: dict[str, dict[str, Any]] = until(look, seconds)
    return found


def test_a_channel_moves_once_its_version_was_seen_running(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    delivery = here.push("1.0")

    until(lambda: sandbox.deployments.active(OURS))
    assert set(by_kind(here, delivery)) == {"create", "trial"}
    found = ended(here, delivery, "create", "trial", "channel")

    assert [found[kind]["outcome"] for kind in ("create", "trial", "channel")] == [
        "created",
        "passed",
        "created",
    ]
    assert found["trial"]["version"] == "1.0"
    assert sandbox.versions[APP, "staging"]["docker_tag"] == "1.0"
    assert sandbox.deployments.active(OURS) == []
    sent = [call.body for call in sandbox.calls if "/v2/deployments" in call.path]
    assert [body["tags"] for body in sent if body is not None] == [[OURS, found["trial"]["id"]]]


def test_a_version_that_does_not_run_moves_no_channel(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    ended(here, here.push("1.0"), "channel")
    sandbox.deployments.set_lifecycle(
        version="1.1", ready_after=0.1, crash_after=0.3, exit_code=139, crash_log="segfault\nbye"
    )

    delivery = here.push("1.1")
    found = ended(here, delivery, "trial")

    assert set(found) == {"create", "trial"}
    assert (found["create"]["outcome"], found["trial"]["reason"]) == ("created", "trial_failed")
    assert "exit code 139" in found["trial"]["sentence"]
    assert sandbox.versions[APP, "staging"]["docker_tag"] == "1.0"
    assert sandbox.deployments.active(OURS) == []

    sandbox.deployments.set_lifecycle(version="1.1", ready_after=0.1)
    commands_beside(here).json_of("replay", delivery, "--json")
    found = ended(here, delivery, "trial", "channel")
    assert (found["trial"]["outcome"], found["channel"]["outcome"]) == ("passed", "updated")
    assert sandbox.versions[APP, "staging"]["docker_tag"] == "1.1"


def test_a_version_with_another_image_is_not_tried(
    here: ReceiverHere, sandbox: EdgegapSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another hand gave it the image of 1.0 while its trial waited for a server."""
    monkeypatch.setattr(backoff, "MAX_BACKOFF", 60)
    sandbox.deployments.quirks = DeploymentQuirks(limit=0)
    delivery = here.push("1.1")
    until(lambda: by_kind(here, delivery).get("trial", {}).get("reason") == "no_capacity")
    sandbox.versions[APP, "1.1"]["docker_tag"] = "1.0"
    found = ended(here, delivery, "create", "trial")

    assert (found["trial"]["state"], found["trial"]["reason"]) == ("parked", "name_taken")
    assert set(found) == {"create", "trial"}
    assert sandbox.deployments.shown() == []


def test_what_trials_take_is_a_metric_and_on_the_page(
    edgegap: str, sandbox: EdgegapSandbox, tmp_path: Path
) -> None:
    with receiver_here(tmp_path, edgegap, config=CONFIG, environment=PAGE) as here:
        assert scrape(here).value("docker_hub_receiver_trial_seconds", app=APP) == 0
        delivery = here.push("1.0")
        run = ended(here, delivery, "trial", "channel")["trial"]["trial"]
        assert run["passed"] is True
        assert (scrape(here).value("docker_hub_receiver_trial_seconds", app=APP) or 0) > 0
        with visitor(here) as person:
            assert "Deployments of trials ran for" in person.read("/versions").text
            details = person.read(f"/deliveries/{delivery}").text
            assert "by the rule" in details
            assert "Trial passed Requested" in details
            assert f"Deployment {run['deployment']}" in details


def test_a_failure_that_is_only_a_warning_moves_the_channel(
    edgegap: str, sandbox: EdgegapSandbox, tmp_path: Path
) -> None:
    sandbox.deployments.set_lifecycle(ready_after=None)
    config = CONFIG.replace("steady_for", 'on_failure = "warn"\nsteady_for')
    with receiver_here(tmp_path, edgegap, config=config) as receiver:
        found = ended(receiver, receiver.push("1.0"), "trial", "channel")

    assert (found["trial"]["outcome"], found["channel"]["outcome"]) == ("failed", "created")


def test_an_image_that_passed_is_not_tried_again(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    at = int(time.time()) - 100
    ended(here, here.push("1.0", pushed_at=at), "channel")

    found = ended(here, here.push("1.0", pushed_at=at), "create")

    assert found["create"]["outcome"] == "unchanged"
    assert len([call for call in sandbox.calls if "/v2/deployments" in call.path]) == 1


def times_tried(sandbox: EdgegapSandbox) -> int:
    return len([call for call in sandbox.calls if "/v2/deployments" in call.path])


@pytest.mark.parametrize("on_failure", ["park", "warn"])
def test_a_repeated_report_does_not_try_again_what_failed(
    edgegap: str, sandbox: EdgegapSandbox, tmp_path: Path, on_failure: str
) -> None:
    """Only a new push and a person do."""
    config = CONFIG.replace("steady_for", f'on_failure = "{on_failure}"\nsteady_for')
    sandbox.deployments.set_lifecycle(error_after=0.1, error_detail="no", stop_takes=0.1)
    at = int(time.time()) - 100
    with receiver_here(tmp_path, edgegap, config=config) as receiver:
        receiver.environment["PORT"] = receiver.url.rpartition(":")[2]
        commands = commands_beside(receiver)
        kinds = ("create", "trial", "channel") if on_failure == "warn" else ("create", "trial")
        first = receiver.push("1.0", pushed_at=at)
        state = ended(receiver, first, *kinds)["trial"]["state"]

        again = receiver.push("1.0", pushed_at=at)
        found = ended(receiver, again, "create")
        assert (found["create"]["outcome"], times_tried(sandbox)) == ("unchanged", 1)
        assert "trial" not in found
        assert by_kind(receiver, first)["trial"]["state"] == state

        commands.json_of("replay", again, "--json")
        until(lambda: times_tried(sandbox) == 2)
        ended(receiver, again, *kinds)
        ended(receiver, receiver.push("1.0", pushed_at=at + 10), *kinds)
        assert times_tried(sandbox) == 3
        by_hand = commands.json_of("trial", APP, "1.0", "--json")["delivery"]
        ended(receiver, by_hand, "trial")
        assert times_tried(sandbox) == 4


def dismiss_trial(here: ReceiverHere, delivery: str) -> str:
    """Dismiss the trial of a delivery, whatever its state is; return its registration."""
    registration: str = by_kind(here, delivery)["trial"]["id"]

    def dismiss(tx: Tx) -> None:
        tx.run(
            "UPDATE registrations SET state = 'done', outcome = 'dismissed', fence = fence + 1"
            " WHERE id = :id",
            id=registration,
        )

    here.inside(lambda: here.ledger.write(dismiss))
    return registration


def test_the_sweep_waits_for_a_request_that_takes_effect_late(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    """Else its deployment ran on unseen, and what it took was not counted."""
    sandbox.misbehave(Fault("late", "POST", "/v2/deployments", status=504))
    delivery = here.push("1.0")
    until(lambda: by_kind(here, delivery).get("trial", {}).get("state") == "waiting")
    registration = dismiss_trial(here, delivery)

    def sweep() -> trial.TrialRun | None:
        here.inside(lambda: here.service.trials.run(with_list=False))
        return here.inside(lambda: here.ledger.read(lambda tx: last_run(tx, registration)))

    swept = sweep()
    assert sandbox.deployments.active(OURS) == []
    assert swept is not None
    assert swept.stopped_at is None
    sandbox.proceed()
    until(lambda: sandbox.deployments.active(OURS))
    until(lambda: (run := sweep()) is not None and run.stopped_at)
    assert sandbox.deployments.active(OURS) == []
    assert here.inside(lambda: here.ledger.read(trial_time))[APP] > 0


def test_a_dismissed_trial_is_stopped_by_the_sweep_and_nothing_else(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    players = sandbox.deployments.run(APP, "1.0", "players")
    others = sandbox.deployments.run(APP, "1.0", OURS, "r01anotherreceivers")
    sandbox.deployments.set_lifecycle(ready_after=None)
    delivery = here.push("1.0")
    until(lambda: len(sandbox.deployments.active(OURS)) == 2)
    dismiss_trial(here, delivery)
    until(lambda: here.inside(lambda: here.service.trials.run(with_list=True)) == 0)

    assert {one.request_id for one in sandbox.deployments.active()} == {players, others}


def test_a_known_deployment_is_stopped_also_if_the_list_cannot_be_read(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    """The list is needed only to note that no deployment of the run is there any more."""
    sandbox.deployments.set_lifecycle(ready_after=0.1, stop_takes=0.1)
    here.config.write_text(here.config.read_text("utf-8").replace('"1s"', '"100s"'), "utf-8")
    assert not here.inside(lambda: here.service.reload(here.environment)).faults
    delivery = here.push("1.0")
    until(lambda: by_kind(here, delivery).get("trial", {}).get("state") == "waiting")
    until(lambda: sandbox.deployments.active(OURS))
    sandbox.misbehave(Fault("status", "GET", "/v1/deployments", status=500, times=None))
    registration = dismiss_trial(here, delivery)

    assert here.inside(lambda: here.service.trials.run(with_list=False)) == 1
    until(lambda: not sandbox.deployments.active(OURS))
    sandbox.behave()
    assert here.inside(lambda: here.service.trials.run(with_list=False)) == 0
    run = here.inside(lambda: here.ledger.read(lambda tx: last_run(tx, registration)))
    assert run is not None
    assert run.stopped_at is not None


@pytest.mark.parametrize("what", ["studio/game-server", "--all"])
def test_a_pause_does_not_leave_a_deployment_running(
    edgegap: str, sandbox: EdgegapSandbox, tmp_path: Path, what: str
) -> None:
    receiver = ReceiverProcess(tmp_path, edgegap, config=CONFIG).start()
    commands = commands_beside(receiver)
    delivery = receiver.push("1.0")
    try:
        until(lambda: sandbox.deployments.active(OURS))
        assert commands.run("pause", what).exit_code == 0
        assert by_kind(receiver, delivery)["trial"]["held_back"] == []
        receiver.kill()
        receiver.start()
        until(lambda: by_kind(receiver, delivery)["trial"]["outcome"] == "passed")
        assert sandbox.deployments.active(OURS) == []
        moves = by_kind(receiver, delivery)["channel"]
        assert moves["state"] == "queued"
        assert [one["by"] for one in moves["held_back"]] == ["pause"]
    finally:
        receiver.stop()


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", range(2))
def test_no_kill_leaves_a_deployment_running(
    edgegap: str, sandbox: EdgegapSandbox, tmp_path: Path, seed: int
) -> None:
    """Killed again and again, it passes, moves the channel and leaves nothing running."""
    rng = random.Random(seed)
    receiver = ReceiverProcess(tmp_path, edgegap, config=CONFIG).start()
    delivery = receiver.push("1.0")
    try:
        for _ in range(5):
            time.sleep(rng.uniform(0.0, 1.2))  # a kill at any step
            receiver.kill()
            receiver.start()
        outlast = MAX_CALL / 1000 + TIMEOUT_SECONDS  # killed between the record and the POST
        found = ended(receiver, delivery, "trial", "channel", seconds=outlast)
    finally:
        receiver.stop()

    assert (found["trial"]["outcome"], found["channel"]["outcome"]) == ("passed", "created")
    assert sandbox.deployments.active(OURS) == []


def test_a_version_is_tried_by_hand_and_its_run_is_shown(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    commands = commands_beside(here)
    ended(here, here.push("1.0"), "create", "trial", "channel")

    done = commands.run("trial", APP, "1.0", "--wait")
    assert done.exit_code == 0, done.output
    assert "done passed" in done.stdout
    assert "  trial     passed, Ready after" in done.stdout

    log = "\n".join(f"line {number}" for number in range(50))
    sandbox.deployments.set_lifecycle(
        version="1.0", ready_after=0.1, crash_after=0.2, exit_code=3, crash_log=log
    )
    done = commands.run("trial", APP, "1.0", "--at", "203.0.113.7", "--wait")
    assert done.exit_code == 1
    assert "  trial     failed, " in done.stdout
    assert "exit code 3" in done.stdout
    assert done.stdout.count("  log       line ") == 40

    delivery = commands.json_of("trial", APP, "1.0", "--json")["delivery"]
    run = ended(here, delivery, "trial")["trial"]["trial"]
    assert (run["passed"], run["exit_code"], len(run["log"])) == (False, 3, 40)
    assert sandbox.deployments.active() == []


def test_a_trial_that_is_under_way_is_not_changed(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    """Else a person waited for a deployment that had not been kept."""
    commands = commands_beside(here)
    sandbox.deployments.set_lifecycle(ready_after=1)
    here.push("1.0")
    until(lambda: sandbox.deployments.active(OURS))

    for option in (("--keep", "30s"), ("--at", "203.0.113.7")):
        done = commands.run("trial", APP, "1.0", *option)
        assert (done.exit_code, "is being tried already" in done.stderr) == (1, True)
    delivery = commands.json_of("trial", APP, "1.0", "--json")["delivery"]
    assert ended(here, delivery, "trial")["trial"]["outcome"] == "passed"

    delivery = commands.json_of("trial", APP, "1.0", "--keep", "1s", "--json")["delivery"]
    assert ended(here, delivery, "trial")["trial"]["outcome"] == "passed"


def test_what_cannot_be_tried_is_refused(
    edgegap: str, sandbox: EdgegapSandbox, tmp_path: Path
) -> None:
    config = f'{RULES}\n[catch_up]\nevery = "off"\n'  # without [rule.trial]
    with receiver_here(tmp_path, edgegap, config=config) as here:
        here.environment["PORT"] = here.url.rpartition(":")[2]
        commands = commands_beside(here)
        ended(here, here.push("1.0"), "create", "channel")

        for refused, why in (("1.0", "has no [rule.trial]"), ("9.9", "knows no version 9.9")):
            done = commands.run("trial", APP, refused)
            assert (done.exit_code, why in done.stderr) == (1, True)
        for option in (("--at", "nowhere"), ("--keep", "soon"), ("--keep", "2d")):
            assert commands.run("trial", APP, "1.0", *option).exit_code == 2

    assert not [call for call in sandbox.calls if "/v2/deployments" in call.path]


GATED = (
    CONFIG
    + f"""
[[channel]]
app = "{APP}"
name = "prod"
from = "staging"
needs = ["trial", "approval"]
"""
)


def channel_of(receiver: ReceiverProcess, delivery: str, name: str) -> dict[str, Any]:
    """The registration that moves the channel, once it waits, is done or parked."""

    def look() -> dict[str, Any]:
        found = (
            one
            for one in receiver.details(delivery)["registrations"]
            if one["version"] == name and one["state"] not in {"queued", "working"}
        )
        return next(found, {})

    found: dict[str, Any] = until(look)
    return found


def approved(here: ReceiverHere, tag: str, address: str = "203.0.113.7") -> bool:
    image = ImageReference("studio/game-server", tag)
    move = Approvable(APP, "prod", image, None, PUSHED * 1000)
    return here.inside(
        lambda: here.ledger.write(lambda tx: approve(tx, move, approver="anna", address=address))
    )


def test_prod_takes_what_staging_has_once_a_person_approved_it(
    edgegap: str, sandbox: EdgegapSandbox, tmp_path: Path
) -> None:
    with receiver_here(tmp_path, edgegap, config=GATED) as here:
        first = here.push("1.0", pushed_at=PUSHED)
        waits = channel_of(here, first, "prod")
        assert (waits["state"], waits["reason"]) == ("waiting", "needs_approval")
        assert "receiver promote my-game prod --to 1.0" in waits["sentence"]
        assert sandbox.versions[APP, "staging"]["docker_tag"] == "1.0"
        assert (APP, "prod") not in sandbox.versions

        assert [approved(here, "1.0") for _ in range(3)] == [True, False, False]
        here.wake()
        until(lambda: channel_of(here, first, "prod")["outcome"] == "created")
        assert sandbox.versions[APP, "prod"]["docker_tag"] == "1.0"

        second = here.push("1.1", pushed_at=PUSHED)
        channel_of(here, second, "prod")
        third = here.push("1.2", pushed_at=PUSHED)
        channel_of(here, third, "prod")
        until(lambda: channel_of(here, second, "prod")["outcome"] == "superseded")
        assert approved(here, "1.1")  # too late: staging has another image
        assert approved(here, "1.2")
        here.wake()
        until(lambda: channel_of(here, third, "prod")["outcome"] == "updated")

    assert sandbox.versions[APP, "prod"]["docker_tag"] == "1.2"
    moves = [c for c in sandbox.calls if c.path.endswith("/version/prod") and c.method == "PATCH"]
    assert len(moves) == 1


def test_a_promotion_takes_what_the_source_has_and_needs_a_trial(
    edgegap: str, sandbox: EdgegapSandbox, tmp_path: Path
) -> None:
    with receiver_here(tmp_path, edgegap, config=GATED) as here:
        here.environment["PORT"] = here.url.rpartition(":")[2]
        commands = commands_beside(here)
        channel_of(here, here.push("1.0"), "prod")
        sandbox.deployments.set_lifecycle(version="1.1", ready_after=None)
        ended(here, here.push("1.1"), "trial")

        refused = commands.run("promote", APP, "prod", "--to", "1.1")
        assert refused.exit_code != 0
        assert "takes only what passed a trial" in refused.stderr

        answer = commands.json_of("promote", APP, "prod", "--json")
        assert here.ended(answer["delivery"])["outcome"] == "created"

    assert sandbox.versions[APP, "prod"]["docker_tag"] == "1.0"

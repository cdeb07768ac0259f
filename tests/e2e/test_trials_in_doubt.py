"""Trials in a running receiver while rules come and go, and while a failed one is kept."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL

from receiver import backoff
from receiver.pipeline import retry
from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.edgegap_deployments import DeploymentQuirks
from tests.support.commands import commands_beside
from tests.support.postgres import plain
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import APP, NO_CATCH_UP, REPOSITORY, RULE, TRIAL, until

OURS = "receiver-trial"
RULES = RULE.replace("preflight = false", 'preflight = false\nchannels = ["staging"]')


@pytest.fixture
def sandbox(quick_trials: EdgegapSandbox, monkeypatch: pytest.MonkeyPatch) -> EdgegapSandbox:
    monkeypatch.setattr(backoff, "FIRST_BACKOFF", 20)
    return quick_trials


def trial_of(here: ReceiverHere, delivery: str) -> dict[str, Any]:
    """The registration of the trial that a delivery led to, empty if there is none yet."""
    rows = here.details(delivery)["registrations"]
    return next((row for row in rows if row["mode"] == "trial"), {})


def ended(here: ReceiverHere, delivery: str) -> dict[str, Any]:
    """Wait until the trial of a delivery is done or parked."""

    def look() -> dict[str, Any]:
        found = trial_of(here, delivery)
        return found if found.get("state") in {"done", "parked"} else {}

    found: dict[str, Any] = until(look)
    return found


def reloaded(here: ReceiverHere, config: str) -> None:
    here.config.write_text(config, "utf-8")
    assert not here.inside(lambda: here.service.reload(here.environment)).faults


def swept(here: ReceiverHere, sandbox: EdgegapSandbox) -> None:
    """Have the sweep stop what is left, and wait until it is gone."""
    here.inside(lambda: here.service.trials.run(with_list=False))
    until(lambda: not sandbox.deployments.active(OURS))


def times_tried(sandbox: EdgegapSandbox) -> int:
    return len([call for call in sandbox.calls if "/v2/deployments" in call.path])


@pytest.mark.parametrize("gone", ["rule", "table"])
def test_what_the_sweep_stopped_is_tried_again_once_its_rule_is_back(
    edgegap: str, sandbox: EdgegapSandbox, tmp_path: Path, gone: str
) -> None:
    config = RULES + TRIAL.replace('"1s"', '"3s"') + NO_CATCH_UP
    without = {
        "rule": config.replace(REPOSITORY, "studio/other"),
        "table": RULES + NO_CATCH_UP,
    }
    with receiver_here(tmp_path, edgegap, config=config) as here:
        delivery = here.push("1.0")
        until(lambda: (trial_of(here, delivery).get("trial") or {}).get("ready_at"))
        reloaded(here, without[gone])
        parked = ended(here, delivery)
        assert parked["reason"] == ("rule_gone" if gone == "rule" else "trial_gone")
        swept(here, sandbox)
        reloaded(here, config)

        found = until(lambda: (one := ended(here, delivery))["outcome"] and one)
        assert (found["outcome"], times_tried(sandbox)) == ("passed", 2), found["sentence"]


def test_the_sweep_stops_what_the_list_shows_although_its_status_is_not_found(
    edgegap: str, sandbox: EdgegapSandbox, tmp_path: Path
) -> None:
    """Rows need not have tags: the request id is enough."""
    sandbox.deployments.set_lifecycle(ready_after=None)
    sandbox.deployments.quirks = DeploymentQuirks(shows_tags=False)
    with receiver_here(tmp_path, edgegap, config=RULES + TRIAL + NO_CATCH_UP) as here:
        delivery = here.push("1.0")
        until(lambda: sandbox.deployments.active(OURS))
        gone = '{"message": "Bad Request ID provided"}'
        sandbox.misbehave(Fault("status", "GET", "/v1/status/", status=400, body=gone, times=None))
        reloaded(here, RULES + NO_CATCH_UP)
        assert ended(here, delivery)["reason"] == "trial_gone"
        swept(here, sandbox)


@pytest.mark.parametrize("given", [(), ("--at", "203.0.113.7")])
def test_a_trial_by_hand_stops_a_failed_one_that_is_kept(
    edgegap: str, sandbox: EdgegapSandbox, tmp_path: Path, given: tuple[str, ...]
) -> None:
    """The failure is reported at once: for what is it kept otherwise? A free plan has room for one.

    With a location it was refused: the version was "being tried already".
    """
    sandbox.deployments.quirks = DeploymentQuirks(limit=1)
    sandbox.deployments.set_lifecycle(ready_after=0.1, crash_after=0.3)
    config = RULES + TRIAL + 'keep_failed = "10m"\n' + NO_CATCH_UP
    with receiver_here(tmp_path, edgegap, config=config) as here:
        here.environment["PORT"] = here.url.rpartition(":")[2]
        failed = ended(here, here.push("1.0"))
        assert failed["reason"] == "trial_failed"
        assert "its deployment runs on until" in failed["sentence"]
        (kept,) = sandbox.deployments.active(OURS)

        sandbox.deployments.set_lifecycle(ready_after=0.1)
        asked = commands_beside(here).json_of("trial", APP, "1.0", *given, "--json")["delivery"]
        found = until(lambda: (one := ended(here, asked))["outcome"] and one)

        assert (found["outcome"], times_tried(sandbox)) == ("passed", 2), found["sentence"]
        users = [call.body["users"] for call in sandbox.calls if call.body and "users" in call.body]
        assert (users[0] == users[1]) is not bool(given)
        assert sandbox.deployments.active(OURS) == []
        assert kept.stop_requested is not None


def test_the_channels_do_not_wait_for_a_deployment_that_is_kept(
    edgegap: str, sandbox: EdgegapSandbox, tmp_path: Path
) -> None:
    sandbox.deployments.set_lifecycle(ready_after=0.1, crash_after=0.3)
    with receiver_here(tmp_path, edgegap, config=RULES + TRIAL + NO_CATCH_UP) as here:
        here.environment["PORT"] = here.url.rpartition(":")[2]
        assert ended(here, here.push("1.0"))["reason"] == "trial_failed"
        assert (APP, "staging") not in sandbox.versions

        sandbox.deployments.set_lifecycle(ready_after=0.1)
        asked = commands_beside(here).json_of("trial", APP, "1.0", "--keep", "10m", "--json")
        assert until(lambda: ended(here, asked["delivery"])["outcome"]) == "passed"
        until(lambda: (APP, "staging") in sandbox.versions)
        here.inside(lambda: here.service.trials.run(with_list=True))
        assert len(sandbox.deployments.active(OURS)) == 1


def test_a_replica_that_has_no_table_yet_leaves_trials_to_the_others(
    edgegap: str,
    sandbox: EdgegapSandbox,
    tmp_path: Path,
    postgres_url: URL,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retry, "OTHER_RULES_EVERY", 50)
    environment = {"DATABASE_URL": plain(postgres_url)}
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    old_config, new_config = RULES + NO_CATCH_UP, RULES + TRIAL + NO_CATCH_UP
    with (
        receiver_here(tmp_path / "old", edgegap, config=old_config, environment=environment) as old,
        receiver_here(tmp_path / "new", edgegap, config=new_config, environment=environment) as new,
    ):
        until(lambda: all(one.service.worker._watch.replicas > 1 for one in (old, new)))
        settings = new.service.settings
        new.service.current.settings = replace(settings, concurrency=0)
        delivery = new.push("1.0")  # the other one creates its version
        until(lambda: trial_of(new, delivery).get("reason") == "trial_gone")
        assert (APP, "staging") not in sandbox.versions
        new.service.current.settings = settings
        assert until(lambda: ended(new, delivery)["outcome"]) == "passed"
        until(lambda: (APP, "staging") in sandbox.versions)
        assert times_tried(sandbox) == 1


@pytest.mark.parametrize("again", ["start", "reload"])
def test_a_replica_with_the_rules_of_before_does_not_end_the_trials_of_the_others(
    edgegap: str,
    sandbox: EdgegapSandbox,
    tmp_path: Path,
    postgres_url: URL,
    monkeypatch: pytest.MonkeyPatch,
    *,
    again: str,
) -> None:
    """It started again with its old file, and the channel moved to a version that was not tried."""
    monkeypatch.setattr(retry, "OTHER_RULES_EVERY", 50)
    environment = {"DATABASE_URL": plain(postgres_url)}
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    old_config, new_config = RULES + NO_CATCH_UP, RULES + TRIAL + NO_CATCH_UP
    starts = {"environment": environment}
    with receiver_here(tmp_path / "new", edgegap, config=new_config, **starts) as new:
        settings = new.service.settings
        new.service.current.settings = replace(settings, concurrency=0)
        delivery = new.push("1.0")
        with receiver_here(tmp_path / "old", edgegap, config=old_config, **starts) as old:
            if again == "reload":
                reloaded(old, old_config)
            until(lambda: len(new.details(delivery)["registrations"]) > 1)
            assert trial_of(new, delivery)
            assert (APP, "staging") not in sandbox.versions
            new.service.current.settings = settings
            assert until(lambda: ended(new, delivery)["outcome"]) == "passed"


def test_a_version_is_not_tried_once_its_rule_has_no_table_any_more(
    edgegap: str, sandbox: EdgegapSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "MAX_BACKOFF", 60)
    sandbox.misbehave(Fault("status", method="POST", status=503, times=None))
    with receiver_here(tmp_path, edgegap, config=RULES + TRIAL + NO_CATCH_UP) as here:
        delivery = here.push("1.0")
        until(lambda: here.details(delivery)["registrations"][0]["state"] == "waiting")
        reloaded(here, RULES + NO_CATCH_UP)
        sandbox.behave()
        until(lambda: (APP, "staging") in sandbox.versions)
        here.ended(delivery)
        assert times_tried(sandbox) == 0

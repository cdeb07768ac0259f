"""A trial is of one digest: no channel moves to another image under the same tag."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from receiver import backoff
from receiver.pipeline import preflight
from receiver.sandbox.calls import Fault
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.edgegap_deployments import DeploymentQuirks
from tests.support.commands import commands_beside
from tests.support.dockerhub import hub_beside
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import APP, NO_CATCH_UP, REPOSITORY, RULE, TRIAL, until

Start = Callable[..., AbstractContextManager[ReceiverHere]]
OURS = "receiver-trial"
LONG_AGO = 1_700_000_000
MOVING = 'on_overwrite = "move"\nchannels = ["staging"]'
NEEDS = f"""
[[channel]]
app = "{APP}"
name = "staging"
needs = ["trial"]
"""
CONFIG = RULE.replace("preflight = false", MOVING) + TRIAL + NO_CATCH_UP


@pytest.fixture
def sandbox(quick_trials: EdgegapSandbox) -> EdgegapSandbox:
    return quick_trials


@pytest.fixture
def hub() -> DockerHubSandbox:
    made = DockerHubSandbox()
    made.add_repository(REPOSITORY)
    made.push_image(REPOSITORY, "1.0")
    return made


@pytest.fixture
def start(edgegap: str, hub: DockerHubSandbox, tmp_path: Path) -> Iterator[Start]:
    with hub_beside(hub) as variables:
        yield partial(receiver_here, tmp_path, edgegap, environment=variables)


def of_kind(here: ReceiverHere, delivery: str, kind: str) -> list[dict[str, Any]]:
    """The registrations of a delivery that do this, the oldest first."""
    found = here.details(delivery)["registrations"]
    return sorted((one for one in found if one["mode"] == kind), key=lambda one: str(one["id"]))


def channel(here: ReceiverHere, delivery: str) -> dict[str, Any]:
    """The registration that moves the channel, once it is done or parked."""

    def look() -> dict[str, Any]:
        found = of_kind(here, delivery, "channel")
        return next((one for one in found if one["state"] in {"done", "parked"}), {})

    found: dict[str, Any] = until(look)
    return found


@pytest.mark.parametrize("on_failure", ["park", "warn"])
def test_a_tag_that_is_overwritten_during_its_trial_moves_no_channel(
    start: Start,
    sandbox: EdgegapSandbox,
    hub: DockerHubSandbox,
    on_failure: str,
) -> None:
    """No webhook comes for the second image; a failure that is only a warning is of one, too."""
    config = CONFIG.replace("steady_for", f'on_failure = "{on_failure}"\nsteady_for')
    if on_failure == "warn":
        sandbox.deployments.set_lifecycle(version="1.0", ready_after=None)
    with start(config=config) as here:
        delivery = here.push("1.0")
        until(lambda: sandbox.deployments.active(OURS))
        hub.push_image(REPOSITORY, "1.0")
        ended = channel(here, delivery)
        tried = of_kind(here, delivery, "trial")[0]["digest"]

    assert (ended["state"], ended["reason"]) == ("parked", "digest_changed")
    assert f"{tried} then" in ended["sentence"]
    assert (APP, "staging") not in sandbox.versions


def test_a_tag_that_is_overwritten_before_its_trial_is_tried_once_a_person_replays_it(
    start: Start,
    sandbox: EdgegapSandbox,
    hub: DockerHubSandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No webhook comes for the second image, which is the one that would run."""
    monkeypatch.setattr(backoff, "MAX_BACKOFF", 60)
    sandbox.deployments.quirks = DeploymentQuirks(limit=0)
    with start(config=CONFIG + NEEDS) as here:
        here.environment["PORT"] = here.url.rpartition(":")[2]
        delivery = here.push("1.0")
        until(lambda: "no_capacity" in [o["reason"] for o in of_kind(here, delivery, "trial")])
        digest = hub.push_image(REPOSITORY, "1.0")
        here.ended(delivery)
        sandbox.deployments.quirks = DeploymentQuirks()
        (parked,) = of_kind(here, delivery, "trial")
        assert (parked["state"], parked["reason"]) == ("parked", "digest_changed")
        assert "so the version was not tried" in parked["sentence"]
        assert sandbox.deployments.shown() == []

        commands_beside(here).json_of("replay", delivery, "--json")
        ended = channel(here, delivery)
        runs = here.ledger.read_sync(
            lambda tx: [(row.digest, row.passed and True) for row in tx.run(RUNS)]
        )

    assert (ended["outcome"], ended["digest"]) == ("created", digest)
    assert runs[-1] == (digest, True)
    assert {verdict for _, verdict in runs[:-1]} == {None}


@pytest.mark.parametrize("needs", ["", NEEDS])
@pytest.mark.parametrize("first", ["passed", "failed"])
def test_an_image_pushed_during_the_trial_of_its_tag_has_a_trial_of_its_own(
    start: Start,
    sandbox: EdgegapSandbox,
    hub: DockerHubSandbox,
    needs: str,
    first: str,
) -> None:
    if first == "failed":
        sandbox.deployments.set_lifecycle(version="1.0", ready_after=0.1, crash_after=0.6)
    with start(config=CONFIG + needs) as here:
        delivery = here.push("1.0")
        until(lambda: sandbox.deployments.active(OURS))
        sandbox.deployments.set_lifecycle(version="1.0", ready_after=0.1)
        hub.push_image(REPOSITORY, "1.0")
        again = here.push("1.0")
        until(lambda: [one["state"] for one in of_kind(here, again, "create")] == ["done"])
        ended = channel(here, again)
        before, digest = (of_kind(here, one, "create")[0]["digest"] for one in (delivery, again))
        runs = here.ledger.read_sync(
            lambda tx: [(row.digest, bool(row.passed)) for row in tx.run(RUNS)]
        )

    assert ended["outcome"] == "created"
    assert runs == [(before, first == "passed"), (digest, True)]
    assert ended["digest"] == digest
    assert sandbox.deployments.active(OURS) == []


def test_a_verdict_without_a_digest_does_not_count_for_a_known_one(
    start: Start, sandbox: EdgegapSandbox, hub: DockerHubSandbox
) -> None:
    """The first image passed without preflight; the tag was overwritten with one that crashes."""
    config = CONFIG + NEEDS
    with start(config=config.replace(MOVING, f"preflight = false\n{MOVING}")) as here:
        assert channel(here, here.push("1.0", pushed_at=LONG_AGO))["outcome"] == "created"
        here.config.write_text(config, "utf-8")
        assert not here.inside(lambda: here.service.reload(here.environment)).faults
        hub.push_image(REPOSITORY, "1.0")
        sandbox.deployments.set_lifecycle(version="1.0", ready_after=0.1, crash_after=0.3)
        again = here.push("1.0")
        here.ended(again)
        tried = [one["reason"] for one in of_kind(here, again, "trial")]
        moves = of_kind(here, again, "channel")

    assert (tried, moves) == (["trial_failed"], [])


def test_what_failed_is_not_tried_again_for_a_repeated_report_while_the_registry_is_away(
    start: Start, sandbox: EdgegapSandbox, hub: DockerHubSandbox
) -> None:
    sandbox.deployments.set_lifecycle(version="1.0", error_after=0.1, stop_takes=0.1)
    with start(config=CONFIG) as here:
        first = here.push("1.0", pushed_at=LONG_AGO)
        until(lambda: [one["state"] for one in of_kind(here, first, "trial")] == ["parked"])
        hub.misbehave(Fault("status", path_contains="/v2/", status=503, times=None))
        again = here.push("1.0", pushed_at=LONG_AGO)

        assert here.ended(again)["outcome"] == "unchanged"
        assert [one["state"] for one in of_kind(here, first, "trial")] == ["parked"]
        assert of_kind(here, again, "trial") == []


def test_a_rollback_finds_the_image_that_passed_or_moves_nothing(
    start: Start, sandbox: EdgegapSandbox, hub: DockerHubSandbox
) -> None:
    hub.push_image(REPOSITORY, "1.1")
    with start(config=CONFIG + NEEDS) as here:
        here.environment["PORT"] = here.url.rpartition(":")[2]
        commands = commands_beside(here)
        for tag in ("1.0", "1.1"):
            assert channel(here, here.push(tag))["outcome"] in {"created", "updated"}
        back = commands.json_of("rollback", APP, "staging", "--json")["delivery"]
        assert here.ended(back)["outcome"] == "updated"
        assert sandbox.versions[APP, "staging"]["docker_tag"] == "1.0"
        commands.json_of("rollback", APP, "staging", "--to", "1.1", "--json")
        until(lambda: sandbox.versions[APP, "staging"]["docker_tag"] == "1.1")

        hub.push_image(REPOSITORY, "1.0")
        parked = here.ended(commands.json_of("rollback", APP, "staging", "--json")["delivery"])
        assert (parked["state"], parked["reason"]) == ("parked", "digest_changed")
        assert "`receiver rollback my-game staging --to 1.0`" in parked["sentence"]
        assert sandbox.versions[APP, "staging"]["docker_tag"] == "1.1"

        named = commands.json_of("rollback", APP, "staging", "--to", "1.0", "--json")["delivery"]
        ended = here.ended(named)

    assert ended["outcome"] == "updated"
    assert sandbox.versions[APP, "staging"]["docker_tag"] == "1.0"
    assert any("than the one that passed its trial" in note for note in ended["notes"])


@pytest.mark.parametrize("fails", [False, True])
def test_two_tags_of_one_digest_are_tried_once_if_it_passes(
    start: Start, sandbox: EdgegapSandbox, hub: DockerHubSandbox, fails: bool
) -> None:
    """Each was deployed; a failure of the first is no verdict on a tag that is pushed later."""
    for tag in ("1.0", "1.1"):
        hub.push_image(REPOSITORY, tag, build="same")
    if fails:
        sandbox.deployments.set_lifecycle(version="1.0", ready_after=0.1, crash_after=0.3)
    with start(config=CONFIG) as here:
        first = here.push("1.0")
        until(lambda: sandbox.deployments.active(OURS))
        second = here.push("1.1")
        moved = channel(here, second)
        here.ended(first)
        sentences = [of_kind(here, one, "trial")[0]["sentence"] for one in (first, second)]
        runs = here.ledger.read_sync(
            lambda tx: [(row.digest, bool(row.passed)) for row in tx.run(RUNS)]
        )

    assert moved["outcome"] in {"created", "updated"}
    digest = moved["digest"]
    assert runs == ([(digest, False), (digest, True)] if fails else [(digest, True)])
    assert ("under another tag" in sentences[1]) is not fails
    assert sandbox.versions[APP, "staging"]["docker_tag"] == "1.1"


RUNS = "SELECT digest, passed FROM trials ORDER BY id"


def test_a_person_approves_a_digest_also_if_the_version_was_made_without_one(
    start: Start,
    sandbox: EdgegapSandbox,
    hub: DockerHubSandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The approval counted for whatever image the tag had when the channel was moved."""
    monkeypatch.setattr(preflight, "MAX_HOLD", 100)
    monkeypatch.setattr(backoff, "FIRST_BACKOFF", 20)
    monkeypatch.setattr(backoff, "MAX_BACKOFF", 60)
    config = RULE.replace("preflight = false", MOVING) + NEEDS.replace("trial", "approval")
    with start(config=config + NO_CATCH_UP) as here:
        digest = hub.push_image(REPOSITORY, "1.0")
        hub.misbehave(Fault("status", path_contains="/v2/", status=503, times=None))
        delivery = here.push("1.0")

        def move() -> dict[str, Any]:
            found = of_kind(here, delivery, "channel")
            return found[0] if found else {}

        until(lambda: move().get("reason") == "docker_hub_unavailable")
        assert of_kind(here, delivery, "create")[0]["digest"] is None
        hub.behave()
        until(lambda: move().get("reason") == "needs_approval")

        assert move()["digest"] == digest
    assert (APP, "staging") not in sandbox.versions


RESTORE = f'\n[[channel]]\napp = "{APP}"\nname = "staging"\nrestore = true\n'


@pytest.mark.parametrize("on_overwrite", ["warn", "move"])
def test_a_channel_is_put_back_only_to_the_image_that_it_had(
    start: Start, sandbox: EdgegapSandbox, hub: DockerHubSandbox, on_overwrite: str
) -> None:
    """Another image under its tag was never on the channel; `move` allows that."""
    moving = MOVING.replace('"move"', f'"{on_overwrite}"')
    config = RULE.replace("preflight = false", moving) + RESTORE + NO_CATCH_UP
    with start(config=config) as here:
        channel(here, here.push("1.0"))
        hub.push_image(REPOSITORY, "1.0")
        sandbox.versions[APP, "staging"]["docker_tag"] = "0.9"
        here.inside(lambda: here.service.drift.compare(0))
        restored = here.ledger.read_sync(lambda tx: tx.run(RESTORED).scalar_one())
        ended = here.ended(restored)

    expected = ("parked", "digest_changed") if on_overwrite == "warn" else ("done", None)
    assert (ended["state"], ended["reason"]) == expected
    tag = "0.9" if on_overwrite == "warn" else "1.0"
    assert sandbox.versions[APP, "staging"]["docker_tag"] == tag


RESTORED = "SELECT id FROM deliveries WHERE source = 'restore'"

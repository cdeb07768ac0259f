"""What channels have when moves wait, are carried out late, are closed, or their tag changes."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from receiver import backoff
from receiver.logs import Source
from receiver.pipeline import preflight
from receiver.sandbox.calls import Fault
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.edgegap_deployments import DeploymentQuirks
from tests.support.approvals import CONFIG as APPROVED
from tests.support.approvals import approve_waiting, registration_of
from tests.support.commands import commands_beside
from tests.support.dockerhub import hub_beside
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import APP, NO_CATCH_UP, REPOSITORY, RULE, TRIAL, until

Start = Callable[..., AbstractContextManager[ReceiverHere]]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FIRST_BACKOFF", 20)
    monkeypatch.setattr(backoff, "MAX_BACKOFF", 60)


@pytest.fixture
def sandbox(quick_trials: EdgegapSandbox) -> EdgegapSandbox:
    return quick_trials


@pytest.fixture
def hub() -> DockerHubSandbox:
    made = DockerHubSandbox()
    made.add_repository(REPOSITORY)
    for tag in ("0.9", "1.0", "1.1", "1.2", "1.3"):
        made.push_image(REPOSITORY, tag)
    return made


@pytest.fixture
def start(edgegap: str, hub: DockerHubSandbox, tmp_path: Path) -> Iterator[Start]:
    with hub_beside(hub) as variables:
        yield partial(receiver_here, tmp_path, edgegap, environment=variables)


def channel_table(name: str, *lines: str) -> str:
    return "\n".join(["", "[[channel]]", f'app = "{APP}"', f'name = "{name}"', *lines, ""])


def get(here: ReceiverHere, path: str) -> Any:
    headers = {"Authorization": f"Bearer {here.api_token()}"}
    return httpx.get(f"{here.url}{path}", headers=headers, trust_env=False).json()


def shown(here: ReceiverHere, name: str) -> Any:
    rows = get(here, f"/api/channels?app={APP}")["channels"]
    return next(row for row in rows if row["channel"] == name)


def compare(here: ReceiverHere) -> None:
    here.inside(lambda: here.service.drift.compare(0))


def commands(here: ReceiverHere) -> Any:
    here.environment["PORT"] = here.url.rpartition(":")[2]
    return commands_beside(here)


def approve_all(here: ReceiverHere) -> None:
    here.inside(lambda: here.ledger.write(approve_waiting))
    here.wake()


def tag_of(sandbox: EdgegapSandbox, name: str) -> Any:
    found = sandbox.versions.get((APP, name))
    return None if found is None else found["docker_tag"]


def has(sandbox: EdgegapSandbox, name: str, tag: str) -> bool:
    return bool(tag_of(sandbox, name) == tag)


def compared_until(here: ReceiverHere, condition: Callable[[], bool]) -> None:
    """Compare the channels with Edgegap until it is so."""

    def compared() -> bool:
        compare(here)
        return condition()

    until(compared)


def paused(here: ReceiverHere, delivery: str) -> None:
    """Pause the repository, and wait until nothing of the delivery is worked on."""
    here.inside(lambda: here.service.manual.pause(REPOSITORY, Source.PAGE))
    until(lambda: all(one["state"] != "working" for one in here.details(delivery)["registrations"]))


def restored(here: ReceiverHere) -> dict[str, Any]:
    """The registration that puts the channel back, once it is over."""
    ids = here.ledger.read_sync(lambda tx: tx.run(RESTORED).scalars().all())
    return here.ended(str(ids[-1])) if ids else {}


RESTORED = "SELECT id FROM deliveries WHERE source = 'restore' ORDER BY id"


@pytest.mark.parametrize("waits", [False, True], ids=["nothing waits", "a move waits"])
def test_drift_is_found_while_a_move_waits_for_an_approval(
    start: Start, sandbox: EdgegapSandbox, waits: bool
) -> None:
    config = APPROVED.replace('needs = ["approval"]', 'needs = ["approval"]\nrestore = true')
    config = config.replace("[[notice]]", "[[notice]]\n#").split("[[notice]]")[0] + NO_CATCH_UP
    with start(config=config) as here:
        first = here.push("1.0")
        assert registration_of(here, first, "prod")["reason"] == "needs_approval"
        approve_all(here)
        until(lambda: tag_of(sandbox, "prod") == "1.0")
        here.ended(first)
        if waits:
            second = here.push("1.1")
            assert registration_of(here, second, "prod")["reason"] == "needs_approval"
        sandbox.versions[APP, "prod"]["docker_tag"] = "0.5"

        compared_until(here, lambda: has(sandbox, "prod", "1.0"))


@pytest.mark.parametrize("need", ["trial", "approval"])
def test_restore_puts_no_untried_image_into_a_channel(
    start: Start, sandbox: EdgegapSandbox, hub: DockerHubSandbox, need: str
) -> None:
    moving = 'on_overwrite = "move"\nchannels = ["staging"]'
    config = RULE.replace("preflight = false", moving) + (TRIAL if need == "trial" else "")
    config += channel_table("staging", f'needs = ["{need}"]', "restore = true") + NO_CATCH_UP
    with start(config=config) as here:
        first = here.push("1.0", pushed_at=int(time.time()) - 100)
        if need == "approval":
            assert registration_of(here, first, "staging")["reason"] == "needs_approval"
            approve_all(here)
        until(lambda: tag_of(sandbox, "staging") == "1.0")
        here.ended(first)
        sandbox.deployments.set_lifecycle(version="1.0", ready_after=0.1, crash_after=0.3)
        hub.push_image(REPOSITORY, "1.0")
        again = here.push("1.0")
        if need == "trial":
            until(
                lambda: any(
                    one["reason"] == "trial_failed" for one in here.details(again)["registrations"]
                )
            )
        else:
            assert registration_of(here, again, "staging")["reason"] == "needs_approval"
        patches = len([call for call in sandbox.calls if call.method == "PATCH"])
        sandbox.versions[APP, "staging"]["docker_tag"] = "0.9"
        compare(here)
        ended = restored(here)
        now = len([call for call in sandbox.calls if call.method == "PATCH"])

        assert (ended["state"], ended["reason"]) == ("parked", "digest_changed")
        assert (now, tag_of(sandbox, "staging")) == (patches, "0.9")


def test_promote_moves_no_untried_digest_if_the_version_was_made_without_one(
    start: Start,
    sandbox: EdgegapSandbox,
    hub: DockerHubSandbox,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(preflight, "MAX_HOLD", 100)
    config = RULE.replace("preflight = false", 'channels = ["staging", "prod"]') + TRIAL
    config += channel_table("staging", 'needs = ["trial"]')
    config += channel_table("prod", 'needs = ["trial"]', 'tags = "never-*"') + NO_CATCH_UP
    with start(config=config) as here:
        hub.misbehave(Fault("status", path_contains="/v2/", status=503, times=None))
        delivery = here.push("1.0")
        until(
            lambda: any(
                one["reason"] == "docker_hub_unavailable"
                for one in here.details(delivery)["registrations"]
                if one["mode"] == "trial"
            )
        )
        hub.behave()
        until(lambda: tag_of(sandbox, "staging") == "1.0")
        tried = here.ledger.read_sync(
            lambda tx: [(row.digest, bool(row.passed)) for row in tx.run(RUNS)]
        )
        other = hub.push_image(REPOSITORY, "1.0")
        done = commands(here).json_of("promote", APP, "prod", "--to", "1.0", "--json")
        ended = here.ended(done["delivery"])

    assert tried[0][0] != other
    assert (ended["state"], ended["reason"], tag_of(sandbox, "prod")) == (
        "parked", "digest_changed", None,
    )  # fmt: skip


RUNS = "SELECT digest, passed FROM trials ORDER BY id"


def test_promote_by_tag_moves_no_untried_digest(
    start: Start, sandbox: EdgegapSandbox, hub: DockerHubSandbox
) -> None:
    """The version has another name than its tag, so `--to` finds what was reported."""
    config = RULE.replace("preflight = false", 'version = "b-{tag}"\nchannels = ["staging"]')
    config += TRIAL + channel_table("staging", 'needs = ["trial"]') + NO_CATCH_UP
    with start(config=config) as here:
        for tag in ("1.0", "1.1"):
            here.push(tag)
            until(partial(has, sandbox, "staging", tag))
        hub.push_image(REPOSITORY, "1.0")
        done = commands(here).json_of("promote", APP, "staging", "--to", "1.0", "--json")
        ended = here.ended(done["delivery"])

    assert (ended["state"], ended["reason"]) == ("parked", "digest_changed")
    assert tag_of(sandbox, "staging") == "1.1"


@pytest.mark.parametrize("hold", [False, True], ids=["free", "held"])
def test_a_repeated_report_of_what_was_dismissed_moves_nothing(
    start: Start, sandbox: EdgegapSandbox, hold: bool
) -> None:
    config = RULE.replace("preflight = false", 'channels = ["staging"]') + NO_CATCH_UP
    at = int(time.time()) - 100
    with start(config=config) as here:
        here.ended(here.push("1.0", pushed_at=at))
        sandbox.misbehave(Fault("status", method="PATCH", status=400, message="no"))
        second = here.push("1.1", pushed_at=at + 10)
        here.ended(second)
        moved = registration_of(here, second, "staging")
        assert moved["state"] == "parked"
        if hold:
            held = commands(here).json_of("promote", APP, "staging", "--to", "1.0", "--json")
            here.ended(held["delivery"])
            assert shown(here, "staging")["held"]["tag"] == "1.0"
        commands(here).run("dismiss", moved["id"])
        assert registration_of(here, second, "staging")["outcome"] in {"dismissed", "superseded"}
        assert tag_of(sandbox, "staging") == "1.0"

        again = here.push("1.1", pushed_at=at + 10)
        here.ended(again)

        assert tag_of(sandbox, "staging") == "1.0"


def test_a_repeated_report_does_not_carry_out_a_rollback_that_was_given_up(
    start: Start, sandbox: EdgegapSandbox
) -> None:
    config = RULE.replace("preflight = false", 'channels = ["staging"]') + NO_CATCH_UP
    at = int(time.time()) - 100
    with start(config=config) as here:
        here.ended(here.push("1.0", pushed_at=at))
        here.ended(here.push("1.1", pushed_at=at + 10))
        until(lambda: tag_of(sandbox, "staging") == "1.1")
        sandbox.misbehave(Fault("status", method="PATCH", status=400, message="no"))
        back = commands(here).json_of("rollback", APP, "staging", "--json")["delivery"]
        assert here.ended(back)["state"] == "parked"
        assert commands(here).run("release", APP, "staging").exit_code == 0
        assert shown(here, "staging")["held"] is None

        here.ended(here.push("1.0", pushed_at=at))

        assert tag_of(sandbox, "staging") == "1.1"


def test_a_channel_gets_no_other_image_than_its_source_has(
    start: Start, sandbox: EdgegapSandbox, hub: DockerHubSandbox
) -> None:
    config = RULE.replace("preflight = false", 'channels = ["staging"]')
    config += channel_table("prod", 'from = "staging"') + NO_CATCH_UP
    with start(config=config) as here:
        sandbox.misbehave(
            Fault("status", method="GET", path_contains="/version/prod", status=500, times=None)
        )
        delivery = here.push("1.0")
        until(lambda: tag_of(sandbox, "staging") == "1.0")
        until(lambda: registration_of(here, delivery, "prod").get("reason") == "edgegap_error")
        a = registration_of(here, delivery, "staging")["digest"]
        paused(here, delivery)
        b = hub.push_image(REPOSITORY, "1.0")
        sandbox.behave()
        here.inside(lambda: here.service.manual.resume(REPOSITORY, Source.PAGE))
        here.ended(delivery)
        prod = registration_of(here, delivery, "prod")

    assert a != b
    assert (prod["state"], tag_of(sandbox, "prod")) == ("parked", None), prod


def test_a_move_whose_source_went_back_meanwhile_is_not_adopted(
    start: Start, sandbox: EdgegapSandbox
) -> None:
    config = RULE.replace("preflight = false", 'channels = ["staging"]')
    config += channel_table("prod", 'from = "staging"', "restore = true") + NO_CATCH_UP
    with start(config=config) as here:
        here.ended(here.push("1.0"))
        until(lambda: tag_of(sandbox, "prod") == "1.0")
        sandbox.misbehave(
            Fault("slow", method="GET", path_contains="/version/prod", seconds=0),
            Fault("status", method="PATCH", path_contains="/version/prod", status=504, after=True),
            Fault("status", method="GET", path_contains="/version/prod", status=500, times=None),
        )
        second = here.push("1.1")
        until(lambda: tag_of(sandbox, "prod") == "1.1")
        until(lambda: registration_of(here, second, "prod").get("state") == "waiting")
        back = commands(here).json_of("rollback", APP, "staging", "--json")["delivery"]
        assert here.ended(back)["outcome"] == "updated"
        until(lambda: registration_of(here, second, "prod")["outcome"] == "superseded")
        sandbox.behave()

        compared_until(here, lambda: has(sandbox, "prod", "1.0"))

        assert (tag_of(sandbox, "staging"), shown(here, "prod")["tag"]) == ("1.0", "1.0")


def test_what_was_adopted_moves_what_follows_it(start: Start, sandbox: EdgegapSandbox) -> None:
    config = RULE.replace("preflight = false", 'channels = ["staging"]')
    config += channel_table("prod", 'from = "staging"') + NO_CATCH_UP
    with start(config=config) as here:
        here.ended(here.push("1.0"))
        until(lambda: tag_of(sandbox, "prod") == "1.0")
        sandbox.misbehave(
            Fault("slow", method="GET", path_contains="/version/staging", seconds=0),
            Fault("late", method="PATCH", status=504),
            Fault(
                "status", method="GET", path_contains="/version/staging", status=422, message="no"
            ),
        )
        second = here.push("1.1")
        here.ended(second)
        assert registration_of(here, second, "staging")["state"] == "parked"
        sandbox.proceed()
        until(lambda: tag_of(sandbox, "staging") == "1.1")
        compare(here)
        assert shown(here, "staging")["tag"] == "1.1"

        until(lambda: has(sandbox, "prod", "1.1"))


def test_a_person_is_not_asked_to_approve_what_will_not_be_moved(
    start: Start, sandbox: EdgegapSandbox, hub: DockerHubSandbox
) -> None:
    config = RULE.replace("preflight = false", 'channels = ["staging"]')
    config += channel_table("staging", 'needs = ["approval"]') + NO_CATCH_UP
    with start(config=config) as here:
        delivery = here.push("1.0", pushed_at=int(time.time()) - 100)
        assert registration_of(here, delivery, "staging")["reason"] == "needs_approval"
        b = hub.push_image(REPOSITORY, "1.0")
        again = here.push("1.0")
        (found,) = until(
            lambda: [
                one
                for one in here.details(again)["registrations"]
                if one["version"] == "staging" and one["digest"] == b and one["state"] == "done"
            ]
        )

    assert (found["outcome"], found["reason"]) == ("superseded", None)
    assert "was overwritten" in found["sentence"]


def test_a_repeated_report_does_not_lift_a_hold(start: Start, sandbox: EdgegapSandbox) -> None:
    config = RULE.replace("preflight = false", 'channels = ["staging"]') + NO_CATCH_UP
    at = int(time.time()) - 100
    with start(config=config) as here:
        here.ended(here.push("1.0", pushed_at=at))
        sandbox.misbehave(Fault("status", method="PATCH", status=400, message="no"))
        second = here.push("1.1", pushed_at=at + 10)
        here.ended(second)
        assert registration_of(here, second, "staging")["state"] == "parked"
        held = commands(here).json_of("promote", APP, "staging", "--to", "1.0", "--json")
        here.ended(held["delivery"])
        closed = registration_of(here, second, "staging")
        assert shown(here, "staging")["held"]["tag"] == "1.0"

        here.ended(here.push("1.1", pushed_at=at + 10))

        assert tag_of(sandbox, "staging") == "1.0", (closed["outcome"], closed["sentence"])
        assert shown(here, "staging")["held"] is not None


def test_drift_to_an_image_whose_trial_waits_for_a_server_is_found(
    start: Start, sandbox: EdgegapSandbox
) -> None:
    config = RULE.replace("preflight = false", 'channels = ["staging"]') + TRIAL
    config += channel_table("staging", 'needs = ["trial"]', "restore = true") + NO_CATCH_UP
    with start(config=config) as here:
        here.push("1.0")
        until(lambda: tag_of(sandbox, "staging") == "1.0")
        sandbox.deployments.quirks = DeploymentQuirks(limit=0)
        second = here.push("1.1")
        until(
            lambda: any(
                one["reason"] == "no_capacity" for one in here.details(second)["registrations"]
            )
        )
        sandbox.versions[APP, "staging"]["docker_tag"] = "1.1"
        compared_until(here, lambda: has(sandbox, "staging", "1.0"))


def test_what_an_unanswered_first_move_did_is_known(start: Start, sandbox: EdgegapSandbox) -> None:
    """`prod` exists at Edgegap, and this receiver never moved it."""
    config = RULE.replace("preflight = false", 'channels = ["staging"]')
    config += channel_table("prod", 'from = "staging"') + NO_CATCH_UP
    with start(config=config) as here:
        here.ended(here.push("0.9"))
        until(lambda: tag_of(sandbox, "prod") == "0.9")
        here.inside(
            lambda: here.ledger.write(
                lambda tx: [
                    tx.run(f"DELETE FROM {name} WHERE {column} = 'prod'").rowcount
                    for name, column in (
                        ("targets", "version"), ("channels", "name"),
                        ("channel_moves", "channel"), ("channel_reports", "channel"),
                    )
                ]
            )
        )  # fmt: skip
        sandbox.misbehave(
            Fault("slow", method="GET", path_contains="/version/prod", seconds=0),
            Fault("status", method="PATCH", path_contains="/version/prod", status=504, after=True),
            Fault("status", method="GET", path_contains="/version/prod", status=500, times=None),
        )
        second = here.push("1.1")
        until(lambda: tag_of(sandbox, "prod") == "1.1")
        until(lambda: registration_of(here, second, "prod").get("state") == "waiting")
        commands(here).json_of("rollback", APP, "staging", "--json")
        until(lambda: registration_of(here, second, "prod")["outcome"] == "superseded")
        sandbox.behave()

        compare(here)
        last = shown(here, "prod")

        assert last["tag"] or last["drift"], last


def test_a_trial_that_passes_after_a_failure_moves_the_channel(
    start: Start, sandbox: EdgegapSandbox
) -> None:
    config = RULE.replace("preflight = false", 'channels = ["staging"]')
    config += TRIAL.replace("steady_for", 'on_failure = "warn"\nsteady_for')
    config += channel_table("staging", 'needs = ["trial"]') + NO_CATCH_UP
    sandbox.deployments.set_lifecycle(version="1.0", ready_after=None)
    with start(config=config) as here:
        delivery = here.push("1.0")
        until(
            lambda: (
                registration_of(here, delivery, "staging")
                if any(
                    one["version"] == "staging" for one in here.details(delivery)["registrations"]
                )
                else None
            )
        )
        moved = registration_of(here, delivery, "staging")
        assert (
            "`receiver trial my-game VERSION`, with the name of its version, tries it again"
            in (moved["sentence"])
        )
        sandbox.deployments.set_lifecycle(version="1.0", ready_after=0.1)
        again = commands(here).json_of("trial", APP, "1.0", "--json")["delivery"]
        here.ended(again)

        until(lambda: has(sandbox, "staging", "1.0"))


def test_a_late_patch_is_put_back_while_another_move_waits(
    start: Start, sandbox: EdgegapSandbox
) -> None:
    config = RULE.replace("preflight = false", 'channels = ["staging"]')
    config += channel_table("staging", 'needs = ["approval"]') + NO_CATCH_UP
    with start(config=config) as here:

        def approved(tag: str) -> str:
            delivery = here.push(tag)
            until(lambda: registration_of(here, delivery, "staging")["reason"] == "needs_approval")
            approve_all(here)
            return delivery

        here.ended(approved("1.0"))
        sandbox.misbehave(Fault("status", method="PATCH", status=504))
        here.ended(approved("1.1"))
        here.ended(approved("1.2"))
        until(lambda: tag_of(sandbox, "staging") == "1.2")
        third = here.push("1.3")
        until(lambda: registration_of(here, third, "staging")["reason"] == "needs_approval")
        sandbox.versions[APP, "staging"]["docker_tag"] = "1.1"  # the first PATCH, carried out late
        compared_until(here, lambda: has(sandbox, "staging", "1.2"))

        until(lambda: shown(here, "staging")["drift"] is None)
        assert shown(here, "staging")["tag"] == "1.2"


def test_a_tag_overwritten_before_its_channel_moved_moves_nothing(
    start: Start, sandbox: EdgegapSandbox, hub: DockerHubSandbox
) -> None:
    config = RULE.replace("preflight = false", 'channels = ["staging"]') + NO_CATCH_UP
    with start(config=config) as here:
        sandbox.misbehave(
            Fault("status", method="GET", path_contains="/version/staging", status=500, times=None)
        )
        delivery = here.push("1.0")
        until(
            lambda: any(
                one["reason"] == "edgegap_error" for one in here.details(delivery)["registrations"]
            )
        )
        paused(here, delivery)
        hub.push_image(REPOSITORY, "1.0")
        sandbox.behave()
        here.inside(lambda: here.service.manual.resume(REPOSITORY, Source.PAGE))
        here.ended(delivery)
        found = registration_of(here, delivery, "staging")

        assert tag_of(sandbox, "staging") is None, found["notes"]


def test_a_trial_by_hand_does_not_lift_a_hold(start: Start, sandbox: EdgegapSandbox) -> None:
    """Its delivery counted as a new push of the version, above the one rolled back from."""
    config = RULE.replace("preflight = false", 'channels = ["staging"]') + TRIAL + NO_CATCH_UP
    with start(config=config) as here:
        for tag in ("1.0", "1.1"):
            here.push(tag)
            until(lambda tag=tag: has(sandbox, "staging", tag))  # type: ignore[misc]
        sandbox.deployments.set_lifecycle(version="1.2", ready_after=0.1, crash_after=0.3)
        bad = here.push("1.2")
        until(lambda: here.ended(bad)["state"] and len(here.details(bad)["registrations"]) > 1)
        assert registration_of(here, bad, "1.2")
        until(lambda: "trial_failed" in [o["reason"] for o in here.details(bad)["registrations"]])
        commands(here).json_of("dismiss", bad, "--json")
        here.ended(commands(here).json_of("rollback", APP, "staging", "--json")["delivery"])
        assert has(sandbox, "staging", "1.0")
        sandbox.deployments.set_lifecycle(version="1.2", ready_after=0.1)

        tried = commands(here).json_of("trial", APP, "1.2", "--json")["delivery"]

        held = registration_of(here, tried, "staging")
        assert "is held at 1.0" in held["sentence"]
        assert has(sandbox, "staging", "1.0")


def test_a_tag_that_is_pushed_again_is_tried_again_without_its_digest(
    start: Start, sandbox: EdgegapSandbox
) -> None:
    """The verdict on the image before counted for it."""
    moving = 'preflight = false\non_overwrite = "move"\nchannels = ["staging"]'
    config = RULE.replace("preflight = false", moving)
    config += TRIAL + channel_table("staging", 'needs = ["trial"]') + NO_CATCH_UP
    at = int(time.time()) - 100
    with start(config=config) as here:
        here.push("1.0", pushed_at=at)
        until(lambda: has(sandbox, "staging", "1.0"))
        here.ended(here.push("1.0", pushed_at=at))  # reported again: nothing new to try
        sandbox.deployments.set_lifecycle(version="1.0", ready_after=0.1, crash_after=0.3)

        again = here.push("1.0", pushed_at=at + 10)

        until(lambda: "trial_failed" in [o["reason"] for o in here.details(again)["registrations"]])
        assert [one.method for one in sandbox.calls].count("PATCH") == 0
        deployed = [one for one in sandbox.calls if one.path.endswith("/v2/deployments")]
        assert len([one for one in deployed if one.method == "POST"]) == 2

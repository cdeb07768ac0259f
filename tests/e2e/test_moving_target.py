"""A rule without versions of its own: a push only moves its channel, by one whole PATCH."""

from collections.abc import Iterator
from typing import Any

import pytest

from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from tests.support.receiver_here import ReceiverHere, hurried
from tests.support.receiver_process import RULE, until

APPS = (
    "absent",
    "present",
    "order",
    "queue",
    "broken",
    "own-settings",
    "by-name",
    "off",
    "loses",
    "again",
)
CONFIG = "".join(
    RULE.replace("studio/game-server", f"studio/{app}").replace(
        'app = "my-game"', f'app = "{app}"\nversions = false\nchannels = ["dev"]'
    )
    for app in APPS
)


@pytest.fixture(scope="module")
def edgegap() -> EdgegapSandbox:
    return EdgegapSandbox(apps=APPS)


@pytest.fixture(scope="module")
def running(
    edgegap: EdgegapSandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ReceiverHere]:
    with hurried(tmp_path_factory.mktemp("moving"), edgegap, CONFIG) as receiver:
        yield receiver


@pytest.fixture
def here(running: ReceiverHere, edgegap: EdgegapSandbox) -> ReceiverHere:
    edgegap.calls.clear()
    return running


def push(receiver: ReceiverHere, app: str, tag: str, at: int) -> str:
    return receiver.push_to(f"studio/{app}", tag, pushed_at=1_780_000_000 + at)


def outcome(receiver: ReceiverHere, app: str, tag: str, at: int) -> Any:
    return receiver.ended(push(receiver, app, tag, at))["outcome"]


def patches(sandbox: EdgegapSandbox) -> list[Any]:
    return [call.body for call in sandbox.calls if call.method == "PATCH"]


MOVED = {
    "docker_repository": "docker.io",
    "verify_image": True,
    "ports": [{"port": 7777, "protocol": "UDP", "name": "gameport"}],
}


def test_what_is_absent_is_created_once_and_then_moved(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    assert outcome(here, "absent", "1.0", 1) == "created"
    assert outcome(here, "absent", "1.1", 2) == "updated"
    assert outcome(here, "absent", "1.1", 2) == "unchanged"

    image = {"docker_image": "studio/absent", "docker_tag": "1.1"}
    assert patches(edgegap) == [{**MOVED, **image}]
    assert edgegap.versions["absent", "dev"]["docker_tag"] == "1.1"
    assert [name for app, name in edgegap.versions if app == "absent"] == ["dev"]


def test_a_repeated_report_gives_the_channel_the_rules_settings_but_moves_it_nowhere(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    """It was `unchanged` although the channel had no port any more."""
    assert outcome(here, "again", "1.0", 1) == "created"
    edgegap.versions["again", "dev"]["ports"] = []

    again = here.ended(push(here, "again", "1.0", 1))
    assert again["outcome"] == "updated"
    assert again["notes"] == ["it had the image already: only the rule's settings are new"]
    assert outcome(here, "again", "1.0", 1) == "unchanged"

    image = {"docker_image": "studio/again", "docker_tag": "1.0"}
    assert patches(edgegap) == [{**MOVED, **image}]


def test_resources_are_never_patched_and_the_difference_is_reported(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    edgegap.add_version(
        "present",
        "dev",
        docker_image="studio/present",
        docker_tag="0.9",
        req_cpu=512,
        req_memory=512,
        max_duration=33,
        verify_image=True,
    )

    ended = here.ended(push(here, "present", "1.0", 1))

    image = {"docker_image": "studio/present", "docker_tag": "1.0"}
    assert patches(edgegap) == [{**MOVED, **image}]
    assert ended["outcome"] == "updated"
    assert any("req_cpu stays 512" in note for note in ended["notes"])
    assert edgegap.versions["present", "dev"]["max_duration"] == 33


@pytest.mark.parametrize(("active", "tag"), [(False, "1.0"), ("false", "1.1"), (0, "1.2")])
def test_a_disabled_version_is_moved_with_a_warning(
    here: ReceiverHere, edgegap: EdgegapSandbox, active: object, tag: str
) -> None:
    edgegap.add_version("off", "dev", docker_image="studio/off", is_active=active)

    moved = here.ended(push(here, "off", tag, 1))
    again = here.ended(push(here, "off", tag, 1))

    assert (moved["outcome"], again["outcome"]) == ("updated", "unchanged")
    for ended in (moved, again):
        (note,) = ended["notes"]
        assert note.startswith("dev is disabled at Edgegap: no player can be sent there")


def test_what_a_move_loses_parks_it_although_the_rule_does_not_name_it(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    kept = [{"key": "K", "value": "canary"}, {"key": "MODE", "value": "a"}]
    edgegap.add_version("loses", "dev", docker_image="studio/loses", envs=kept)
    edgegap.quirks = edgegap.quirks.changed({"stores": {"envs": kept[1:]}})

    ended = here.ended(push(here, "loses", "1.0", 1))

    edgegap.quirks = edgegap.quirks.changed({"stores": {}})
    assert (ended["state"], ended["reason"]) == ("parked", "stored_differently")
    assert "Edgegap no longer holds the variables K" in ended["sentence"]
    assert "canary" not in ended["sentence"]


def test_it_is_moved_whatever_image_it_held(here: ReceiverHere, edgegap: EdgegapSandbox) -> None:
    edgegap.add_version("by-name", "dev", docker_repository="ghcr.io", docker_image="a/b")

    assert outcome(here, "by-name", "1.0", 1) == "updated"

    held = edgegap.versions["by-name", "dev"]
    assert [held[f"docker_{part}"] for part in ("repository", "image", "tag")] == [
        "docker.io",
        "studio/by-name",
        "1.0",
    ]


def test_a_push_older_than_what_it_holds_is_superseded_without_a_call(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    assert outcome(here, "order", "new", 50) == "created"
    here.wait_for_commits()
    edgegap.calls.clear()

    assert outcome(here, "order", "old", 49) == "superseded"

    assert edgegap.calls == []
    assert edgegap.versions["order", "dev"]["docker_tag"] == "new"


def test_of_those_that_wait_only_the_latest_moves_it_in_whatever_order_they_came(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    edgegap.misbehave(Fault("slow", method="GET", path_contains="/queue/"))
    first = push(here, "queue", "a", 1)
    until(lambda: edgegap.calls)
    deliveries = [push(here, "queue", tag, at) for tag, at in (("b", 20), ("d", 40), ("c", 30))]
    edgegap.proceed()

    outcomes = [here.ended(one)["outcome"] for one in [first, *deliveries]]

    assert outcomes == ["created", "superseded", "updated", "superseded"]
    assert edgegap.versions["queue", "dev"]["docker_tag"] == "d"


@pytest.mark.parametrize("kind", ["status", "reset", "garbage"])
def test_a_patch_that_worked_though_its_answer_broke_is_not_sent_again(
    here: ReceiverHere, edgegap: EdgegapSandbox, kind: Any
) -> None:
    edgegap.add_version("broken", "dev", docker_image="studio/broken")
    edgegap.misbehave(Fault(kind, method="PATCH", after=True))

    assert outcome(here, "broken", kind, 1) == "updated"
    assert len(patches(edgegap)) == 1


def test_a_patch_of_a_version_just_deleted_creates_it_again(
    here: ReceiverHere, edgegap: EdgegapSandbox
) -> None:
    edgegap.add_version("own-settings", "dev", docker_image="studio/own-settings")
    edgegap.misbehave(Fault("slow", method="PATCH"))
    delivery = push(here, "own-settings", "2.0", 1)
    until(lambda: patches(edgegap))
    del edgegap.versions["own-settings", "dev"]
    edgegap.proceed()

    assert here.ended(delivery)["outcome"] == "created"
    assert edgegap.versions["own-settings", "dev"]["docker_tag"] == "2.0"

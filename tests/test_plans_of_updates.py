"""A version that moves: what its PATCH holds; and what is told of versions."""

from typing import Any

import pytest

from receiver.edgegap.fields import RESOURCES
from receiver.edgegap.versions import (
    Plan,
    masked,
    newest,
    plan_creation,
    plan_update,
    same_image,
)
from receiver.reasons import Reason
from receiver.secret import Secret
from tests.planning import IMAGE, PORT, parked, planned, shown, wanted


def test_an_update_sends_only_the_new_tag() -> None:
    assert planned(plan_update(wanted(), shown(verify_image=True))).body == {"docker_tag": "1.1"}


def test_an_update_has_the_image_verified_unless_the_rule_says_not() -> None:
    assert planned(plan_update(wanted(), shown())).body["verify_image"] is True
    unverified = wanted(settings={"verify_image": False})
    assert planned(plan_update(unverified, shown())).body == {"docker_tag": "1.1"}


def test_an_update_never_sends_resources() -> None:
    settings = {"req_cpu": 2048, "req_memory": 4096, "req_video": 1024, "max_duration": 30}

    plan = planned(plan_update(wanted(settings=settings), shown()))

    assert plan.body["max_duration"] == 30
    assert not RESOURCES & set(plan.body)
    assert [note.split()[0] for note in plan.notes] == ["req_cpu", "req_memory", "req_video"]


def test_nothing_new_is_an_empty_update() -> None:
    current = shown(docker_tag="1.1", ports=[{**PORT, "protocol": "Websocket"}])
    settings = {
        "req_cpu": 1024,
        "max_duration": 60,
        "ports": [{"port": 7777, "protocol": "WS", "name": "gameport"}],
        "envs": [{"key": "MODE", "value": "prod"}],
    }
    same = wanted(settings=settings, username="studio-ci", token=Secret("canary-token"))

    assert planned(plan_update(same, current)) == Plan(body={})


@pytest.mark.parametrize(
    "settings",
    [
        {"ports": [{"port": 7778, "protocol": "UDP", "name": "gameport"}]},
        {"ports": [{**PORT, "to_check": False}]},
        {"ports": [PORT, {"port": 7778, "protocol": "UDP"}]},
        {"force_cache": True},
        {"restart_policy": "always"},
        {"dns_config": "mine"},
    ],
)
def test_an_update_sends_whole_what_changed(settings: dict[str, Any]) -> None:
    current = shown(docker_tag="1.1", verify_image=True)

    assert planned(plan_update(wanted(settings=settings), current)).body == settings


def test_an_update_sends_a_new_registry_login() -> None:
    current = shown(docker_tag="1.1", verify_image=True)

    plan = planned(plan_update(wanted(username="studio-ci", token=Secret("new")), current))

    assert plan.body == {"private_token": "new"}


def test_an_update_of_variables_keeps_the_others_or_parks() -> None:
    own = wanted(settings={"envs": [{"key": "NEW", "value": "1"}]})
    hidden = shown(envs=[{"key": "DB_PASSWORD", "is_hidden": True}])

    body = planned(plan_update(own, shown())).body
    assert [env["key"] for env in body["envs"]] == ["MODE", "NEW"]
    assert parked(plan_update(own, hidden)).reason is Reason.HIDDEN_ENV
    assert "envs" not in planned(plan_update(wanted(), hidden)).body


# What is there


@pytest.mark.parametrize(
    ("field", "value", "same"),
    [
        ("docker_repository", "index.docker.io", True),
        ("docker_repository", "ghcr.io", False),
        ("docker_repository", None, False),
        ("docker_image", "studio/other", False),
        ("docker_image", "Studio/game", False),
        ("docker_tag", "1.0", False),
        ("name", "another name", True),
    ],
)
def test_the_same_image_is_registry_repository_and_tag(field: str, value: Any, same: bool) -> None:
    assert same_image(shown(**{"docker_tag": "1.1", field: value}), IMAGE) is same


def test_the_newest_version_is_the_one_made_last_whatever_the_order() -> None:
    rows = [
        {"name": name, "create_time": time}
        for name, time in [
            ("b", "2026-10-09 15:31:02.283949"),
            ("c", "2026-10-09T16:31:02+00:00"),
            ("a", "2026-10-09 15:31:02"),
            ("unreadable", "last week"),
            ("none", None),
        ]
    ]

    assert newest(rows) == rows[1]
    assert newest(reversed(rows)) == rows[1]
    assert newest([]) is None


def test_masking_leaves_no_secret_to_show() -> None:
    body = planned(
        plan_creation(
            wanted(), shown(envs=[{"key": "MODE", "value": "canary-env", "is_hidden": False}])
        )
    ).body

    told = masked(body)

    assert "canary" not in str(told)
    assert "canary" not in repr(Plan(body))
    assert told["private_username"] == "studio-ci"
    assert told["envs"][0]["key"] == "MODE"
    assert body["private_token"] == "canary-token"

"""A version that moves: what its PATCH holds; and what is reported of versions."""

from dataclasses import replace
from typing import Any

import pytest

from receiver.edgegap.fields import RESOURCES
from receiver.edgegap.plans import (
    Plan,
    hidden_values,
    masked,
    newest,
    plan_creation,
    plan_update,
    same_image,
)
from receiver.reasons import Reason
from receiver.secret import Secret
from tests.support.plans import IMAGE, PORT, parked, planned, shown, wanted

MOVED = {
    "docker_repository": "docker.io",
    "docker_image": "studio/game",
    "docker_tag": "1.1",
    "verify_image": True,
}


def test_a_move_sends_the_image_and_has_it_verified_unless_the_rule_says_not() -> None:
    assert planned(plan_update(wanted(), shown())).body == MOVED
    unverified = wanted(settings={"verify_image": False})
    assert planned(plan_update(unverified, shown())).body == {**MOVED, "verify_image": False}


def test_a_move_never_sends_resources() -> None:
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
        "verify_image": True,  # a wish of one call: what Edgegap answers of it says nothing
    }
    same = wanted(settings=settings, username="studio-ci", token=Secret("canary-token"))
    hidden = shown(docker_tag="1.1", private_token="This value is set and encrypted")

    assert planned(plan_update(same, current)) == Plan(body={})
    login = wanted(username="studio-ci", token=Secret("canary-token"))
    assert planned(plan_update(login, hidden)) == Plan(body={})
    assert planned(plan_update(login, hidden, resend=True)).body["private_token"] == "canary-token"


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
def test_a_change_of_one_setting_sends_all_of_the_rule(settings: dict[str, Any]) -> None:
    current = shown(docker_tag="1.1")
    rules = {"max_duration": 60, **settings}

    assert planned(plan_update(wanted(settings=rules), current)).body == {**MOVED, **rules}


def test_a_move_sends_a_new_registry_login() -> None:
    login = {"private_username": "studio-ci", "private_token": "new"}
    given = wanted(username="studio-ci", token=Secret("new"))

    assert planned(plan_update(given, shown(docker_tag="1.1"))).body == {**MOVED, **login}


def test_a_move_sends_every_variable_of_the_rule_hidden_ones_too() -> None:
    """A rotated secret never arrived: what cannot be read was treated as unchanged."""
    env = {"key": "DB", "value": "rotated", "is_hidden": True}
    hidden = shown(envs=[{"key": "DB", "value": "", "is_hidden": True}])

    body = planned(plan_update(wanted(settings={"envs": [env]}), hidden)).body

    assert body == {**MOVED, "envs": [env]}


def test_the_values_that_cannot_be_read_again_are_one_text_to_hash() -> None:
    env = {"key": "DB", "value": "first", "is_hidden": True}
    shown_ones = {"envs": [{"key": "MODE", "value": "prod"}]}

    first = hidden_values(wanted(settings={"envs": [env]}))

    assert hidden_values(wanted()) == hidden_values(wanted(settings=shown_ones)) == ""
    assert first != hidden_values(wanted(settings={"envs": [{**env, "value": "second"}]}))
    assert first != hidden_values(
        wanted(settings={"envs": [env]}, username="a", token=Secret("login"))
    )


def test_an_update_of_variables_keeps_the_others_or_parks() -> None:
    own = wanted(settings={"envs": [{"key": "NEW", "value": "1"}]})
    hidden = shown(envs=[{"key": "DB_PASSWORD", "is_hidden": True}])

    body = planned(plan_update(own, shown())).body
    assert [env["key"] for env in body["envs"]] == ["MODE", "NEW"]
    assert parked(plan_update(own, hidden)).reason is Reason.HIDDEN_ENV
    assert "envs" not in planned(plan_update(wanted(), hidden)).body


# What is there


@pytest.mark.parametrize("change", [{"envs": None}, None])
def test_variables_that_an_answer_leaves_out_are_not_erased(change: Any) -> None:
    current = shown(**change) if change else {k: v for k, v in shown().items() if k != "envs"}
    own = wanted(settings={"envs": [{"key": "NEW", "value": "1"}]})

    parking = parked(plan_update(own, current))

    assert parking.reason is Reason.SETTINGS_NOT_COPIED
    assert "envs" not in planned(plan_update(wanted(), current)).body
    assert 'leave_out = ["envs"]' in parking.sentence
    accepted = replace(own, leave_out=("envs",))
    assert planned(plan_update(accepted, current)).body["envs"] == own.settings["envs"]


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
            ("d", "Fri, 09 Oct 2026 16:00:00 GMT"),
            ("unreadable", "last week"),
            ("none", None),
        ]
    ]

    assert newest(rows) == rows[1]
    assert newest(reversed(rows)) == rows[1]
    assert newest([]) is None
    later = {"name": "e", "create_time": "Fri, 09 Oct 2026 17:00:00 GMT"}
    assert newest([*rows, later]) == later


def test_masking_leaves_no_secret_to_show() -> None:
    body = planned(
        plan_creation(
            wanted(), shown(envs=[{"key": "MODE", "value": "canary-env", "is_hidden": False}])
        )
    ).body

    answer = masked(body)

    assert "canary" not in str(answer)
    assert "canary" not in repr(Plan(body))
    assert answer["private_username"] == "studio-ci"
    assert answer["envs"][0]["key"] == "MODE"
    assert body["private_token"] == "canary-token"

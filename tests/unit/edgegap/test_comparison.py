"""What Edgegap holds after a request, compared with what it asked."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.edgegap.comparison import Comparison, compare, differences
from receiver.edgegap.fields import PLACEHOLDER
from tests.support.plans import PORT, shown

ASKED: dict[str, Any] = {
    "name": "1.1",
    "docker_tag": "1.1",
    "private_token": "canary-token",
    "is_active": True,
    "req_cpu": 1024,
    "req_memory": 2048,
    "verify_image": True,
    "force_cache": True,
    "time_to_deploy": 30,
    "max_duration": 60,
    "restart_policy": "never",
    "ports": [PORT, {"port": 9000, "protocol": "WS"}],
    "envs": [
        {"key": "MODE", "value": "canary-mode"},
        {"key": "DB", "value": "canary-db", "is_hidden": True},
    ],
}
HIDDEN = {"key": "DB", "value": PLACEHOLDER, "is_hidden": True}
MODE = {"key": "MODE", "value": "canary-mode", "is_hidden": False}
WEB = {**PORT, "port": 9000, "protocol": "Websocket", "name": "9000"}


def held(**changes: Any) -> dict[str, Any]:
    """The version as it is stored, as a GET shows it."""
    stored = {**ASKED, "ports": [WEB, PORT], "envs": [HIDDEN, MODE], "verify_image": False}
    return shown(**{**stored, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"time_to_deploy": 10},
        {"req_cpu": "1024", "req_memory": 2048.0, "max_duration": "60.0"},
        {"is_active": "true", "restart_policy": "Never", "force_cache": 1},
        {"ports": [{**PORT, "port": "7777", "protocol": "udp"}, {**WEB, "protocol": "WebSocket"}]},
        {"ports": [{"port": 7777, "protocol": "UDP", "name": "gameport"}, {**WEB, "name": None}]},
        {"private_username": None, "private_token": PLACEHOLDER},
        {"envs": [MODE, {"key": "DB", "is_hidden": True}]},
        {"envs": [MODE, {"key": "DB", "value": "", "is_hidden": True}]},
        {"envs": [MODE, {"key": "DB", "value": PLACEHOLDER}]},
        {"envs": [MODE, {"key": "DB", "value": "gAAAAABo", "is_secret": True}]},
        {"envs": [MODE, HIDDEN, {"key": "EDGEGAP_ADDED", "value": "1"}]},
        {"command": "/start.sh", "session_config": {"kind": "Seat"}},
    ],
)
def test_what_is_only_shown_otherwise_is_no_difference(changes: dict[str, Any]) -> None:
    assert compare(ASKED, held(**changes)) == Comparison()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"req_cpu": 512}, "asked for req_cpu 1024, Edgegap holds 512"),
        ({"req_memory": "1024"}, "asked for req_memory 2048, Edgegap holds 1024"),
        ({"is_active": False}, "asked for is_active True, Edgegap holds False"),
        ({"max_duration": 5}, "asked for max_duration 60, Edgegap holds 5"),
        ({"restart_policy": "always"}, "asked for restart_policy never, Edgegap holds always"),
        ({"ports": []}, "9000/WS, Edgegap holds no port"),
        ({"ports": None}, "Edgegap holds no port"),
        ({"ports": [PORT]}, 'Edgegap holds the ports 7777/UDP "gameport"'),
        ({"ports": [WEB, {**PORT, "port": 7778}]}, '7778/UDP "gameport"'),
        ({"ports": [WEB, {**PORT, "protocol": "TCP"}]}, '7777/TCP "gameport"'),
        ({"ports": [WEB, {**PORT, "name": "game"}]}, '7777/UDP "game"'),
        ({"ports": [{**WEB, "tls_upgrade": True}, PORT]}, '9000/WS "9000" with tls_upgrade'),
        ({"envs": []}, "Edgegap does not hold the variables MODE, DB"),
        ({"envs": None}, "Edgegap does not hold the variables MODE, DB"),
        ({"envs": [MODE, {**HIDDEN, "key": "D_B"}]}, "the variables DB; it holds D_B"),
        ({"envs": [HIDDEN, {**MODE, "value": "canary"}]}, "MODE has another value than sent"),
        ({"envs": [MODE, {"key": "DB", "value": "canary-2"}]}, "DB has another value than sent"),
        ({"envs": [MODE, {"key": "DB", "value": "", "is_hidden": False}]}, "DB has another value"),
    ],
)
def test_what_players_would_notice_is_named_with_both_values(
    changes: dict[str, Any], said: str
) -> None:
    found = compare(ASKED, held(**changes))

    (sentence,) = found.noticed
    assert said in sentence
    assert "canary" not in sentence
    if "ports" in changes:
        assert 'asked for the ports 7777/UDP "gameport", 9000/WS' in sentence


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"force_cache": False}, "asked for force_cache True, Edgegap holds False"),
        ({"restart_policy": None}, "asked for restart_policy never, Edgegap holds nothing"),
        ({"req_cpu": None}, "asked for req_cpu 1024, Edgegap holds nothing"),
        ({"time_to_deploy": 60}, "asked for time_to_deploy 30, Edgegap holds 60"),
        ({"ports": [WEB, {**PORT, "to_check": False}]}, "is not checked"),
        ({"ports": [WEB, {**PORT, "name": None}]}, '7777/UDP "gameport" without a name'),
        (
            {"ports": [WEB, PORT, {**PORT, "port": 1, "name": "b"}]},
            "also holds the ports 1/UDP",
        ),
        ({"envs": [{**MODE, "value": None}, HIDDEN]}, "not return the values of MODE"),
        ({"envs": [{**MODE, "value": "****"}, HIDDEN]}, "not return the values of MODE"),
    ],
)
def test_other_differences_are_notes(changes: dict[str, Any], said: str) -> None:
    found = compare(ASKED, held(**changes))

    assert found.noticed == ()
    (note,) = found.notes
    assert said in note


@pytest.mark.parametrize(
    "entry",
    [
        {"value": "canary-db", "is_hidden": True},
        {"value": "canary-db", "is_hidden": False},
        {"value": "canary-db"},
    ],
)
def test_a_hidden_variable_in_clear_is_named_and_its_value_is_not(entry: dict[str, Any]) -> None:
    found = compare(ASKED, held(envs=[MODE, {"key": "DB", **entry}]))

    assert (found.noticed, found.readable) == ((), ("DB",))
    (warning,) = found.notes
    assert "the hidden variables DB in clear" in warning
    assert "canary" not in warning


def test_only_what_was_asked_is_compared() -> None:
    assert differences({"max_duration": 60}, held(ports=[], envs=[], req_cpu=1)) == []


@pytest.mark.parametrize(
    ("name", "asked", "other"),
    [
        ("termination_grace_period_seconds", 60, 5),
        ("will_deploy_in_mainland_china", True, False),
        ("dns_config", "10.0.0.1", "10.0.0.2"),
    ],
)
def test_a_setting_by_which_players_play_is_noticed(name: str, asked: Any, other: Any) -> None:
    assert len(compare({name: asked}, {name: other}).noticed) == 1
    assert compare({name: asked}, {}).noticed == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"envs": [HIDDEN]}, "no longer holds the variables MODE"),
        ({"envs": [MODE]}, "no longer holds the variables DB"),
        ({"envs": None}, "no longer holds the variables DB, MODE"),
        ({"envs": [HIDDEN, {**MODE, "value": "canary-2"}]}, "MODE have other values than before"),
        ({"ports": [PORT]}, "before it had the ports"),
        ({"max_duration": 5}, "before it had max_duration 60, Edgegap holds 5"),
        ({"is_active": False}, "before it had is_active True, Edgegap holds False"),
    ],
)
def test_what_a_patch_does_not_name_is_to_stay(changes: dict[str, Any], said: str) -> None:
    (sentence,) = compare({"docker_tag": "1.1"}, held(**changes), held()).noticed

    assert said in sentence
    assert "canary" not in sentence


def test_what_stays_or_is_shown_otherwise_after_a_patch_is_no_difference() -> None:
    now = held(envs=[MODE, {**HIDDEN, "value": None}, {"key": "NEW", "value": "1"}])

    assert compare({"docker_tag": "1.1"}, now, held()) == Comparison()
    assert compare({"envs": []}, held(envs=[]), held()) == Comparison()


ANY = st.none() | st.booleans() | st.integers() | st.text() | st.floats() | st.lists(st.text())


@given(
    st.dictionaries(st.sampled_from([*ASKED]), ANY),
    st.lists(st.dictionaries(st.sampled_from([*PORT, "key", "value", "is_hidden"]), ANY)),
)
def test_whatever_is_shown_it_is_compared_and_no_value_of_a_variable_is_shown(
    changes: dict[str, Any], entries: list[Any]
) -> None:
    for stored in (held(**changes), held(ports=entries), held(envs=[*entries, "x", MODE])):
        assert "canary" not in "".join(differences(ASKED, stored))


@pytest.mark.parametrize("name", ["ports", "envs"])
def test_what_an_answer_leaves_out_is_not_said_to_be_missing(name: str) -> None:
    asked = {"ports": [{"port": 7777, "protocol": "UDP"}], "envs": [MODE]}

    (noticed,) = compare({name: asked[name]}, {"name": "1.0"}).noticed

    assert f"leaves out its {name}" in noticed

"""The [[rule]] tables: each key read, each fault reported with its rule."""

from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.config.model import RuleTable
from receiver.config.rule_tables import env_values
from receiver.config.tables import keys_of
from receiver.errors import ConfigIssue
from receiver.images import Login
from receiver.rules.rule import OnOverwrite, Rule
from receiver.rules.tag_patterns import Globs, parse_tag_pattern
from receiver.rules.trial import OnFailure, Trial
from receiver.secret import Secret
from tests.support.tables import read_rules

KEYS = tuple(keys_of(RuleTable))
ENVIRON = {"LOBBY_USER": "lobby", "LOBBY_TOKEN": "canary-token", "GAME_DB": "canary-env"}
DEFAULT = Login("studio", Secret("pull-only"))


def table(**more: Any) -> dict[str, Any]:
    return {"repository": "studio/game", "app": "my-game", **more}


def read(*tables: Any) -> tuple[tuple[Rule, ...], list[ConfigIssue]]:
    return read_rules(list(tables), ENVIRON, DEFAULT)


def rule(**more: Any) -> Rule:
    (found,), faults = read(table(**more))
    assert faults == []
    return found


def places(**more: Any) -> list[str]:
    _, faults = read(table(**more))
    assert "canary" not in str(faults)
    return [fault.where for fault in faults]


def test_two_lines_are_enough() -> None:
    assert rule() == Rule(
        repository="studio/game",
        app="my-game",
        name="studio/game → my-game",
        tags=Globs(),
        version="{tag}",
        copy_from="newest",
        on_overwrite=OnOverwrite.WARN,
        preflight=True,
        login=DEFAULT,
    )


def test_every_key_is_read() -> None:
    whole = {
        "name": "lobby builds",
        "tags": ["v*", "!*-rc*"],
        "version": "{project}",
        "versions": True,
        "copy_from": "1.0",
        "on_overwrite": "park",
        "preflight": True,
        "max_image": "1.5 GB",
        "channels": ["staging"],
        "pull_profiles": ["bucket/maps", "bucket/maps", "logs/mods"],
        "keep": 10,
        "pin": ["1.0*"],
        "make_room": True,
        "leave_out": ["whitelisting_active"],
        "login": {"username_env": "LOBBY_USER", "token_env": "LOBBY_TOKEN"},
        "trial": {
            "at": "203.0.113.7",
            "ready_within": "2m",
            "steady_for": "30s",
            "on_failure": "warn",
            "keep_failed": "10m",
        },
        "settings": {"req_cpu": 512, "req_memory": 1024},
    }

    assert set(table(**whole)) == set(KEYS)
    assert rule(**whole) == Rule(
        "studio/game",
        "my-game",
        "lobby builds",
        tags=parse_tag_pattern(["v*", "!*-rc*"]),
        version="{project}",
        copy_from="1.0",
        on_overwrite=OnOverwrite.PARK,
        max_image=1_500_000_000,
        channels=("staging",),
        pull_profiles=("bucket/maps", "logs/mods"),
        keep=10,
        pin=("1.0*",),
        make_room=True,
        leave_out=("whitelisting_active",),
        login=Login("lobby", Secret("canary-token"), "LOBBY_USER and LOBBY_TOKEN"),
        trial=Trial(ip_address("203.0.113.7"), 120_000, 30_000, OnFailure.WARN, 600_000),
        settings={"req_cpu": 512, "req_memory": 1024},
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("repository", None),
        ("repository", "Studio/Game"),
        ("repository", "docker.io/studio/game"),
        ("repository", "studio/game:1.0"),
        ("app", None),
        ("app", "no"),
        ("app", "x" * 65),
        ("name", ""),
        ("name", "two\nlines"),
        ("tags", ["v["]),
        ("tags", {"semver": "one"}),
        ("version", "{tag.x}"),
        ("version", "a b"),
        ("copy_from", 1),
        ("versions", "no"),
        ("on_overwrite", True),
        ("preflight", "no"),
        ("max_image", 4),
        ("max_image", "4GiB"),
        ("max_image", "0MB"),
        ("channels", "staging"),
        ("channels", [""]),
        ("channels", ["two words"]),
        ("channels", ["x" * 65]),
        ("pull_profiles", "bucket/maps"),
        ("pull_profiles", ["maps"]),
        ("pull_profiles", ["bucket/two words"]),
        ("pull_profiles", ["bucket/"]),
        ("keep", 0),
        ("keep", True),
        ("keep", "10"),
        ("pin", [1]),
        ("make_room", 1),
        ("leave_out", "command"),
        ("leave_out", ["req_cpu"]),
        ("login", "lobby"),
        ("login", {"username_env": "LOBBY_USER"}),
        ("login", {"username_env": "LOBBY_USER", "token_env": "NOT_SET"}),
        ("login", {"username_env": "NOT_SET", "token_env": "LOBBY_TOKEN"}),
        ("settings", []),
        ("tag", "v1"),
    ],
)
def test_a_fault_names_the_rule_and_the_key(key: str, value: object) -> None:
    assert places(**{key: value}) == [f"rule 1{_named(key, value)}, {key}"]


def test_without_preflight_no_size_is_known() -> None:
    assert places(max_image="4GB", preflight=False) == ["rule 1, max_image"]


def _named(key: str, value: object) -> str:
    return f" ({value})" if key == "name" else ""


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"req_cpus": 1}, "settings.req_cpus"),
        ({"docker_tag": "1.0"}, "settings.docker_tag"),
        ({"private_token": "canary"}, "settings.private_token"),
        ({"req_cpu": 99}, "settings.req_cpu"),
        ({"req_cpu": 512, "req_memory": 1025}, "settings"),
        ({"ports": [{"port": 1, "protocol": "UPD"}]}, "settings.ports"),
        ({"envs": "A=canary"}, "settings.envs"),
        ({"envs": [{"key": "A"}]}, "settings.envs"),
        ({"envs": [{"key": "A", "value_from": "NOT_SET"}]}, "settings.envs"),
        ({"envs": [{"key": "A", "value": "b", "value_from": "GAME_DB"}]}, "settings.envs"),
        ({"envs": [{"key": "A", "value_from": "GAME_DB", "hidden": True}]}, "settings.envs"),
        ({"envs": [{"value_from": "GAME_DB"}]}, "settings.envs"),
    ],
)
def test_a_fault_of_a_setting_names_it(settings: dict[str, Any], where: str) -> None:
    assert f"rule 1, {where}" in places(settings=settings)


def test_a_protocol_may_be_spelt_as_people_do() -> None:
    ports = [{"port": 1, "protocol": "udp"}, {"port": 2, "protocol": "Websocket"}]

    found = rule(settings={"ports": ports}).settings["ports"]

    assert found == [{"port": 1, "protocol": "UDP"}, {"port": 2, "protocol": "WS"}]


def test_an_unknown_key_of_a_variable_is_called_unknown() -> None:
    env = {"key": "A", "value_from": "GAME_DB", "hidden": True}

    _, faults = read(table(settings={"envs": [env]}))

    assert [fault.what for fault in faults] == [
        "envs has the unknown key 'hidden'; there are key, value, is_hidden"
    ]


def test_a_variable_takes_its_value_from_the_environment() -> None:
    env = {"key": "DB", "value_from": "GAME_DB", "is_hidden": True}

    found = rule(settings={"envs": [env, {"key": "MODE", "value": "prod"}]})

    assert found.settings["envs"] == [
        {"key": "DB", "is_hidden": True, "value": "canary-env"},
        {"key": "MODE", "value": "prod"},
    ]
    assert env_values([found]) == ["canary-env", "prod"]
    assert "canary" not in repr(found)


def test_a_rule_may_create_no_version_and_move_channels_only() -> None:
    found = rule(versions=False, channels=["dev", "dev"])

    assert (found.versions, found.channels) == (False, ("dev",))
    assert places(versions=False) == ["rule 1, versions"]


def test_a_rules_own_version_and_its_channel_cannot_have_one_name() -> None:
    assert places(version="dev", channels=["dev"]) == ["rule 1, channels"]
    assert places(version="dev", versions=False, channels=["dev"]) == []


def test_faults_of_all_rules_are_reported_at_once_by_number() -> None:
    _, faults = read(table(versions="x"), 7, table(name="third", keep=-1, tags=7))

    assert [fault.where for fault in faults] == [
        "rule 1, versions",
        "rule 2, repository",
        "rule 2, app",
        "rule 3 (third), tags",
        "rule 3 (third), keep",
    ]


def test_two_rules_of_one_name_are_a_fault() -> None:
    _, faults = read(table(name="same"), table(name="other"), table(name="same"))

    assert [(fault.where, "rule 1" in fault.what) for fault in faults] == [("rule 3", True)]


@pytest.mark.parametrize("tables", [None, 7, "rule", {"repository": "studio/game"}])
def test_rules_that_are_no_list_of_tables_are_a_fault(tables: object) -> None:
    rules, faults = read_rules(tables, {}, None)

    assert rules == ()
    assert [fault.where for fault in faults] == ["rule"]


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["key", "value", "value_from", "port", "semver", "envs", "ports"]),
            inner,
        )
    ),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(KEYS), VALUES))
def test_any_table_is_a_rule_or_has_faults(strange: dict[str, Any]) -> None:
    rules, faults = read({**table(), **strange})

    assert len(rules) == 1
    assert all(fault.where.startswith("rule 1") and fault.hint for fault in faults)
    assert all(isinstance(value, str) for value in env_values(rules))

"""The settings of a version as TOML: what `receiver check` accepts, and what gives them back."""

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from receiver.edgegap.fields import SETTINGS
from receiver.edgegap.sent_settings import SentSettings, Variable, sent_settings, shown_settings
from receiver.edgegap.settings_toml import settings_toml, variable_names
from receiver.errors import ConfigIssue
from receiver.rules.rule import Rule
from receiver.secret import Secret
from tests.support.tables import read_rules

KEYS = (Secret("a-key-0123456789-0123456789"),)
HEAD = '[[rule]]\nrepository = "studio/game"\napp = "my-game"\n'
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)


def read(text: str) -> tuple[Rule, list[ConfigIssue]]:
    table = tomllib.loads(text)
    envs = table.get("rule", [{}])[0].get("settings", {}).get("envs", [])
    environ = {env["value_from"]: f"value of {env['key']}" for env in envs}
    (rule,), faults = read_rules(table["rule"], environ, None)
    return rule, faults


def exported(settings: SentSettings, title: str = "my-game/1.0") -> str:
    table = "[rule.settings]"
    above, found, below = settings_toml(settings, title).rpartition(f"\n{table}\n")
    return f"{above}\n{HEAD}{found.lstrip()}{below}"


def test_it_gives_back_what_was_sent() -> None:
    body: dict[str, Any] = {
        "docker_repository": "docker.io",
        "docker_image": "studio/game",
        "docker_tag": "1.0",
        "is_active": True,
        "req_cpu": 1024,
        "req_memory": 2048,
        "restart_policy": "never",
        "force_cache": False,
        "ports": [{"port": 7777, "protocol": "UDP", "name": 'the "game" port', "to_check": False}],
        "envs": [
            {"key": "DB", "value": "canary", "is_hidden": True},
            {"key": "DATABASE_URL", "value": "canary", "is_hidden": False},
        ],
    }
    text = exported(sent_settings(body, KEYS, pull_profiles=["bucket/maps"]))

    rule, faults = read(text)

    assert faults == []
    assert "canary" not in text
    assert '# In the table [[rule]]: pull_profiles = ["bucket/maps"]' in text
    assert "# Set for the receiver: GAME_DB, GAME_DATABASE_URL" in text
    kept = {name: body[name] for name in ("req_cpu", "req_memory", "restart_policy", "force_cache")}
    assert rule.settings == {
        **kept,
        "ports": body["ports"],
        "envs": [
            {"key": "DB", "value": "value of DB", "is_hidden": True},
            {"key": "DATABASE_URL", "value": "value of DATABASE_URL"},
        ],
    }


def test_what_the_configuration_refuses_is_a_comment() -> None:
    settings = {"req_cpu": 256, "req_memory": 2048, "time_to_deploy": 10}
    ports = tuple({"port": 7777, "protocol": kind} for kind in ("UDP", "TCP"))

    text = exported(SentSettings("docker.io/a/b:1", settings, ports))

    rule, faults = read(text)
    assert (rule.settings, faults) == ({}, [])
    assert "# time_to_deploy: time_to_deploy 10 is under 15" in text
    assert "# ports: port 7777 is twice in ports" in text
    assert text.count("is over twice req_cpu 256") == 2


@given(st.lists(TEXTS, unique=True))
def test_each_variable_has_a_name_of_its_own(keys: list[str]) -> None:
    names = variable_names(keys)

    assert list(names) == keys
    assert len(set(names.values())) == len(keys)
    assert all(name.startswith("GAME_") and name.isascii() for name in names.values())


JSON = st.none() | st.booleans() | st.integers(-1, 70_000) | st.floats() | TEXTS
PORTS = st.lists(
    st.fixed_dictionaries(
        {"port": st.integers(-1, 70_000), "protocol": st.sampled_from(["UDP", "WS", "TCP/UDP"])},
        optional={"name": TEXTS, "to_check": st.booleans(), "tls_upgrade": st.booleans()},
    ),
    max_size=3,
)
ENVS = st.lists(
    st.fixed_dictionaries({"key": TEXTS, "value": TEXTS}, optional={"is_hidden": st.booleans()}),
    max_size=3,
)


@given(st.dictionaries(st.sampled_from([*SETTINGS]), JSON), PORTS, ENVS, TEXTS)
def test_whatever_edgegap_shows_is_exported_as_what_check_accepts(
    version: dict[str, Any], ports: list[Any], envs: list[Any], title: str
) -> None:
    shown = shown_settings({**version, "ports": ports, "envs": envs}, KEYS)
    text = exported(shown, title)

    _, faults = read(text)

    assert faults == []


def test_a_key_that_is_there_twice_is_written_once() -> None:
    twice = SentSettings("docker.io/a/b:1", variables=(Variable("A"), Variable("A")))

    rule, faults = read(exported(twice))

    assert faults == []
    assert rule.settings["envs"] == [{"key": "A", "value": "value of A"}]

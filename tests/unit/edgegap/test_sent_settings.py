"""What is kept of a request: no secret, enough to compare two versions and to write TOML."""

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.edgegap.fields import SETTINGS
from receiver.edgegap.sent_settings import (
    Difference,
    Seen,
    SentSettings,
    Variable,
    decode,
    differences,
    encode,
    sent_settings,
    settings_toml,
    shown_settings,
    variable_names,
)
from receiver.errors import ConfigIssue
from receiver.rules.rule import Rule
from receiver.secret import Secret
from tests.support.tables import read_rules

KEYS = (Secret("canary-old-key-0123456"), Secret("canary-new-key-0123456"))
PORT = {"port": 7777, "protocol": "UDP", "name": "gameport"}
BODY: dict[str, Any] = {
    "name": "1.0",
    "docker_repository": "docker.io",
    "docker_image": "studio/game",
    "docker_tag": "1.0",
    "private_username": "canary-user",
    "private_token": "canary-token",
    "is_active": True,
    "verify_image": True,
    "req_cpu": 1024,
    "max_duration": 60,
    "ports": [PORT],
    "envs": [
        {"key": "MODE", "value": "canary-mode", "is_hidden": False},
        {"key": "DB", "value": "canary-db", "is_hidden": True},
    ],
}
VALUES = st.text(min_size=6).map(lambda text: f"canary-{text}")
OLD, NEW = Secret("canary-old-key-0123456"), Secret("canary-new-key-0123456")
IMAGE = "docker.io/studio/game"
COMPARED_PORT: dict[str, Any] = {"port": 7777, "protocol": "UDP", "name": "game"}
COMPARED: dict[str, Any] = {
    "docker_repository": "docker.io",
    "docker_image": "studio/game",
    "docker_tag": "1.0",
    "private_username": "canary-user",
    "private_token": "canary-token",
    "max_duration": 60,
    "ports": [COMPARED_PORT],
    "envs": [
        {"key": "MODE", "value": "canary-mode", "is_hidden": False},
        {"key": "DB", "value": "canary-db", "is_hidden": True},
    ],
}
SHOWN = {
    **COMPARED,
    "private_token": "*****",
    "envs": [COMPARED["envs"][0], {"key": "DB", "value": "", "is_hidden": True}],
}
KEY = (Secret("a-key-0123456789-0123456789"),)
HEAD = '[[rule]]\nrepository = "studio/game"\napp = "my-game"\n'
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)


def variables(found: SentSettings) -> dict[str, Variable]:
    return {one.key: one for one in found.variables}


def test_settings_and_ports_are_kept_and_no_value_of_a_variable() -> None:
    found = sent_settings(BODY, KEYS, pull_profiles=["bucket/maps"], size=7)

    assert found.image == "docker.io/studio/game:1.0"
    assert found.tag == "1.0"
    assert found.settings == {"is_active": True, "req_cpu": 1024, "max_duration": 60}
    assert found.ports == (PORT,)
    assert [(one.key, one.is_hidden) for one in found.variables] == [("MODE", False), ("DB", True)]
    assert (found.pull_profiles, found.size) == (("bucket/maps",), 7)
    assert all(one.hash for one in found.variables)
    assert found.login
    assert "canary" not in encode(found)
    assert decode(encode(found)) == found


@given(st.lists(st.tuples(st.text(min_size=1), VALUES, st.booleans()), max_size=5), VALUES)
def test_no_value_is_in_what_is_stored(rows: list[tuple[str, str, bool]], token: str) -> None:
    envs = [{"key": key, "value": value, "is_hidden": hidden} for key, value, hidden in rows]
    text = encode(sent_settings({**BODY, "envs": envs, "private_token": token}, KEYS))

    for _, value, _ in rows:
        assert value not in text.replace("\\\\", "\\")
    assert "canary" not in text


def test_the_same_value_has_the_same_hash_and_another_has_not() -> None:
    one = variables(sent_settings(BODY, KEYS))
    other_body = {**BODY, "envs": [BODY["envs"][0], {**BODY["envs"][1], "value": "another"}]}
    other = variables(sent_settings(other_body, KEYS))

    assert one["MODE"] == other["MODE"]
    assert one["DB"] != other["DB"]


def test_hashes_are_by_the_newest_key_and_say_by_which() -> None:
    new, old = sent_settings(BODY, KEYS), sent_settings(BODY, KEYS[:1])

    assert sent_settings(BODY, KEYS[1:]) == new
    assert new.hashed_by != old.hashed_by
    assert variables(new)["DB"] != variables(old)["DB"]
    assert sent_settings(BODY, ()).hashed_by == ""


def test_what_edgegap_shows_has_the_hashes_of_what_was_sent_except_of_hidden_values() -> None:
    hidden = {"key": "DB", "value": "", "is_hidden": True}
    shown = {**BODY, "private_token": "***", "envs": [BODY["envs"][0], hidden]}

    live, sent = shown_settings(shown, KEYS), sent_settings(BODY, KEYS)

    assert variables(live)["MODE"] == variables(sent)["MODE"]
    assert variables(live)["DB"] == Variable("DB", is_hidden=True)
    assert live.login == ""
    assert live.settings == sent.settings


def test_after_a_patch_a_version_has_what_it_had_and_what_was_sent() -> None:
    before = {**BODY, "docker_tag": "0.9", "force_cache": True, "max_duration": 30}
    patch = {
        "docker_repository": "docker.io",
        "docker_image": "studio/game",
        "docker_tag": "1.0",
        "max_duration": 60,
    }

    found = sent_settings(patch, KEYS, before=before)

    assert found.tag == "1.0"
    assert found.settings["max_duration"] == 60
    assert found.settings["req_cpu"] == 1024
    assert found.settings["force_cache"] is True
    assert found.ports == (PORT,)
    assert set(variables(found)) == {"MODE", "DB"}
    assert variables(found)["DB"].hash == ""


ANY_TEXT = st.text(st.characters())  # JSON may hold halves of characters
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*BODY, "dns_config", "endpoint_storage"]), JSON))
def test_whatever_edgegap_shows_can_be_stored_and_read_again(version: dict[str, Any]) -> None:
    found = shown_settings(version, KEYS)
    assert decode(encode(found)) == found


@given(st.text() | JSON.map(str))
def test_what_is_not_readable_is_none(text: str) -> None:
    assert decode(text) is None or isinstance(decode(text), SentSettings)


def test_halves_of_characters_are_stored_nowhere() -> None:
    half = "\ud800"
    version = {
        **dict.fromkeys(("docker_image", "dns_config", "private_username"), half),
        "private_token": half,
        "ports": [{**PORT, "name": half}, PORT],
        "envs": [{"key": half, "value": "x"}, {"key": "K", "value": half, "is_hidden": False}],
    }

    found = shown_settings(version, KEYS)

    assert decode(encode(found)) == found
    assert [one.key for one in found.variables] == ["K"]


def sent(*, profiles: tuple[str, ...] = (), keys: tuple[Secret, ...] = (NEW,), **more: Any) -> Seen:
    return Seen(sent_settings({**COMPARED, **more}, keys, pull_profiles=profiles), sent=True)


def env(index: int, **more: Any) -> list[dict[str, Any]]:
    rows = [dict(one) for one in COMPARED["envs"]]
    rows[index] |= more
    return rows


def test_a_version_does_not_differ_from_itself() -> None:
    assert differences(sent(), sent()) == ((), ())


@pytest.mark.parametrize(
    ("more", "difference"),
    [
        (
            {"docker_tag": "1.1"},
            ("image", f"{IMAGE}:1.0", f"{IMAGE}:1.1"),
        ),
        ({"max_duration": 30}, ("max_duration", "60", "30")),
        ({"force_cache": True}, ("force_cache", "not set", "true")),
        ({"ports": []}, ("port game", '7777/UDP "game"', "none")),
        (
            {"ports": [{**COMPARED_PORT, "port": 7778}]},
            ("port game", '7777/UDP "game"', '7778/UDP "game"'),
        ),
        (
            {"ports": [{**COMPARED_PORT, "to_check": False}]},
            ("port game", '7777/UDP "game"', '7777/UDP "game", not checked'),
        ),
        ({"envs": env(0, value="canary-2")}, ("variable MODE", "a value", "another value")),
        ({"envs": env(1, value="canary-2")}, ("variable DB", "a value", "another value")),
        ({"envs": env(1, is_hidden=False)}, ("variable DB", "hidden", "not hidden")),
        ({"envs": env(0)[:1]}, ("variable DB", "hidden", "none")),
        ({"private_token": "canary-2"}, ("registry login", "a login", "another login")),
        ({"private_token": ""}, ("registry login", "a login", "none")),
        ({"profiles": ("bucket/maps",)}, ("pull profiles", "none", "bucket/maps")),
    ],
)
def test_each_difference_is_named(more: dict[str, Any], difference: tuple[str, str, str]) -> None:
    assert differences(sent(), sent(**more)) == ((Difference(*difference),), ())


def test_hashes_of_another_key_are_not_compared() -> None:
    found, unknown = differences(sent(), sent(keys=(OLD,)))

    assert found == ()
    assert unknown == ("variable MODE", "variable DB", "registry login")


def test_hidden_values_that_edgegap_does_not_return_are_not_compared() -> None:
    shown = Seen(shown_settings(SHOWN, (NEW,)), sent=False)

    assert differences(sent(), shown) == ((), ("variable DB", "registry login"))
    assert differences(shown, sent(profiles=("bucket/maps",))) == (
        (),
        ("variable DB", "registry login", "pull profiles"),
    )
    assert differences(shown, shown) == ((), ("variable DB",))


@given(st.data())
def test_no_value_is_shown_whatever_differs(data: st.DataObject) -> None:
    values = st.text(min_size=4).map(lambda text: f"canary-{text}")

    def version() -> Seen:
        keys = data.draw(st.lists(st.sampled_from("ABC"), unique=True))
        envs = [
            {"key": key, "value": data.draw(values), "is_hidden": data.draw(st.booleans())}
            for key in keys
        ]
        return sent(envs=envs, private_token=data.draw(values))

    assert "canary" not in repr(differences(version(), version()))


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
    text = exported(sent_settings(body, KEY, pull_profiles=["bucket/maps"]))

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


ANY_JSON = st.none() | st.booleans() | st.integers(-1, 70_000) | st.floats() | TEXTS
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


@given(st.dictionaries(st.sampled_from([*SETTINGS]), ANY_JSON), PORTS, ENVS, TEXTS)
def test_whatever_edgegap_shows_is_exported_as_what_check_accepts(
    version: dict[str, Any], ports: list[Any], envs: list[Any], title: str
) -> None:
    shown = shown_settings({**version, "ports": ports, "envs": envs}, KEY)
    text = exported(shown, title)

    _, faults = read(text)

    assert faults == []


def test_a_key_that_is_there_twice_is_written_once() -> None:
    twice = SentSettings("docker.io/a/b:1", variables=(Variable("A"), Variable("A")))

    rule, faults = read(exported(twice))

    assert faults == []
    assert rule.settings["envs"] == [{"key": "A", "value": "value of A"}]

"""What is kept of a request: enough to compare two versions, and no secret."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from receiver.edgegap.sent_settings import (
    SentSettings,
    Variable,
    decode,
    encode,
    sent_settings,
    shown_settings,
)
from receiver.secret import Secret

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

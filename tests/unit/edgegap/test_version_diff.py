"""What differs between two versions is named, and no value of a variable is shown."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.edgegap.sent_settings import sent_settings, shown_settings
from receiver.edgegap.version_diff import Difference, Seen, differences
from receiver.secret import Secret

OLD, NEW = Secret("canary-old-key-0123456"), Secret("canary-new-key-0123456")
IMAGE = "docker.io/studio/game"
PORT: dict[str, Any] = {"port": 7777, "protocol": "UDP", "name": "game"}
BODY: dict[str, Any] = {
    "docker_repository": "docker.io",
    "docker_image": "studio/game",
    "docker_tag": "1.0",
    "private_username": "canary-user",
    "private_token": "canary-token",
    "max_duration": 60,
    "ports": [PORT],
    "envs": [
        {"key": "MODE", "value": "canary-mode", "is_hidden": False},
        {"key": "DB", "value": "canary-db", "is_hidden": True},
    ],
}
SHOWN = {
    **BODY,
    "private_token": "*****",
    "envs": [BODY["envs"][0], {"key": "DB", "value": "", "is_hidden": True}],
}


def sent(*, profiles: tuple[str, ...] = (), keys: tuple[Secret, ...] = (NEW,), **more: Any) -> Seen:
    return Seen(sent_settings({**BODY, **more}, keys, pull_profiles=profiles), sent=True)


def env(index: int, **more: Any) -> list[dict[str, Any]]:
    rows = [dict(one) for one in BODY["envs"]]
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
        ({"ports": [{**PORT, "port": 7778}]}, ("port game", '7777/UDP "game"', '7778/UDP "game"')),
        (
            {"ports": [{**PORT, "to_check": False}]},
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

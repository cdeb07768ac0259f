"""The rules as the API lists them, and which of them match an image."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import NO_CATCH_UP, NOWHERE

CONFIG = f"""
[[rule]]
name = "releases"
repository = "studio/game-server"
app = "my-game"
tags = {{ semver = "1.x" }}
channels = ["staging", "prod"]
keep = 10
pin = ["1.0.0"]
on_overwrite = "park"

[rule.trial]
at = "45.5,-73.6"
on_failure = "warn"

[[rule]]
name = "all of them"
repository = "studio/game-server"
app = "my-game"
preflight = false

[[rule]]
name = "nightly builds"
repository = "studio/lobby"
app = "my-lobby"
tags = ["nightly-*", "!nightly-arm"]
versions = false
channels = ["nightly"]

[[channel]]
app = "my-game"
name = "prod"
from = "staging"
tags = ["1.2.*"]
needs = ["trial", "approval"]
{NO_CATCH_UP}"""


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverHere]:
    with receiver_here(tmp_path_factory.mktemp("rules"), NOWHERE, config=CONFIG) as one:
        yield one


def ask(receiver: ReceiverHere, path: str) -> Any:
    headers = {"Authorization": f"Bearer {receiver.api_token()}"}
    answer = httpx.get(receiver.url + path, headers=headers, trust_env=False)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_each_rule_is_listed_with_what_it_matches_and_does(receiver: ReceiverHere) -> None:
    releases, everything, nightly = ask(receiver, "/api/rules")["rules"]

    assert releases == {
        "rule": "releases",
        "repository": "studio/game-server",
        "app": "my-game",
        "tags": "versions 1.x, no pre-releases",
        "version": "{tag}",
        "channels": [
            {"name": "staging", "follow": "auto", "tags": None, "source": None, "needs": []},
            {
                "name": "prod",
                "follow": "auto",
                "tags": "1.2.*",
                "source": "staging",
                "needs": ["trial", "approval"],
            },
        ],
        "keep": 10,
        "pin": ["1.0.0"],
        "on_overwrite": "park",
        "preflight": True,
        "trial": "warn",
        "paused_at": None,
    }
    assert (everything["tags"], everything["preflight"]) == ("all tags but latest", False)
    assert (everything["keep"], everything["trial"]) == (None, None)
    assert (nightly["tags"], nightly["version"]) == ("nightly-*, except nightly-arm", None)


@pytest.mark.parametrize("repository", ["studio/lobby", "*"])
def test_a_paused_rule_is_listed_with_the_time(receiver: ReceiverHere, repository: str) -> None:
    headers = {"Authorization": f"Bearer {receiver.api_token()}"}
    for action in ("pause", "resume"):
        url, body = f"{receiver.url}/api/{action}", {"repository": repository}
        httpx.post(url, headers=headers, json=body, trust_env=False).raise_for_status()
        paused = [bool(one["paused_at"]) for one in ask(receiver, "/api/rules")["rules"]]
        expected = {"studio/lobby": [False, False, True], "*": [True, True, True]}
        assert paused == (expected[repository] if action == "pause" else [False, False, False])


@pytest.mark.parametrize(
    ("image", "verdict", "rules"),
    [
        ("studio/game-server:1.4.2", "accepted",
         [("1.4.2", ["staging"], ""),
          (None, [], "the rule releases comes first and creates this version")]),
        ("studio/game-server:2.0.0", "accepted",
         [(None, [], "it is outside the range 1.x"), ("2.0.0", [], "")]),
        ("studio/game-server:staging", "accepted",
         [(None, [], "it is not a version number such as 1.2.3, and the rule has a version range"),
          ("staging", [], "")]),
        ("docker.io/studio/lobby:nightly-7", "accepted", [(None, ["nightly"], "")]),
        ("studio/lobby:nightly-arm", "ignored", [(None, [], "it is excluded by !nightly-arm")]),
        ("studio/lobby:sha256-ab.sig", "ignored", [(None, [], "it matches none of nightly-*")]),
        ("studio/none:1.0", "ignored", []),
    ],
)  # fmt: skip
def test_an_image_is_checked_against_each_rule_of_its_repository(
    receiver: ReceiverHere, image: str, verdict: str, rules: list[tuple[str | None, list[str], str]]
) -> None:
    answer = ask(receiver, f"/api/check?image={image}")

    found = [(one["version"], one["channels"], one["why_not"]) for one in answer["rules"]]
    assert (answer["verdict"], found) == (verdict, rules)
    assert bool(answer["reason"] and answer["sentence"]) == (verdict == "ignored")
    assert f"{answer['repository']}:{answer['tag']}" == image.removeprefix("docker.io/")


def test_a_version_name_that_is_a_channel_is_said_to_be_parked(receiver: ReceiverHere) -> None:
    answer = ask(receiver, "/api/check?image=studio/game-server:staging")

    assert "which is a channel of the app my-game" in answer["rules"][1]["invalid"]
    assert ask(receiver, "/api/deliveries")["deliveries"] == []

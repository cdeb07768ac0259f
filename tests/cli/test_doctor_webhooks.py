"""`receiver doctor` on Docker Hub's side: is our webhook there, and can tags be overwritten?"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from receiver.sandbox.calls import Fault
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.dockerhub_account import Webhook
from receiver.signing import LinkSigner
from tests.support.commands import Commands, commands_in
from tests.support.dockerhub import ago, hub_beside
from tests.support.receiver_process import KEY, REPOSITORY, RULE

URL = "https://hooks.example.com"
WEBHOOK, TAGS = f"webhook of {REPOSITORY}", f"tags of {REPOSITORY}"
LOGIN = {"DOCKERHUB_USERNAME": "builder", "DOCKERHUB_TOKEN": "dckr_pat_1"}


@pytest.fixture
def hub() -> DockerHubSandbox:
    hub = DockerHubSandbox(api_limit=None)
    hub.push_image(REPOSITORY, "1.0.0", pushed_at=ago(60))
    hub.add_login("builder", "dckr_pat_1", namespaces=["studio"], pull_limit=None)
    return hub


@pytest.fixture
def commands(edgegap: str, tmp_path: Path, hub: DockerHubSandbox) -> Iterator[Commands]:
    with hub_beside(hub) as variables:
        commands = commands_in(tmp_path, edgegap)
        commands.environment.update(variables, **LOGIN)
        yield commands


def link(number: int = 1, *, key: str = KEY, url: str = URL) -> str:
    return LinkSigner([key], {REPOSITORY: number}).link(url, REPOSITORY)


def found(commands: Commands, what: str, **environment: str) -> tuple[str, str, str] | None:
    done = commands.run("doctor", "--json", **environment)
    for number in (1, 2):
        assert link(number).rpartition(".")[2] not in done.output
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    (*_, row) = [None, *(row for row in rows if row["what"] == what)]
    return row and (row["health"], row["found"], row["hint"])


@pytest.mark.parametrize(
    ("links", "expected"),
    [
        ([], ("warn", "Docker Hub has none with this receiver's link", "receiver connect")),
        (["https://ci.example.com"], ("warn", "Docker Hub has none", "receiver connect")),
        ([link(2)], ("pass", '"w0" has the present link', "")),
        ([link(1)], ("warn", '"w0" has a revoked or outdated link', "which replaces it")),
        ([link(2), link(1)], ("warn", '"w1" has a revoked or outdated link', "which replaces it")),
        ([link(key="lost-0123456789-01")], ("warn", '"w0" has a link that this', "connect")),
        ([link(2), f"{URL}/hooks/dockerhub/x"], ("warn", '"w1" has a link that', "Delete it")),
        ([link(2, url="https://old.example.com")], ("warn", '"w0" leads to another', "connect")),
    ],
)
def test_the_webhook_is_looked_for(
    commands: Commands,
    hub: DockerHubSandbox,
    links: list[str],
    expected: tuple[str, str, str],
) -> None:
    commands.configure(f'[links]\n"{REPOSITORY}" = 2\n{RULE}')
    hub.repositories[REPOSITORY].webhooks += [
        Webhook(f"w{number}", url, f"w{number}", created_at=0) for number, url in enumerate(links)
    ]

    row = found(commands, WEBHOOK)

    assert row is not None
    assert row[0] == expected[0]
    assert expected[1] in row[1]
    assert expected[2] in row[2]
    assert {call.method for call in hub.calls if "webhook" in call.path} == {"GET"}


@pytest.mark.parametrize(
    "fault",
    [
        Fault("status", path_contains="webhook_pipeline", status=404),
        Fault("garbage", path_contains="webhook_pipeline"),
        Fault("hang_up", path_contains="webhook_pipeline"),
    ],
)
def test_a_list_that_is_not_shown_is_no_problem(
    commands: Commands, hub: DockerHubSandbox, fault: Fault
) -> None:
    """Docker documents neither the call nor who may make it."""
    hub.misbehave(fault)

    row = found(commands, WEBHOOK)

    assert row is not None
    assert row[0] == "pass"
    assert row[1].startswith("not checked")


def test_a_token_that_may_not_list_webhooks_is_no_problem(
    commands: Commands, hub: DockerHubSandbox
) -> None:
    hub.webhooks_shown_to = "administrators"

    row = found(commands, WEBHOOK)

    assert row is not None
    assert (row[0], row[1].rpartition(" ")[2]) == ("pass", "403")


def test_without_a_login_webhooks_are_not_asked_for(
    commands: Commands, hub: DockerHubSandbox
) -> None:
    assert found(commands, WEBHOOK, DOCKERHUB_USERNAME="", DOCKERHUB_TOKEN="") is None
    assert not [call for call in hub.calls if "webhook" in call.path]


@pytest.mark.parametrize(
    ("settings", "health", "words"),
    [
        ((False, ()), "warn", "they can be overwritten"),
        ((True, ()), "pass", "immutable on Docker Hub: all"),
        ((True, ("v.*", "r.*")), "pass", "immutable on Docker Hub: v.*, r.*"),
    ],
)
def test_tags_that_can_be_overwritten_are_warned_of(
    commands: Commands,
    hub: DockerHubSandbox,
    settings: tuple[bool, tuple[str, ...]],
    health: str,
    words: str,
) -> None:
    repository = hub.repositories[REPOSITORY]
    repository.immutable, repository.immutable_rules = settings

    row = found(commands, TAGS)

    assert row is not None
    assert row[0] == health
    assert words in row[1]
    assert ("--immutable" in row[2]) == (health == "warn")


def test_a_rule_that_moves_with_overwritten_tags_needs_them(commands: Commands) -> None:
    commands.configure(
        RULE.replace("preflight", 'channels = ["dev"]\non_overwrite = "move"\npreflight')
    )

    row = found(commands, TAGS)

    assert row is not None
    assert row[0] == "pass"


def test_a_record_without_the_settings_says_nothing(
    commands: Commands, hub: DockerHubSandbox
) -> None:
    hub.misbehave(
        Fault(
            "garbage",
            path_contains="repositories/game-server",
            times=None,
            body='{"name": "game-server"}',
            content_type="application/json",
        )
    )

    assert found(commands, TAGS) is None

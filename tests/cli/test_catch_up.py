"""`receiver catch-up`: by hand, with and without a running server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from receiver.cli import output
from receiver.sandbox.calls import Fault
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.sandbox.edgegap import EdgegapSandbox
from tests.support.commands import Commands, commands_beside, commands_in
from tests.support.dockerhub import DAY, ago, came, deliveries, hub_beside
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import REPOSITORY, RULE, until

BY_HAND = '\n[catch_up]\nevery = "off"\n'


@pytest.fixture
def hub() -> DockerHubSandbox:
    hub = DockerHubSandbox(api_limit=None)
    hub.push_image(REPOSITORY, "1.0", pushed_at=ago(10 * DAY))
    hub.push_image(REPOSITORY, "2.0", pushed_at=ago(5 * DAY))
    hub.push_image(REPOSITORY, "latest", pushed_at=ago(DAY))
    return hub


@pytest.fixture
def alone(tmp_path: Path, hub: DockerHubSandbox) -> Iterator[Commands]:
    """Commands with Docker Hub, and no server running."""
    with hub_beside(hub) as variables:
        commands = commands_in(tmp_path)
        commands.environment.update(variables)
        yield commands


@pytest.fixture
def here(edgegap: str, tmp_path: Path, hub: DockerHubSandbox) -> Iterator[ReceiverHere]:
    with (
        hub_beside(hub) as variables,
        receiver_here(tmp_path, edgegap, config=RULE + BY_HAND, environment=variables) as receiver,
    ):
        receiver.environment["PORT"] = receiver.url.rpartition(":")[2]
        yield receiver


def test_a_dry_run_lists_what_would_be_taken_and_writes_nothing(alone: Commands) -> None:
    done = alone.run("catch-up", "--since", "7d", "--dry-run")

    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        f"would record  {REPOSITORY}:2.0  accepted",
        f"would record  {REPOSITORY}:latest  ignored latest_not_named",
    ]
    assert [path.name for path in alone.folder.iterdir()] == ["receiver.toml"]


def test_on_a_terminal_what_was_missed_is_a_table(
    alone: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "on_terminal", lambda: True)

    done = alone.run("catch-up", "--since", "7d", "--dry-run")

    assert done.stdout.splitlines()[0].split() == ["RESULT", "IMAGE", "VERDICT"]


def test_the_progress_goes_to_standard_error_and_json_to_standard_output(alone: Commands) -> None:
    done = alone.run("catch-up", "--since", "2020-01-01", "--dry-run", "--json")

    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["tag"], row["verdict"], row["reason"]) for row in rows] == [
        ("1.0", "accepted", None),
        ("2.0", "accepted", None),
        ("latest", "ignored", "latest_not_named"),
    ]
    assert all(row["digest"].startswith("sha256:") for row in rows)
    assert all(row["pushed_at"].endswith("Z") for row in rows)
    assert REPOSITORY in done.stderr


def test_without_a_server_it_is_recorded_for_the_next_serve(alone: Commands) -> None:
    done = alone.run("catch-up", "--since", "7d")

    assert done.exit_code == 0
    assert f"recorded  {REPOSITORY}:2.0  accepted" in done.stdout
    assert "no server is running" in done.stderr
    rows = alone.rows("deliveries", "--json")
    assert {(row["source"], row["tag"], row["verdict"]) for row in rows} == {
        ("catch-up", "2.0", "accepted"),
        ("catch-up", "latest", "ignored"),
    }
    assert "Nothing was missed." in alone.run("catch-up", "--since", "7d").stdout


def test_with_a_server_the_server_takes_and_works_it(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    commands = commands_beside(here)

    done = commands.run("catch-up", "--since", "7d ago")

    assert done.exit_code == 0, done.output
    assert f"recorded  {REPOSITORY}:2.0  accepted" in done.stdout
    until(lambda: sandbox.versions)
    assert list(sandbox.versions) == [("my-game", "2.0")]
    assert came(here) == [("catch-up", "2.0"), ("catch-up", "latest")]


def test_a_dry_run_beside_a_server_leaves_out_what_it_knows(
    here: ReceiverHere, hub: DockerHubSandbox
) -> None:
    hub.push_image(REPOSITORY, "3.0")
    here.ended(here.push("3.0"))

    done = commands_beside(here).run("catch-up", "--since", "7d", "--dry-run")

    assert f"{REPOSITORY}:2.0" in done.stdout
    assert f"{REPOSITORY}:3.0" not in done.stdout
    assert len(deliveries(here)) == 1


def test_without_since_it_goes_on_from_where_the_server_left_off(
    here: ReceiverHere, hub: DockerHubSandbox
) -> None:
    commands = commands_beside(here)
    assert commands.run("catch-up").stdout == "Nothing was missed.\n"
    hub.push_image(REPOSITORY, "3.0")

    assert commands.run("catch-up").stdout == f"recorded  {REPOSITORY}:3.0  accepted\n"


def test_without_since_and_never_served_it_says_what_to_do(alone: Commands) -> None:
    done = alone.run("catch-up")

    assert done.exit_code == 1
    assert done.stderr == f"receiver: no starting point is known for {REPOSITORY}; use --since\n"


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["--since", "yesterday"], 2, "is not a time"),
        (
            ["--repository", "studio/other"],
            5,
            f"no rule names studio/other; rules name {REPOSITORY}",
        ),
    ],
)
def test_invalid_arguments_are_refused_with_a_message(
    alone: Commands, arguments: list[str], code: int, word: str
) -> None:
    done = alone.run("catch-up", *arguments)

    assert done.exit_code == code
    assert word in done.stderr


@pytest.mark.parametrize("header", ["X-Retry-After", "Retry-After"])
def test_it_waits_as_long_as_docker_hub_asks_and_goes_on(
    alone: Commands, hub: DockerHubSandbox, monkeypatch: pytest.MonkeyPatch, header: Any
) -> None:
    hub.api_limit, hub.api_window, hub.api_retry_after = 0, 90, header
    hub.api_retry_after_as = "unix" if header == "X-Retry-After" else "seconds"
    waited = []

    async def rest(seconds: float) -> None:
        waited.append(seconds)
        hub.api_limit = None

    monkeypatch.setattr("receiver.cli.operations.wait_for", rest)
    done = alone.run("catch-up", "--since", "7d", "--dry-run")

    assert done.exit_code == 0
    assert f"{REPOSITORY}:2.0" in done.stdout
    assert len(waited) == 1
    assert 80 < waited[0] <= 91
    assert "Docker Hub rate limit: waiting" in done.stderr


@pytest.mark.parametrize(
    ("headers", "shortest"),
    [
        ({"X-Retry-After": "0"}, 1),
        ({"X-Retry-After": "1600000000"}, 1),
        ({"Retry-After": "-3"}, 1),
        ({"Retry-After": "0.4"}, 1),
        ({"Retry-After": "Thu, 24 Sep 2020 00:00:00 GMT"}, 1),
        ({"Retry-After": "2.5"}, 2.5),
        ({"Retry-After": "soon"}, 60),
        ({}, 60),
        ({"Retry-After": "86400"}, 120),
    ],
)
def test_however_long_docker_hub_asks_to_wait_it_waits_a_second_at_least_and_completes(
    alone: Commands,
    hub: DockerHubSandbox,
    monkeypatch: pytest.MonkeyPatch,
    headers: dict[str, str],
    shortest: float,
) -> None:
    """It gave up after ten waits of 0."""
    waited = []

    async def rest(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("receiver.cli.operations.wait_for", rest)
    hub.misbehave(Fault("status", path_contains="/tags", status=429, times=25, headers=headers))
    done = alone.run("catch-up", "--since", "7d", "--dry-run")

    assert done.exit_code == 0
    assert f"{REPOSITORY}:2.0" in done.stdout
    assert len(waited) == 25
    assert all(shortest <= one <= shortest + 1 for one in waited)


@pytest.mark.parametrize("tags", [1, 2])
def test_ctrl_c_after_something_was_recorded_names_it(
    alone: Commands, hub: DockerHubSandbox, monkeypatch: pytest.MonkeyPatch, tags: int
) -> None:
    """The line said only "stopped"."""

    async def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("receiver.cli.operations.wait_for", interrupted)
    alone.configure(RULE + RULE.replace(REPOSITORY, "studio/zebra"))
    hub.api_limit, hub.api_window = 1, 90  # the second repository has to wait

    done = alone.run("catch-up", "--since", "7d" if tags > 1 else "2d")

    newest = alone.rows("deliveries", "--json")[0]["id"]
    assert done.exit_code == 130
    last = done.stderr.splitlines()[-1]
    assert last.startswith("receiver: stopped; ")
    assert last.endswith(f": see `receiver show {newest}`")
    assert ("2 pushes are recorded, the last one" in last) is (tags > 1)


def test_it_ends_when_docker_hub_asks_to_wait_for_over_an_hour_in_all(
    alone: Commands, hub: DockerHubSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited = []

    async def rest(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr("receiver.cli.operations.wait_for", rest)
    hub.misbehave(Fault("status", path_contains="/tags", status=429, times=None))
    done = alone.run("catch-up", "--since", "7d", "--dry-run")

    assert done.exit_code == 1
    assert 3500 < sum(waited) <= 3600


def test_a_repository_that_docker_hub_does_not_list_is_reported_by_name(
    alone: Commands, hub: DockerHubSandbox
) -> None:
    hub.add_repository(REPOSITORY, private=True)

    done = alone.run("catch-up", "--since", "7d")

    assert done.exit_code == 1
    assert f"does not list {REPOSITORY}" in done.stderr

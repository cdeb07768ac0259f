"""`deliveries` and `show`: what the ledger remembers, beside a running server or not."""

import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.conftest import StartReceiver
from tests.support.commands import Commands, commands_beside, commands_in
from tests.support.receiver_process import (
    NO_CATCH_UP,
    REPOSITORY,
    RULE,
    ReceiverProcess,
    until,
    webhook_body,
)

MAIN = f"{REPOSITORY}:"


@pytest.fixture(scope="module")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A ledger of four deliveries, and their ids by their images."""
    folder = tmp_path_factory.mktemp("ledger")
    images = [f"{MAIN}1.0", f"{MAIN}latest", "studio/other:1.0", f"{MAIN}1.1"]
    commands = commands_in(folder)
    ids = {image: commands.push(image)["id"] for image in images}
    return folder / "receiver.db", ids


@pytest.fixture
def remembered(commands: Commands, made_once: tuple[Path, dict[str, str]]) -> dict[str, str]:
    """The ids by their images, of a ledger in the commands' folder."""
    ledger, ids = made_once
    shutil.copy(ledger, commands.folder)
    return ids


def _ids(commands: Commands, *arguments: str) -> list[str]:
    return [row["id"] for row in commands.rows("deliveries", "--json", *arguments)]


def test_deliveries_come_newest_first(commands: Commands, remembered: dict[str, str]) -> None:
    assert _ids(commands) == list(remembered.values())[::-1]


def test_limit_and_before_page_through_them(commands: Commands, remembered: dict[str, str]) -> None:
    newest_first = list(remembered.values())[::-1]

    first = _ids(commands, "--limit", "3")
    second = _ids(commands, "--limit", "3", "--before", first[-1])

    assert first == newest_first[:3]
    assert second == newest_first[3:]


@pytest.mark.parametrize(
    ("arguments", "images"),
    [
        (["--repository", "studio/other"], ["studio/other:1.0"]),
        (["--tag", "1.0"], ["studio/other:1.0", f"{MAIN}1.0"]),
        (["--verdict", "ignored"], ["studio/other:1.0", f"{MAIN}latest"]),
        (["--verdict", "refused"], []),
        (["--state", "queued"], [f"{MAIN}1.1", f"{MAIN}1.0"]),
        (["--state", "done"], []),
        (["--tag", "1.0", "--verdict", "accepted"], [f"{MAIN}1.0"]),
        (["--app", "my-game", "--version", "1.0"], [f"{MAIN}1.0"]),
        (["--app", "no-such-app"], []),
        (["--reason", "latest_not_named"], [f"{MAIN}latest"]),
        (["--source", "webhook"], []),
        (["--since", "1d", "--tag", "latest"], [f"{MAIN}latest"]),
        (["--until", "1d"], []),
    ],
)
def test_filters_narrow_the_list(
    commands: Commands, remembered: dict[str, str], arguments: list[str], images: list[str]
) -> None:
    assert _ids(commands, *arguments) == [remembered[image] for image in images]


def test_each_json_line_holds_the_promised_fields(
    commands: Commands, remembered: dict[str, str]
) -> None:
    row = commands.rows("deliveries", "--json", "--tag", "latest")[0]

    assert row["id"] == remembered[f"{MAIN}latest"]
    assert (row["repository"], row["tag"]) == (REPOSITORY, "latest")
    assert (row["verdict"], row["reason"]) == ("ignored", "latest_not_named")
    assert row["received_at"].endswith("Z")
    assert row["source"] == "command"


def test_the_list_for_people_has_a_line_for_each_with_its_result(
    commands: Commands, remembered: dict[str, str]
) -> None:
    lines = commands.run("deliveries").stdout.splitlines()

    assert len(lines) == 4
    assert f"{REPOSITORY}:1.1  accepted  my-game/1.1 queued" in lines[0]
    assert "studio/other:1.0  ignored no_rule" in lines[1]


def test_show_prints_all_details_for_people(commands: Commands, remembered: dict[str, str]) -> None:
    identity = remembered[f"{MAIN}1.0"]

    answer = commands.run("show", identity).stdout

    assert answer.startswith(f"Delivery {identity}\n")
    for words in (
        "by command",
        "studio/game-server:1.0",
        "verdict   accepted",
        "rule      studio/game-server → my-game",
        "does      creates the version of this tag",
        "image     docker.io/studio/game-server:1.0",
        "state     queued",
    ):
        assert words in answer


def test_show_of_what_was_ignored_says_what_to_do(
    commands: Commands, remembered: dict[str, str]
) -> None:
    answer = commands.run("show", remembered["studio/other:1.0"]).stdout

    assert "ignored, no_rule" in answer
    assert 'Add a [[rule]] with repository = "studio/other"' in answer


def test_show_as_json_holds_each_registration_with_the_promised_fields(
    commands: Commands, remembered: dict[str, str]
) -> None:
    answer = commands.json_of("show", remembered[f"{MAIN}1.0"], "--json")

    (registration,) = answer["registrations"]
    promised = ("state", "outcome", "reason", "app", "version")
    found = [registration[name] for name in promised]
    assert found == ["queued", None, None, "my-game", "1.0"]
    assert registration["requests"] == []


def test_show_takes_a_registrations_id_too(commands: Commands, remembered: dict[str, str]) -> None:
    first = commands.json_of("show", remembered[f"{MAIN}1.0"], "--json")
    again = commands.push(f"{MAIN}1.0")

    answer = commands.json_of("show", first["registrations"][0]["id"], "--json")

    assert answer["id"] == again["id"]
    assert answer["registrations"][0]["deliveries"] == [first["id"], again["id"]]
    assert "from      2 deliveries" in commands.run("show", again["id"]).stdout


@pytest.mark.parametrize("identity", ["d0", "nonsense", "", "%", "x" * 5000])
def test_an_unknown_id_ends_with_5(
    commands: Commands, remembered: dict[str, str], identity: str
) -> None:
    done = commands.run("show", identity)

    assert done.exit_code == 5
    assert "receiver deliveries" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("command", [["deliveries"], ["show", "d0"], ["replay", "d0"]])
def test_without_a_ledger_it_is_said_what_makes_one(commands: Commands, command: list[str]) -> None:
    done = commands.run(*command)

    assert done.exit_code == 4
    assert "`receiver serve` makes it" in done.stderr
    assert not (commands.folder / "receiver.db").exists()


@pytest.mark.parametrize(
    "command", [["deliveries"], ["show", "d0"], ["replay", "--parked"], ["push", f"{MAIN}2.0"]]
)
def test_a_ledger_of_another_schema_is_refused_and_left_alone(
    commands: Commands, remembered: dict[str, str], command: list[str]
) -> None:
    ledger = commands.folder / "receiver.db"
    with sqlite3.connect(ledger) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0000'")
    connection.close()

    done = commands.run(*command)

    assert done.exit_code == 4
    assert "schema 0000" in done.stderr
    with sqlite3.connect(ledger) as connection:
        (count,) = connection.execute("SELECT count(*) FROM deliveries").fetchone()
    connection.close()
    assert count == 4


def test_a_file_that_is_no_ledger_is_refused_without_a_traceback(commands: Commands) -> None:
    (commands.folder / "receiver.db").write_bytes(b"no database at all" * 100)

    done = commands.run("deliveries")

    assert done.exit_code == 4
    assert "not a ledger" in done.stderr


def test_a_filter_that_fits_nothing_says_so(commands: Commands, remembered: dict[str, str]) -> None:
    done = commands.run("deliveries", "--repository", "studio/none")

    assert done.exit_code == 0
    assert done.stdout == ""
    assert done.stderr == "No deliveries match. Try fewer filters.\n"
    assert commands.run("deliveries", "--repository", "studio/none", "--json").output == ""


def test_outside_text_cannot_draw_on_the_terminal(receiver: ReceiverProcess) -> None:
    pusher = "eve\x1b[2J\r\nDelivery forged\u202e"
    identity = receiver.post(webhook_body("1.0", pusher=pusher)).json()["delivery"]

    answer = receiver.run("show", identity).stdout

    assert "\x1b" not in answer
    assert "\u202e" not in answer
    assert not any(line.startswith("Delivery forged") for line in answer.splitlines())


def test_both_read_beside_a_running_server_and_after_it(receiver: ReceiverProcess) -> None:
    identity = receiver.push("1.0.0")
    receiver.ended(identity)

    beside = receiver.show(identity)
    listed = receiver.run("deliveries", "--json")
    receiver.stop()
    after = receiver.show(identity)

    assert beside == after
    assert beside["registrations"][0]["outcome"] == "created"
    assert [call["method"] for call in beside["registrations"][0]["requests"]][-2:] == [
        "POST",
        "GET",
    ]
    assert identity in listed.stdout
    assert receiver.run("deliveries", "--json").stdout == listed.stdout


def test_a_parked_registration_shows_what_to_add(
    commands_with_edgegap: Commands,
) -> None:
    commands_with_edgegap.configure(RULE.split("[rule.settings]")[0])

    done = commands_with_edgegap.run("push", f"{MAIN}1.0", "--wait")

    assert done.exit_code == 1
    assert "state     parked no_settings" in done.stdout
    assert "\n            req_cpu = 1024" in done.stdout
    assert "GET /v1/app/my-game/version/1.0  404" in done.stdout


def test_the_sentence_of_what_is_done_is_its_result(start: StartReceiver) -> None:
    """It was the "next step", though there is none."""
    config = RULE.replace("preflight = false", 'preflight = false\nchannels = ["staging"]')
    receiver = start(config=config + NO_CATCH_UP)
    receiver.ended(receiver.push("2.0.0"))
    older = receiver.push("1.0.0")
    until(lambda: "superseded" in str(receiver.details(older)))

    answer = commands_beside(receiver).run("show", older).stdout

    assert "  result    " in answer
    assert "next step" not in answer

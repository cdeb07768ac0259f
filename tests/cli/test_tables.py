"""Lists on a terminal have headers and colors, on a pipe neither; all times are UTC."""

import os
import pty
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from click import unstyle

from receiver.cli.output import moment
from tests.support.commands import NOWHERE, Commands, commands_in
from tests.support.receiver_process import RULE

RECEIVER = (sys.executable, "-m", "receiver")
IMAGE = "studio/game-server:1.0.0"


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    """One delivery is recorded; nothing of it is worked."""
    commands = commands_in(tmp_path)
    commands.push(IMAGE)
    return commands


def on_terminal(commands: Commands, *arguments: str, **more: str) -> str:
    """Run a command on a terminal; return what it shows."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*RECEIVER, *arguments],
        cwd=commands.folder,
        env={**os.environ, "TERM": "xterm", **commands.environment, **more},
        stdin=follower,
        stdout=follower,
        stderr=follower,
    )
    os.close(follower)
    shown = b""
    with suppress(OSError):  # the terminal is gone with the process
        while part := os.read(leader, 4096):
            shown += part
    os.close(leader)
    process.wait(60)
    return shown.decode().replace("\r", "")


def test_a_terminal_gets_headers_and_colors(commands: Commands) -> None:
    head, row = on_terminal(commands, "deliveries").splitlines()

    assert head.startswith("\x1b[1mRECEIVED (UTC)")
    assert "REGISTRATIONS" in head
    assert IMAGE in row
    assert "\x1b[36mmy-game/1.0.0 queued\x1b[0m" in row


@pytest.mark.parametrize("more", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colors_can_be_turned_off(commands: Commands, more: dict[str, str]) -> None:
    head, row = on_terminal(commands, "deliveries", **more).splitlines()

    assert "\x1b" not in head + row
    columns = ("IMAGE", "VERDICT", "REGISTRATIONS")
    cells = (IMAGE, "accepted", "my-game/1.0.0")
    assert head.startswith("RECEIVED (UTC)            ID ")
    assert [head.index(one) for one in columns] == [row.index(one) for one in cells]


CHANNELS = RULE.replace("preflight = false", 'preflight = false\nchannels = ["staging"]')
NOTICE = '\n[[notice]]\nurl_env = "TEAM_NOTICE_URL"\n'


@pytest.mark.parametrize(
    ("command", "headers", "colored"),
    [
        ("check", "RULE REPOSITORY VERSIONS AND CHANNELS", ""),
        ("channels", "CHANNEL HAS STATE DETAILS", ""),
        ("replay --since 1d", "ID VERDICT DETAILS", ""),
        ("notify-test", "DESTINATION RESULT WHY NOT", "\x1b[31mnot sent"),
    ],
)
def test_each_list_on_a_terminal_is_a_table(
    commands: Commands, command: str, headers: str, colored: str
) -> None:
    """Those of `channels` and of others were lines without headers or colors."""
    commands.configure(CHANNELS + NOTICE)
    commands.environment["TEAM_NOTICE_URL"] = "json://127.0.0.1:9/x"

    shown = on_terminal(commands, *command.split())
    plain = on_terminal(commands, *command.split(), NO_COLOR="1")

    heads = [line for line in shown.splitlines() if line.startswith("\x1b[1m")]
    assert [unstyle(line).split() for line in heads] == [headers.split()]
    assert colored in shown
    assert [line.split() for line in plain.splitlines()].count(headers.split()) == 1
    assert "\x1b" not in plain


def test_the_findings_of_doctor_have_colors_unless_they_are_turned_off(commands: Commands) -> None:
    names = ("RECEIVER_PUBLIC_URL", "DOCKERHUB_API_URL", "DOCKERHUB_REGISTRY_URL")
    away = dict.fromkeys((*names, "DOCKERHUB_AUTH_URL"), NOWHERE)

    assert "\x1b[31mfail" in on_terminal(commands, "doctor", **away)
    assert "\x1b" not in on_terminal(commands, "doctor", **away, NO_COLOR="1")


def test_a_pipe_gets_the_rows_alone(commands: Commands) -> None:
    lines = commands.run("deliveries").stdout.splitlines()

    assert len(lines) == 1
    assert "\x1b" not in lines[0]
    assert lines[0].split("  ")[2:] == [IMAGE, "accepted", "my-game/1.0.0 queued"]


def test_status_has_a_title_for_each_list(commands: Commands) -> None:
    shown = on_terminal(commands, "status", NO_COLOR="1")

    assert "\nLast pushes\nRECEIVED (UTC) " in shown
    assert "push  " not in shown


def test_times_are_utc_wherever_the_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """They were the machine's own when they were passed, and UTC when they were printed."""
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    try:
        assert moment("2026-11-23T17:00") == 1_795_453_200_000
        assert moment("2026-11-23") == 1_795_392_000_000
        assert moment("2026-11-23T17:00+02:00") == 1_795_446_000_000
    finally:
        monkeypatch.undo()
        time.tzset()

"""Any terminal, a pipe that closes, no output at all, and Ctrl-C: one line, the right exit code."""

import json
import os
import pty
import select
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path

import pytest
from sqlalchemy.engine import URL
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from receiver.cli.deliveries import NOT_ANSWERED
from receiver.cli.output import INTERRUPTED, PLAIN
from receiver.ledger.ledger import Ledger
from receiver.sandbox.serving import serving
from tests.support.commands import Commands, commands_in
from tests.support.receiver_process import RULE, until

RECEIVER = (sys.executable, "-m", "receiver")
C_LOCALE = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


@pytest.fixture
def commands(tmp_path: Path) -> Commands:
    """One delivery is recorded; nothing of it is worked."""
    commands = commands_in(tmp_path)
    commands.configure(RULE.replace("preflight", 'name = "spiel → größe"\npreflight'))
    commands.push()
    return commands


def environment(commands: Commands, **more: str) -> dict[str, str]:
    return {**os.environ, **commands.environment, **more}


def run(commands: Commands, *arguments: str, **more: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [*RECEIVER, *arguments],
        cwd=commands.folder,
        env=environment(commands, **more),
        capture_output=True,
        check=False,
        timeout=60,
    )


def in_shell(commands: Commands, line: str) -> "subprocess.CompletedProcess[bytes]":
    """Run a line of bash in which `receiver` is ours."""
    ours = f'receiver() {{ {shlex.join(RECEIVER)} "$@"; }}; set -o pipefail; {line}'
    return subprocess.run(
        ["bash", "-c", ours],  # noqa: S607
        cwd=commands.folder,
        env=environment(commands),
        capture_output=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("encoding", "more", "shown"),
    [
        ("latin-1", {"PYTHONIOENCODING": "latin-1"}, "spiel -> größe"),
        ("ascii", C_LOCALE, "spiel -> gr??e"),
        ("utf-8", {"PYTHONIOENCODING": "utf-8"}, "spiel → größe"),
    ],
)
def test_what_a_terminal_lacks_is_replaced(
    commands: Commands, encoding: str, more: dict[str, str], shown: str
) -> None:
    """`show`, `doctor` and `check` ended in UnicodeEncodeError."""
    checked = run(commands, "check", **more)

    assert checked.returncode == 0, checked.stderr
    assert f"rule  {shown}  " in checked.stdout.decode(encoding)


def test_no_replacement_ends_a_string_in_json() -> None:
    assert '"' not in "".join(PLAIN.values())
    assert "".join(PLAIN.values()).isascii()


@pytest.mark.parametrize(
    ("line", "code", "out", "err"),
    [
        ("receiver deliveries | head -0", 0, b"", b""),
        ("receiver deliveries 2>&-", 0, b"studio/game-server:1.0.0", b""),
        ("receiver deliveries >&- 2>&- <&-", 0, b"", b""),
        ("receiver show d404 | head -0", 5, b"", b"receiver: there is no delivery d404"),
        ("receiver deliveries >/dev/full", 1, b"", b"could not be written: No space left"),
    ],
)
def test_closed_output_does_no_harm(
    commands: Commands, line: str, code: int, out: bytes, err: bytes
) -> None:
    done = in_shell(commands, line)

    assert done.returncode == code, done.stderr
    assert out in done.stdout
    assert err in done.stderr
    assert len(done.stderr.splitlines()) == bool(err)


def test_a_closed_descriptor_is_never_the_ledgers(commands: Commands) -> None:
    """The first file that is opened gets the number of a closed one, and what is printed."""
    before = (commands.folder / "receiver.db").read_bytes()

    done = in_shell(commands, "receiver push studio/game-server:2.0.0 >&- 2>&-")

    assert done.returncode == 0
    assert len(commands.rows("deliveries", "--json")) == 2
    assert (commands.folder / "receiver.db").read_bytes()[:16] == before[:16]


def stopped(commands: Commands, arguments: Sequence[str], when: bytes) -> tuple[int, str]:
    """Start a command on a terminal, press Ctrl-C at these words; its exit code and output."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [*RECEIVER, *arguments],
        cwd=commands.folder,
        env=environment(commands),
        stdin=follower,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    out = b""

    def shown() -> bool:
        nonlocal out
        out += os.read(leader, 4096)
        return when in out

    until(shown)

    with suppress(OSError):  # the terminal is gone with the process
        while b"stopped" not in out:
            # Again, as a person would: one that comes just before an answer is read waits for it.
            process.send_signal(signal.SIGINT)
            while select.select([leader], [], [], 0.5)[0]:
                out += os.read(leader, 4096)
        while part := os.read(leader, 4096):
            out += part
    process.wait(60)
    os.close(leader)
    return process.returncode, out.decode().replace("\r", "")


def test_ctrl_c_at_a_question_ends_in_a_line(commands: Commands) -> None:
    (commands.folder / "receiver.toml").unlink()

    code, out = stopped(commands, ("init",), b"Docker Hub repository: ")

    assert code == INTERRUPTED
    assert out.endswith("\nreceiver: stopped\n")
    assert "Traceback" not in out


def test_ctrl_c_while_a_push_is_waited_for_names_its_delivery(commands: Commands) -> None:
    code, out = stopped(
        commands, ("push", "--wait", "studio/game-server:3.0.0"), b"registration_waiting"
    )

    newest = commands.rows("deliveries", "--json")[0]["id"]
    assert code == INTERRUPTED
    assert out.endswith(f"receiver: stopped; the push is recorded: see `receiver show {newest}`\n")
    assert "Traceback" not in out


AT_AN_IMPORT = """
import builtins, os, signal, sys
usual, wanted = builtins.__import__, sys.argv.pop()
def importing(name, *rest, **named):
    if name == wanted:
        os.kill(os.getpid(), signal.SIGINT)
    return usual(name, *rest, **named)
builtins.__import__ = importing
from receiver.__main__ import main
main()
"""


@pytest.mark.parametrize("module", ["click", "sqlalchemy"])
def test_ctrl_c_while_modules_are_imported_ends_in_a_line(commands: Commands, module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_AN_IMPORT, "check", module],
        cwd=commands.folder,
        env=environment(commands),
        capture_output=True,
        check=False,
        timeout=60,
    )

    assert (done.returncode, done.stdout, done.stderr) == (
        INTERRUPTED, b"", b"receiver: stopped\n",
    )  # fmt: skip


def test_ctrl_c_just_before_the_server_runs_is_not_lost(commands: Commands) -> None:
    done = subprocess.run(
        [sys.executable, "-c", AT_AN_IMPORT, "serve", "uvloop"],
        cwd=commands.folder,
        env=environment(commands, PORT="0"),
        capture_output=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stderr.splitlines()[-1])["event"] == "stopped"


@pytest.mark.parametrize("command", [("doctor",), ("catch-up", "--since", "3d")])
def test_ctrl_c_during_calls_ends_in_a_line(commands: Commands, command: tuple[str, ...]) -> None:
    """Of a server that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        commands.environment.update(EDGEGAP_BASE_URL=url, DOCKERHUB_API_URL=url)
        process = subprocess.Popen(
            [*RECEIVER, *command],
            cwd=commands.folder,
            env=environment(commands),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        silent.settimeout(30)
        call, _ = silent.accept()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        call.close()

    assert process.returncode == INTERRUPTED
    assert err.decode().splitlines()[-1].endswith("receiver: stopped")
    assert b"Traceback" not in err


def test_ctrl_c_before_the_server_answers_a_push_says_that_it_may_be_recorded(
    commands: Commands,
) -> None:
    begun: list[subprocess.Popen[bytes]] = []

    async def server(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["method"] == "POST":
            begun[0].send_signal(signal.SIGINT)
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        await PlainTextResponse("alive")(scope, receive, send)

    with closing(
        Ledger(URL.create("sqlite", database=str(commands.folder / "receiver.db")))
    ) as own:
        own.open_to_write(wait_seconds=0)
        with serving(server) as url:
            process = subprocess.Popen(
                [*RECEIVER, "push", "studio/game-server:4.0.0"],
                cwd=commands.folder,
                env=environment(commands, PORT=url.rpartition(":")[2]),
                stderr=subprocess.PIPE,
            )
            begun.append(process)
            _, err = process.communicate(timeout=60)

    assert (process.returncode, err.decode()) == (INTERRUPTED, f"receiver: {NOT_ANSWERED}\n")

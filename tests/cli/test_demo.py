"""`receiver demo`: the newcomer's first minute, as a newcomer would run it."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.support.receiver_process import TIMEOUT_SECONDS, until

BARE = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}


def _begin(folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start it with no configuration at all, in an empty folder of its own."""
    (folder / "tmp").mkdir()
    (folder / "here").mkdir()
    with (folder / "out").open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "receiver", "demo", *arguments],
            cwd=folder / "here",
            env={**BARE, "TMPDIR": str(folder / "tmp"), "PYTHONUNBUFFERED": "1"},
            stdout=out,
            stderr=subprocess.STDOUT,
        )


def _said(folder: Path) -> str:
    return (folder / "out").read_text("utf-8")


def _left(folder: Path) -> list[Path]:
    return [*(folder / "tmp").iterdir(), *(folder / "here").iterdir()]


def test_once_shows_a_version_come_of_a_push_and_leaves_nothing(tmp_path: Path) -> None:
    code = _begin(tmp_path, "--once").wait(TIMEOUT_SECONDS)

    answer = _said(tmp_path)
    assert code == 0, answer
    for words in (
        "/hooks/dockerhub/",
        "Docker Hub reports a push of studio/game-server:1.4.2",
        'response: 202 {"delivery":',
        "my-game/1.4.2: done created",
        "Edgegap has my-game/1.4.2",
        "docker_image=studio/game-server",
        "trial of my-game/1.4.2: done passed",
        "my-game/staging: done created",
        "a push of studio/game-server:1.4.3, whose server crashes",
        "trial of my-game/1.4.3: parked trial_failed",
        "the server crashed, exit code 139, Segmentation fault",
        "Edgegap has 1.4.2 in my-game/staging, as before.",
    ):
        assert words in answer
    assert _left(tmp_path) == []


def test_kept_serving_the_printed_lines_work_as_they_stand(tmp_path: Path) -> None:
    process = _begin(tmp_path)
    try:
        until(lambda: "Ctrl-C to stop the demo" in _said(tmp_path) or process.poll() is not None)
        result = _said(tmp_path)
        # As the README shows it: the result of the push comes before what to do next.
        assert result.index("my-game/staging: done created") < result.index("Push a tag yourself")
        found = re.search(r"  (curl -d .*) \\\n    (http\S+)", result)
        assert found is not None, result
        _, _, body, link = shlex.split(f"{found[1]} {found[2]}")

        answer = httpx.post(
            link,
            content=body,
            headers={"Content-Type": "application/x-www-form-urlencoded"},  # curl -d sends that
            trust_env=False,
        )

        assert answer.status_code == 202
        until(lambda: "my-game/1.5.0: done created" in _said(tmp_path))
        line = re.search(r"  (DATABASE_URL=\S+ .* deliveries)\n", result)
        assert line is not None
        listed = subprocess.run(
            ["/bin/sh", "-c", f"{line[1]} --json"],
            cwd=tmp_path / "here",
            env=BARE,
            capture_output=True,
            check=True,
        ).stdout
        newest = json.loads(listed.splitlines()[0])
        assert newest["id"] == answer.json()["delivery"]
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(TIMEOUT_SECONDS)
    assert code == 0
    assert "Traceback" not in _said(tmp_path)
    assert _left(tmp_path) == []


AT_THE_FIRST_PUSH = """
import os, signal, sys
import receiver.cli.tour as tour
tour._report = lambda *_: os.kill(os.getpid(), signal.SIGINT)
from receiver.__main__ import main
main()
"""


@pytest.mark.parametrize("arguments", [[], ["--once"]])
def test_ctrl_c_before_a_version_was_created_ends_in_a_line(
    tmp_path: Path, arguments: list[str]
) -> None:
    """It ended with 1, as a demo that failed."""
    done = subprocess.run(
        [sys.executable, "-c", AT_THE_FIRST_PUSH, "demo", *arguments],
        cwd=tmp_path,
        env={**BARE, "TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=False,
        timeout=TIMEOUT_SECONDS,
    )

    assert done.returncode == 130
    assert done.stderr == b"receiver: stopped\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["demo", "--once"], ["serve"]])
def test_a_taken_port_is_said_in_a_sentence(tmp_path: Path, command: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-m", "receiver", *command, "--port", port],
            cwd=tmp_path,
            env={
                **BARE,
                "TMPDIR": str(tmp_path),
                "RECEIVER_SECRET_KEY": "k" * 40,
                "EDGEGAP_TOKEN": "token-of-nobody",
                "EDGEGAP_BASE_URL": "http://127.0.0.1:9",
                "RECEIVER_CONFIG_TOML": '[[rule]]\nrepository = "a/b"\napp = "app"\n',
            },
            capture_output=True,
            text=True,
            check=False,
        )

    assert done.returncode == 1
    assert f"cannot listen on port {port} of 127.0.0.1 (Address already in use)" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("receiver-demo-*"))

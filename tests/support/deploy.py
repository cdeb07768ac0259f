"""What the tests of deploy/ share: its folder, and the real tools that judge what is in it."""

import atexit
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent.parent.parent
DEPLOY = HERE / "deploy"
SECRETS = ("secret-key", "admin-password", "edgegap-token", "dockerhub-username", "dockerhub-token")


def tool(name: str, source: str) -> str:
    """The path of a program beside this Python or on the PATH; without it the test is skipped."""
    beside = str(Path(sys.executable).parent)
    found = shutil.which(name, path=f"{beside}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed, so this is not proven here: {source}")
    return found


def ran(
    *command: str | Path, environment: Mapping[str, str] | None = None, cwd: Path = HERE
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; what it wrote is in `stdout`."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=110,
        check=False,
    )


@cache
def wheels() -> Path:
    """A folder of all that the image's locks name, fetched once, each held to its hash."""
    folder = Path(tempfile.mkdtemp(prefix="receiver-wheels-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    locks = [f"-r{DEPLOY / name}" for name in ("requirements.txt", "requirements-build.txt")]
    fetch = (sys.executable, "-m", "pip", "download", "-q", "--require-hashes")
    fetched = ran(*fetch, "--only-binary=:all:", *locks, "-d", folder)
    assert fetched.returncode == 0, fetched.stdout
    return folder


def from_wheels() -> dict[str, str]:
    """What lets pip install from that folder and nowhere else."""
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels())}


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])

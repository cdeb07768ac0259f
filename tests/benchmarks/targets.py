"""The servers that are compared: each a process of its own, set up as it is in production."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.benchmarks.bodies import SMALL_BYTES, body_of
from tests.support.postgres import free_port
from tests.support.receiver_process import RULE, ReceiverProcess, until

OURS = "receiver"
STARLETTE = "bare Starlette"
FASTAPI = "FastAPI"
WEBHOOK = "webhook, answers first"
WEBHOOK_WAITS = "webhook, waits"
PEERS = (STARLETTE, FASTAPI, WEBHOOK, WEBHOOK_WAITS)


@dataclass(frozen=True, slots=True)
class Target:
    """One server: where it takes a webhook, its process, and how long it took to answer."""

    name: str
    url: str
    pid: int
    started_seconds: float


@contextlib.contextmanager
def sandbox(*, latency: float = 0.0, apps: tuple[str, ...] = ()) -> Iterator[str]:
    """Edgegap's stand-in as a process of its own; yields its URL."""
    command = [sys.executable, "-m", "receiver.sandbox", "--port", "0", "--latency", str(latency)]
    for app in apps:
        command += ["--app", app]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip().partition("=")[2]
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


@contextlib.contextmanager
def ours(
    folder: Path,
    edgegap: str,
    *,
    config: str = RULE,
    environment: Mapping[str, str] | None = None,
    name: str = OURS,
) -> Iterator[Target]:
    """`receiver serve`, at work on what it accepts; the rule turns preflight off."""
    folder.mkdir(exist_ok=True)
    answer = {**_as_installed(folder), **(environment or {})}
    quick = {"EDGEGAP_REQUESTS_PER_SECOND": "8", **answer}
    receiver = ReceiverProcess(folder, edgegap, config=config, environment=quick, fresh=True)
    began = time.perf_counter()
    receiver.start()
    try:
        first_answer(receiver.link())
        assert receiver.process is not None
        yield Target(name, receiver.link(), receiver.process.pid, time.perf_counter() - began)
    finally:
        receiver.kill()


def _as_installed(folder: Path) -> dict[str, str]:
    """Hide what only the developers' tools bring: structlog loads `rich` where it finds it."""
    hiding = folder / "not-installed"
    hiding.mkdir(exist_ok=True)
    (hiding / "rich.py").write_text('raise ImportError("requirements.txt has none")\n', "utf-8")
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(hiding), os.environ.get("PYTHONPATH")]))
    }


@contextlib.contextmanager
def peer(name: str, folder: Path) -> Iterator[Target]:
    """One of those we compare ourselves with."""
    port = free_port()
    command = _python(name, port) if name in {STARLETTE, FASTAPI} else _webhook(name, port, folder)
    url = f"http://127.0.0.1:{port}/hooks/dockerhub/{'token' * 20}"
    with (folder / f"{port}.log").open("wb") as log:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        first_answer(url)
        yield Target(name, url, process.pid, time.perf_counter() - began)
    finally:
        process.kill()
        process.wait(30)


def first_answer(url: str) -> None:
    """Send webhooks until one is taken."""

    def answered() -> bool:
        try:
            content = body_of(SMALL_BYTES, "first")
            headers = {"Content-Type": "application/json"}
            return httpx.post(url, content=content, headers=headers, trust_env=False).is_success
        except httpx.TransportError:
            return False

    until(answered)


def _python(name: str, port: int) -> list[str]:
    module = "bare_starlette" if name == STARLETTE else "validating_fastapi"
    how = ["--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"]
    app = f"tests.benchmarks.peers.{module}:app"
    return [sys.executable, "-m", "uvicorn", app, "--port", str(port), *how]


def _webhook(name: str, port: int, folder: Path) -> list[str]:
    program = shutil.which("webhook")
    assert program is not None, "apt-get install webhook"
    hook = {
        "id": "token" * 20,
        "execute-command": "/bin/true",
        "http-methods": ["POST"],
        "success-http-response-code": 202,
        "include-command-output-in-response": name == WEBHOOK_WAITS,
    }
    hooks = folder / f"{port}-hooks.json"
    hooks.write_text(json.dumps([hook]), "utf-8")
    return [
        *(program, "-hooks", str(hooks), "-ip", "127.0.0.1", "-port", str(port)),
        *("-urlprefix", "hooks/dockerhub"),
    ]

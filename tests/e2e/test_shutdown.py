"""SIGTERM: an orderly end within ten seconds, whatever hangs, and nothing done twice after it."""

import json
import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from tests.support.postgres import free_port
from tests.support.receiver_process import ReceiverProcess, created_once, until

LIMIT_SECONDS = 10.0


def events(receiver: ReceiverProcess) -> list[str]:
    return [json.loads(line)["event"] for line in receiver.log.read_text("utf-8").splitlines()]


def test_a_call_that_hangs_and_a_sender_that_dawdles_keep_nobody_up(
    receiver: ReceiverProcess, sandbox: EdgegapSandbox
) -> None:
    sandbox.misbehave(Fault("slow", method="POST", after=True, seconds=50))
    delivery = receiver.push("1.0.0")
    until(lambda: sandbox.versions)
    url, process = httpx.URL(receiver.link()), receiver.process
    assert process is not None
    with closing(socket.create_connection((url.host, url.port or 80))) as dawdler:
        head = f"POST {url.path} HTTP/1.1\r\nHost: h\r\nContent-Length: 99\r\n\r\n{{"
        dawdler.sendall(head.encode())
        # A later request is answered: so this connection was accepted before the shutdown.
        assert httpx.get(f"{receiver.url}/livez", trust_env=False).status_code == 200

        process.terminate()
        assert process.wait(LIMIT_SECONDS) == 0

        dawdler.settimeout(5)
        assert dawdler.recv(4096).startswith(b"HTTP/1.1 408 ")  # never 202: it was not whole
    assert "registrations_released" in events(receiver)
    assert "Traceback" not in receiver.log.read_text("utf-8")

    receiver.start()

    ended = receiver.ended(delivery)
    assert ended["outcome"] == "created"
    assert created_once(sandbox, "1.0.0")
    assert sum(call.method == "POST" for call in sandbox.calls) == 1
    assert "lease_expired" not in events(receiver)  # handed back, not found dead


def test_what_can_be_finished_is_finished_before_the_end(
    receiver: ReceiverProcess, sandbox: EdgegapSandbox
) -> None:
    sandbox.misbehave(Fault("slow", method="POST", seconds=0.5))
    receiver.push("1.0.0")
    until(lambda: any(call.method == "POST" for call in list(sandbox.calls)))

    assert receiver.stop() == 0

    assert created_once(sandbox, "1.0.0")
    assert "registration_done" in events(receiver)
    assert "registrations_released" not in events(receiver)


def test_nothing_more_is_accepted_once_it_is_ending(
    receiver: ReceiverProcess, sandbox: EdgegapSandbox
) -> None:
    assert receiver.stop() == 0

    url = httpx.URL(receiver.url)
    with socket.socket() as caller:
        assert caller.connect_ex((url.host, url.port)) != 0


@pytest.mark.parametrize("gone", ["a full disk", "a reader that left"])
def test_a_log_that_cannot_be_written_costs_nothing_else(
    receiver: ReceiverProcess, gone: str
) -> None:
    receiver.stop()
    port = free_port()
    reading, writing = os.pipe()
    with Path("/dev/full").open("wb") as full:
        process = subprocess.Popen(
            [sys.executable, "-m", "receiver", "serve", "--port", str(port)],
            cwd=receiver.folder,
            env=receiver.environment,
            stderr=full if gone == "a full disk" else writing,
        )
    os.close(reading)
    os.close(writing)
    receiver.url = f"http://127.0.0.1:{port}"

    until(lambda: _answers(receiver))
    assert receiver.ended(receiver.push("1.0.0"))["outcome"] == "created"

    process.terminate()
    assert process.wait(LIMIT_SECONDS) == 0


def _answers(receiver: ReceiverProcess) -> bool:
    try:
        return httpx.get(f"{receiver.url}/livez", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False

"""The image's health check finds the receiver wherever `serve` listens."""

import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest


class Alive(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/livez" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Alive) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def check(folder: Path, environ: dict[str, str]) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "receiver.healthcheck"],
        cwd=folder,
        env={"PYTHONPATH": os.pathsep.join(sys.path), **environ},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "environ",
    [
        {"PORT": "{}"},
        {"PORT": "{} # c", "HOST": "127.0.0.1 # c"},
        {"PORT": "“{}”", "HOST": "“0.0.0.0”"},
        {"PORT": "'{}'", "HOST": '"127.0.0.1"'},
        {"PORT": "{}.0", "HOST": ""},
        {"PORT": "{}e0", "HOST": "localhost", "HTTP_PROXY": "http://127.0.0.1:9"},
    ],
)
def test_it_reads_the_address_as_serve_does(
    tmp_path: Path, port: int, environ: dict[str, str]
) -> None:
    assert check(tmp_path, {k: v.format(port) for k, v in environ.items()}) == (0, "HTTP 200\n")


def test_it_reads_the_env_files(tmp_path: Path, port: int) -> None:
    (tmp_path / ".env").write_text(f"PORT={port} # c\nHOST=0.0.0.0\n", "utf-8")
    folder = tmp_path / "etc"
    folder.mkdir()

    assert check(tmp_path, {}) == (0, "HTTP 200\n")
    assert check(folder, {"RECEIVER_CONFIG": "../receiver.toml"}) == (0, "HTTP 200\n")


@pytest.mark.parametrize(
    "environ",
    [
        {"PORT": "9"},
        {"PORT": "http"},
        {"PORT": "1e9"},
        {"PORT": "inf"},
        {"PORT": "nan"},
        {"PORT": "9", "HOST": "a\nb"},
        {"PORT": "9", "HOST": "no.such.host.invalid"},
        {"PORT": "9", "HOST": "ö" * 80},
    ],
)
def test_a_failure_is_one_line(tmp_path: Path, environ: dict[str, str]) -> None:
    code, said = check(tmp_path, environ)

    assert code == 1
    assert said.startswith("no answer at port ")
    assert said.count("\n") == 1

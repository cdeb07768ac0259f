"""The Procfile, run by a real reader of such files, as a host like Heroku does."""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx

from receiver.signing import LinkSigner
from tests.support.deploy import DEPLOY, HERE, free_port, from_wheels, ran, tool
from tests.support.receiver_process import (
    KEY,
    NOWHERE,
    OURS,
    REPOSITORY,
    RULE,
    TIMEOUT_SECONDS,
    until,
    webhook_body,
)

OF_THE_HOST = {
    "DYNO": "web.1",
    "RECEIVER_CONFIG_TOML": RULE,
    "RECEIVER_PUBLIC_URL": "https://hooks.example.com",
    "RECEIVER_SECRET_KEY": KEY,
    "EDGEGAP_TOKEN": "sandbox-token",
    "EDGEGAP_BASE_URL": NOWHERE,
    "DOCKERHUB_REGISTRY_URL": NOWHERE,
    "DOCKERHUB_AUTH_URL": NOWHERE,
    "DOCKERHUB_API_URL": NOWHERE,
}


def test_a_host_that_runs_the_procfile_has_a_link_that_takes_a_push(tmp_path: Path) -> None:
    port, own = free_port(), tmp_path / "host"
    ran(sys.executable, "-m", "venv", own)
    # What its page has such a host install: the locks, and not the program itself.
    locks = ("--require-hashes", "-r", DEPLOY / "requirements.txt")
    installed = ran(own / "bin/pip", "install", "-q", *locks, environment=from_wheels())
    assert installed.returncode == 0, installed.stdout
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(OURS)},
        **OF_THE_HOST,
        "PATH": f"{own / 'bin'}:{os.environ['PATH']}",
        "PORT": str(port),
        "DATABASE_URL": f"sqlite:///{tmp_path / 'receiver.db'}",
    }
    none = tmp_path / "no.env"
    none.touch()
    log = tmp_path / "host.log"
    command = (tool("honcho", "pip install honcho"), "-e", none,
               "-f", HERE / "Procfile", "start", "web")  # fmt: skip
    with log.open("wb") as out:
        host = subprocess.Popen(command, env=environment, stdout=out, stderr=out, cwd=HERE)
    try:
        until(lambda: f':{port}"' in log.read_text("utf-8") or host.poll() is not None)
        assert host.poll() is None, log.read_text("utf-8")
        # Not the address it would listen on by itself: a router comes from elsewhere.
        link = LinkSigner([KEY], {}).link(f"http://127.0.0.2:{port}", REPOSITORY)
        assert httpx.post(link, json=webhook_body(), trust_env=False).status_code == 202
    finally:
        host.terminate()
        host.wait(TIMEOUT_SECONDS)
    for asked in ("--version", "check"):
        done = ran(own / "bin/python", "-m", "receiver", asked, environment=environment)
        assert done.returncode == 0, done.stdout
    answer = log.read_text("utf-8")
    assert "ledger_on_ephemeral_disk" in answer
    assert re.search(r"web.1 .*stopped \(rc=", answer), answer

"""The Procfile, run by a real reader of such files, as a host like Heroku does."""

import os
import re
import subprocess
import sys
from pathlib import Path

import httpx

from receiver.hook_tokens import LinkKeys
from tests.deploying import HERE, free_port, tool
from tests.running import (
    KEY,
    NOWHERE,
    OURS,
    PATIENCE_SECONDS,
    REPOSITORY,
    RULE,
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
    port = free_port()
    beside = Path(sys.executable).parent
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(OURS)},
        **OF_THE_HOST,
        "PATH": f"{beside}:{os.environ['PATH']}",
        "PORT": str(port),
    }
    none = tmp_path / "no.env"
    none.touch()
    log = tmp_path / "host.log"
    command = (tool("honcho", "pip install honcho"), "-e", none,
               "-f", HERE / "Procfile", "start", "web")  # fmt: skip
    with log.open("wb") as out:
        host = subprocess.Popen(command, env=environment, stdout=out, stderr=out, cwd=tmp_path)
    try:
        until(lambda: f':{port}"' in log.read_text("utf-8") or host.poll() is not None)
        assert host.poll() is None, log.read_text("utf-8")
        # Not the address it would listen on by itself: a router comes from elsewhere.
        link = LinkKeys([KEY], {}).link(f"http://127.0.0.2:{port}", REPOSITORY)
        assert httpx.post(link, json=webhook_body(), trust_env=False).status_code == 202
    finally:
        host.terminate()
        host.wait(PATIENCE_SECONDS)
    told = log.read_text("utf-8")
    assert "ledger_may_be_forgotten" in told
    assert re.search(r"web.1 .*stopped \(rc=", told), told

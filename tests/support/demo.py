"""`receiver demo` as a process, as a newcomer starts it; its page, link and stand-ins read off."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.receiver_process import TIMEOUT_SECONDS, until, webhook_body

BARE = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}


class Demo:
    """A running demo and what it printed."""

    def __init__(self, said: str) -> None:
        self.url = _found(r"Admin page.*\n  (http\S+)/\n", said)
        self.password = _found(r"  password (\S+)\n", said)
        self.link = _found(r"The link.*\n  (http\S+)\n", said)
        self.dockerhub = _found(r"that of Docker Hub at (http\S+)\n", said)

    def push(self, tag: str, **push_data: Any) -> str:
        """Send a webhook to its link; return the delivery's id."""
        answer = httpx.post(self.link, json=webhook_body(tag, **push_data), trust_env=False)
        assert answer.status_code in {200, 202}, answer.text
        return str(answer.json()["delivery"])

    def push_image(self, tag: str, platform: str = "linux/amd64") -> None:
        """Put an image on its stand-in of Docker Hub."""
        image = {"repository": "studio/game-server", "tag": tag, "platforms": [platform]}
        url = f"{self.dockerhub}/_sandbox/state"
        httpx.post(url, json={"push": [image]}, trust_env=False).raise_for_status()


@contextmanager
def demonstrating(folder: Path, environment: Mapping[str, str] | None = None) -> Iterator[Demo]:
    """Run the demo until the block is left; it must end cleanly."""
    out = folder / "out"
    with out.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "receiver", "demo"],
            cwd=folder,
            env={**BARE, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1", **(environment or {})},
            stdout=said,
            stderr=subprocess.STDOUT,
        )
    try:
        until(lambda: "Ctrl-C to stop" in out.read_text("utf-8") or process.poll() is not None)
        until(lambda: "my-game/staging: done created" in out.read_text("utf-8"))
        yield Demo(out.read_text("utf-8"))
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(TIMEOUT_SECONDS)
    assert code == 0, out.read_text("utf-8")


def _found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match is not None, text
    return match[1]

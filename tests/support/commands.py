"""Commands run inside the tests' own process: quicker than a process for each."""

import json
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from click.testing import CliRunner, Result

from receiver.cli import main
from tests.support.receiver_process import KEY, RULE, ReceiverProcess

OURS = ("RECEIVER_", "EDGEGAP_", "DOCKERHUB_", "DATABASE_URL", "PORT", "HOST")
NOWHERE = "http://127.0.0.1:9"  # nothing listens there: who calls it finds out


class Commands:
    """A folder with a configuration and an environment, in which commands are run."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.environment = dict(environment)

    def configure(self, text: str) -> None:
        """Write receiver.toml."""
        (self.folder / "receiver.toml").write_text(text, "utf-8")

    def run(self, *arguments: str, given: str | None = None, **environment: str | None) -> Result:
        """Run one command, `given` on its input; None takes a variable away.

        A traceback fails the test.
        """
        unset = dict.fromkeys(name for name in os.environ if name.startswith(OURS))
        variables = {**unset, **self.environment, **environment}
        # The program adds what its .env sets, for proxies: no other test may see that.
        with chdir(self.folder), _own_logs(), patch.dict(os.environ):
            return CliRunner().invoke(
                main, arguments, input=given, env=variables, catch_exceptions=False
            )

    def json_of(self, *arguments: str, **environment: str | None) -> Any:
        """Run one command that must succeed with one JSON document on standard output."""
        done = self.run(*arguments, **environment)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def rows(self, *arguments: str) -> list[dict[str, Any]]:
        """Run one command that must succeed with a JSON object on each line."""
        done = self.run(*arguments)
        assert done.exit_code == 0, done.output
        return [json.loads(line) for line in done.stdout.splitlines()]

    def push(self, image: str = "studio/game-server:1.0.0") -> dict[str, Any]:
        """Record a push by hand, with no server running; return what was reported of it."""
        done = self.run("push", image, "--json")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


def commands_in(folder: Path, edgegap_url: str = NOWHERE) -> Commands:
    """Commands in this folder, with one rule."""
    commands = Commands(
        folder,
        {
            "HOST": "127.0.0.1",  # chosen: in a container the default is warned of
            "RECEIVER_SECRET_KEY": KEY,
            "RECEIVER_PUBLIC_URL": "https://hooks.example.com",
            "EDGEGAP_TOKEN": "sandbox-token",
            "EDGEGAP_BASE_URL": edgegap_url,
            "EDGEGAP_REQUESTS_PER_SECOND": "500",
        },
    )
    commands.configure(RULE)
    return commands


def commands_beside(receiver: ReceiverProcess) -> Commands:
    """Commands in a receiver's folder, with its settings."""
    return Commands(receiver.folder, receiver.environment)


@contextmanager
def _own_logs() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    try:
        yield
    finally:
        root.handlers, root.level = handlers, level

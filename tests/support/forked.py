"""Starts the receiver by a fork of a process that has imported it: a third of the CPU of a start.

Hundreds of tests start one. What is imported, and when, is tested by those that start a program.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_FORKING = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload(["receiver.__main__", "receiver.cli.serve", "receiver.cli.server"])


class ForkedReceiver:
    """`receiver` with these arguments; the part of `subprocess.Popen` that tests use."""

    def __init__(
        self, arguments: Sequence[str], *, cwd: Path, env: Mapping[str, str], log: Path
    ) -> None:
        given = (tuple(arguments), cwd, dict(env), log)
        self._process = _FORKING.Process(target=_run, args=given, daemon=True)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Return the exit code, minus the number of the signal that ended it; None if it runs."""
        return self._process.exitcode

    def wait(self, timeout: float) -> int:
        """Wait for its end; return the exit code. Raises subprocess.TimeoutExpired."""
        self._process.join(timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired("receiver", timeout)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def _run(arguments: tuple[str, ...], cwd: Path, env: dict[str, str], log: Path) -> None:
    """Become the program: its folder, environment, output and arguments."""
    from receiver.__main__ import main  # noqa: PLC0415

    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    with log.open("ab") as out:
        for descriptor in (1, 2):
            os.dup2(out.fileno(), descriptor)
    sys.argv = ["receiver", *arguments]
    main()

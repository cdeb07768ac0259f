"""Findings of doctor: each passes, warns or fails, and has a fix unless it passes.

The page runs `receiver doctor` in a process of its own: within the receiver it would open the
ledger's file a second time, and closing that would end the locks that SQLite holds on it.
"""

import asyncio
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping
from enum import StrEnum

import msgspec

from receiver.timestamps import Time

RUN_SECONDS = 120.0
FOUND = frozenset({0, 1, 3})  # doctor's exit codes: passed, a check failed, a faulty configuration
MAX_FINDINGS = 500


class Health(StrEnum):
    """The status of a finding."""

    PASS = "pass"  # noqa: S105 - a word
    WARN = "warn"
    FAIL = "fail"


class Finding(msgspec.Struct, frozen=True):
    """The subject of a check, its result, and the fix if something is wrong."""

    health: Health
    what: str
    found: str
    hint: str = ""


def passed(what: str, found: str) -> Finding:
    """Return a finding that passes."""
    return Finding(Health.PASS, what, found)


def warned(what: str, found: str, hint: str) -> Finding:
    """Return a warning with its fix."""
    return Finding(Health.WARN, what, found, hint)


def failed(what: str, found: str, hint: str) -> Finding:
    """Return a failure with its fix."""
    return Finding(Health.FAIL, what, found, hint)


class ChecksRun:
    """The last run of doctor: its findings so far, and when it began and ended."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._task: asyncio.Task[None] | None = None
        self.findings: tuple[Finding, ...] = ()
        self.begun_at: Time | None = None
        self.ended_at: Time | None = None
        self.problem = ""

    @property
    def revision(self) -> object:
        """What changes whenever the page of checks changes."""
        return self.begun_at, self.ended_at, len(self.findings)

    def start(self) -> None:
        """Start a run, unless one is in progress."""
        if self._task is None or self._task.done():
            self.findings, self.problem = (), ""
            self.begun_at, self.ended_at = _now(), None
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End the run, if one is in progress."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "receiver", "doctor", "--json"),
                stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, env=dict(self._environ),
            )  # fmt: skip
            try:
                async with asyncio.timeout(RUN_SECONDS):
                    await self._read(process)
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
        except TimeoutError:
            self.problem = f"The checks did not end within {RUN_SECONDS:.0f} seconds."
        except (OSError, ValueError, msgspec.DecodeError):
            self.problem = "The checks could not be run here."
        if self.problem:
            self.problem += " Run `receiver doctor` on the receiver's machine."
        self.ended_at = _now()

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None  # noqa: S101 - it was requested as a pipe
        async for line in process.stdout:
            finding = msgspec.json.decode(line, type=Finding)
            self.findings = (*self.findings, finding)[-MAX_FINDINGS:]
        if await process.wait() not in FOUND or not self.findings:
            self.problem = "The checks ended early."


def _now() -> Time:
    return Time(time.time_ns() // 1_000_000)

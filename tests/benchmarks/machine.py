"""What a process costs, as Linux reports it."""

import os
import time
from pathlib import Path

MAX_IDLING_SECONDS = 30.0
IDLE_SECONDS = 0.04  # of CPU in a quarter of a second
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def threads_seconds(pid: int) -> float:
    """CPU seconds of its living threads, to the nanosecond: for what hardly works at all."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a process and of those children that it waited for, to a hundredth."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / _TICKS


def resident_megabytes(pid: int) -> float:
    """The memory it holds now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / 1e6


def most_megabytes(pid: int) -> float:
    """The most memory it has held so far."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise LookupError(pid)


def wait_until_idle(pid: int) -> None:
    """Wait until it has done what it still had to do: else it would slow the next one down."""
    end = time.monotonic() + MAX_IDLING_SECONDS
    while time.monotonic() < end:
        before = cpu_seconds(pid)
        time.sleep(0.25)
        if cpu_seconds(pid) - before <= IDLE_SECONDS:
            return

"""The commands of the command line: CPU seconds and memory of each, beside two imports."""

import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from receiver.cli import COMMANDS
from tests.benchmarks.table import Line, Part, median, ratio_in_rounds, turned
from tests.support.receiver_process import REPOSITORY, ReceiverProcess

IMPORTS = "import click, httpx"
HELP_SECONDS, HELP_MEGABYTES = 0.25, 35.0
CHECK_SECONDS = 0.5
MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss)
"""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process cost."""

    seconds: float  # of CPU
    megabytes: float  # of memory, at its peak


def commands(folder: Path, *, rounds: int, seconds: float) -> list[Part]:
    """Run each command in turn: its `--help`, and `check` and `link` on a configuration."""
    receiver = ReceiverProcess(folder, "https://api.example.com", fresh=True)
    receiver.environment["RECEIVER_PUBLIC_URL"] = "https://hooks.example.com"
    program = (sys.executable, "-m", "receiver")
    lines: dict[str, tuple[str, ...]] = {IMPORTS: (sys.executable, "-c", IMPORTS)}
    lines |= {f"{name} --help": (*program, name, "--help") for name in COMMANDS}
    lines |= {"check": (*program, "check"), "link": (*program, "link", REPOSITORY)}
    found: dict[str, list[Cost]] = defaultdict(list)
    for turn in range(rounds):
        for name in turned(list(lines), turn):
            found[name].append(_cost(lines[name], folder, receiver.environment))
    return [
        Part("CPU seconds of a command", tuple(_seconds(name, found) for name in lines)),
        Part("Memory of a command", tuple(_megabytes(name, found) for name in lines)),
    ]


def _cost(command: tuple[str, ...], folder: Path, environment: Mapping[str, str]) -> Cost:
    """Run a command that must succeed, from a small process: Linux counts the memory of both."""
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, *command],
        cwd=folder,
        env=dict(environment),
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    seconds, kilobytes = measured.stdout.split()
    return Cost(float(seconds), int(kilobytes) / 1024)


def _seconds(name: str, found: Mapping[str, list[Cost]]) -> Line:
    ours = [cost.seconds for cost in found[name]]
    if name == IMPORTS:
        return Line(name, f"{median(ours):.2f} s")
    ratio = ratio_in_rounds(ours, [cost.seconds for cost in found[IMPORTS]])
    goal = HELP_SECONDS if name.endswith("--help") else CHECK_SECONDS
    met = median(ours) <= goal
    return Line(name, f"{median(ours):.2f} s", ratio, IMPORTS, f"≤ {goal:g} s", met)


def _megabytes(name: str, found: Mapping[str, list[Cost]]) -> Line:
    ours = [cost.megabytes for cost in found[name]]
    if name == IMPORTS:
        return Line(name, f"{median(ours):.0f} MB")
    ratio = ratio_in_rounds(ours, [cost.megabytes for cost in found[IMPORTS]])
    if not name.endswith("--help"):
        return Line(name, f"{median(ours):.0f} MB", ratio, IMPORTS)
    met = median(ours) <= HELP_MEGABYTES
    return Line(name, f"{median(ours):.0f} MB", ratio, IMPORTS, f"≤ {HELP_MEGABYTES:g} MB", met)

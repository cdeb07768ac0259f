"""What each shortcut on the way to the 202 saves: the receiver with it, and without it.

All receivers run side by side and are loaded in turn, round after round. The one without a shortcut
has it replaced as it starts, by a few lines of Python.
"""

import contextlib
import os
from collections import defaultdict
from pathlib import Path

from tests.benchmarks.bodies import SMALL_BYTES
from tests.benchmarks.machine import cpu_seconds, wait_until_idle
from tests.benchmarks.table import Line, Part, median, ratio_in_rounds, turned
from tests.benchmarks.targets import OURS, ours, sandbox
from tests.benchmarks.wrk import load

WORTH = 0.9  # without it, at most this rate: it saves a tenth of an accept

WITHOUT = {
    "head and body in one packet": """
from receiver.web import protocol
protocol._Joining.write = lambda self, data: self._transport.write(data)
""",
    "webhooks before the router": """
from receiver.web import app
app.PATH = "/no-such-path/"
""",
    "log lines of a tick together": """
from receiver import logs
write = logs._Lines.write
logs._Lines.write = lambda self, text: (write(self, text), self.send())[0]
""",
    "one timer for all bodies": """
import asyncio
from receiver.web import body
class Timer:
    def begin(self, task):
        loop = asyncio.get_running_loop()
        self.handle = loop.call_later(body.MAX_BODY_SECONDS, task.cancel)
    def end(self, task):
        self.handle.cancel()
body._watch_of = lambda loop: Timer()
""",
}


def shortcuts(folder: Path, *, rounds: int, seconds: float) -> list[Part]:
    """Load the receiver as it is and without each shortcut in turn."""
    rates: dict[str, list[float]] = defaultdict(list)
    costs: dict[str, list[float]] = defaultdict(list)
    with contextlib.ExitStack() as stack:
        edgegap = stack.enter_context(sandbox())
        targets = [stack.enter_context(ours(folder / "ours", edgegap))]
        for number, (name, replaced) in enumerate(WITHOUT.items()):
            place = folder / f"without-{number}"
            place.mkdir()
            (place / "sitecustomize.py").write_text(replaced, "utf-8")
            path = os.pathsep.join(filter(None, [str(place), os.environ.get("PYTHONPATH")]))
            targets.append(
                stack.enter_context(
                    ours(place, edgegap, environment={"PYTHONPATH": path}, name=name)
                )
            )
        for turn in range(rounds):
            for target in turned(targets, turn):
                before = cpu_seconds(target.pid)
                came = load(target.url, folder, size=SMALL_BYTES, seconds=seconds)
                assert came.errors == 0, (target.name, came)
                costs[target.name].append((cpu_seconds(target.pid) - before) / came.requests)
                rates[target.name].append(came.per_second)
                wait_until_idle(target.pid)
    lines = [_line(name, rates, costs) for name in (OURS, *WITHOUT)]
    return [Part("Accepts a second without a shortcut, 64 connections, 2 KB", tuple(lines))]


def _line(name: str, rates: dict[str, list[float]], costs: dict[str, list[float]]) -> Line:
    micros = f"{median(rates[name]):,.0f}, {median(costs[name]) * 1e6:.0f} µs"
    if name == OURS:
        return Line(name, micros)
    ratio = ratio_in_rounds(rates[name], rates[OURS])
    return Line(name, micros, ratio, "the rate with it", f"≤ {WORTH}", ratio <= WORTH)

"""Accepting under load: we answer after the disk has it, the others store nothing.

All servers run side by side and are loaded in turn, round after round.
"""

import contextlib
from collections import defaultdict
from pathlib import Path

from tests.benchmarks.bodies import LARGE_BYTES, SMALL_BYTES
from tests.benchmarks.machine import (
    cpu_seconds,
    most_megabytes,
    resident_megabytes,
    wait_until_idle,
)
from tests.benchmarks.table import Line, Part, at_least, median, ratio_in_rounds, turned, under
from tests.benchmarks.targets import (
    FASTAPI,
    OURS,
    PEERS,
    STARLETTE,
    WEBHOOK_WAITS,
    Target,
    ours,
    peer,
    sandbox,
)
from tests.benchmarks.wrk import Load, load

GOALS = {STARLETTE: 0.5, FASTAPI: 1.0, WEBHOOK_WAITS: 5.0}
NAMES = {SMALL_BYTES: "2 KB", LARGE_BYTES: "30 KB"}

Found = dict[tuple[str, int], list[tuple[Load, float]]]


def accepting(folder: Path, *, rounds: int, seconds: float) -> list[Part]:
    """Load ours and its peers in turn; then what that cost them."""
    found: Found = defaultdict(list)
    with contextlib.ExitStack() as stack:
        edgegap = stack.enter_context(sandbox())
        targets = [stack.enter_context(ours(folder / "ours", edgegap))]
        targets += [stack.enter_context(peer(name, folder)) for name in PEERS]
        idle = {target.name: resident_megabytes(target.pid) for target in targets}
        for size in NAMES:
            for turn in range(rounds):
                for target in turned(targets, turn):
                    before = cpu_seconds(target.pid)
                    came = load(target.url, folder, size=size, seconds=seconds)
                    assert came.errors == 0, (target.name, came)
                    wait_until_idle(target.pid)
                    found[target.name, size].append((came, cpu_seconds(target.pid) - before))
        loaded = {target.name: most_megabytes(target.pid) for target in targets}
    parts = [_compared(found, size) for size in NAMES]
    return [*parts, _cost(found), _memory(targets, idle, loaded)]


def _compared(found: Found, size: int) -> Part:
    rates = {name: _rates(found, name, size) for name in (OURS, *PEERS)}
    lines = [Line(OURS, f"{median(rates[OURS]):,.0f} a second")]
    for name in PEERS:
        ratio = ratio_in_rounds(rates[OURS], rates[name])
        goal = GOALS.get(name)
        lines.append(at_least(name, f"{median(rates[name]):,.0f} a second", ratio, "ours", goal))
    p99 = median(load.p99 for load, _ in found[OURS, size])
    lines.append(under("receiver, p99 at 64 connections", p99, "ms"))
    return Part(f"Accepts, 64 connections, {NAMES[size]} (ratio: ours to it)", tuple(lines))


def _rates(found: Found, name: str, size: int) -> list[float]:
    return [load.per_second for load, _ in found[name, size]]


def _cost(found: Found) -> Part:
    lines = []
    for name in (OURS, *PEERS):
        spent = [cpu / load.requests * 1000 for load, cpu in found[name, SMALL_BYTES]]
        lines.append(under(name, median(spent), "s"))
    return Part("CPU seconds for 1,000 accepts, 64 connections, 2 KB", tuple(lines))


def _memory(targets: list[Target], idle: dict[str, float], loaded: dict[str, float]) -> Part:
    lines = [
        Line(target.name, f"{idle[target.name]:.0f} → {loaded[target.name]:.0f} MB")
        for target in targets
    ]
    return Part("Memory after the first answer → most under load", tuple(lines))

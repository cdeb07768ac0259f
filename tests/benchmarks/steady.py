"""At a moderate rate and at rest: what an answer takes, and what the process costs."""

import contextlib
import time
from collections import defaultdict
from pathlib import Path

from tests.benchmarks.bodies import SMALL_BYTES
from tests.benchmarks.machine import cpu_seconds, resident_megabytes, threads_seconds
from tests.benchmarks.paced import Paced, paced
from tests.benchmarks.table import Line, Part, at_most, median, turned, under
from tests.benchmarks.targets import OURS, PEERS, Target, ours, peer, sandbox

A_SECOND = 200.0
SECONDS = 10.0
STARTS = 3
IDLE_SECONDS = 30.0
SETTLED_SECONDS = 3.0
P99_GOAL = 4.0
IDLE_GOAL = 0.3
REST_GOAL = 80.0

Found = dict[str, list[tuple[Paced, float]]]


def steady(folder: Path, *, rounds: int, seconds: float) -> list[Part]:
    """Send at a fixed rate to each in turn, then let ours rest."""
    found: Found = defaultdict(list)
    with contextlib.ExitStack() as stack:
        edgegap = stack.enter_context(sandbox())
        targets = [stack.enter_context(ours(folder / "ours", edgegap))]
        targets += [stack.enter_context(peer(name, folder)) for name in PEERS]
        for turn in range(rounds):
            for target in turned(targets, turn):
                before = cpu_seconds(target.pid)
                came = paced(
                    target.url,
                    size=SMALL_BYTES,
                    per_second=A_SECOND,
                    seconds=SECONDS,
                    mark=str(turn),
                )
                found[target.name].append((came, cpu_seconds(target.pid) - before))
    return [_answers(found), _cost(found), *_at_rest(folder)]


def _answers(found: Found) -> Part:
    lines = []
    for name in (OURS, *PEERS):
        p50 = median(came.p50 for came, _ in found[name])
        p99 = median(came.p99 for came, _ in found[name])
        goal = P99_GOAL if name == OURS else None
        lines.append(at_most(name, f"{p50:.2f} / {p99:.2f} ms", p99 / p50, "its p50", goal))
    return Part(f"Answers at {A_SECOND:g} a second, 2 KB, p50 / p99", tuple(lines))


def _cost(found: Found) -> Part:
    lines = [
        under(name, median(cpu / came.requests * 1000 for came, cpu in found[name]), "s")
        for name in (OURS, *PEERS)
    ]
    return Part(f"CPU seconds for 1,000 accepts at {A_SECOND:g} a second", tuple(lines))


def _at_rest(folder: Path) -> list[Part]:
    """Start to first answer, in turn; then idle, with nobody else about."""
    started: dict[str, list[float]] = defaultdict(list)
    with sandbox() as edgegap:
        for number in range(STARTS):
            for name in turned((OURS, *PEERS), number):
                begun = (
                    ours(folder / f"start-{number}", edgegap)
                    if name == OURS
                    else peer(name, folder)
                )
                with begun as target:
                    started[name].append(target.started_seconds)
        with ours(folder / "idle", edgegap) as target:
            _, first = _idle(target, 0.0)
        with ours(folder / "idle", edgegap) as target:
            idle, again = _idle(target, IDLE_SECONDS)
    starts = [Line(name, f"{median(started[name]):.2f} s") for name in (OURS, *PEERS)]
    rest = (
        under("receiver, CPU", idle, "%", IDLE_GOAL),
        under("receiver, memory", again, "MB", REST_GOAL),
        under("receiver, memory, having made a ledger", first, "MB", REST_GOAL),
    )
    return [
        Part("Start to first answer (ours: a new ledger made)", tuple(starts)),
        Part(f"At rest, {IDLE_SECONDS:g} s", rest),
    ]


def _idle(target: Target, seconds: float) -> tuple[float, float]:
    """Per cent of a CPU, and megabytes, some seconds after its first push."""
    time.sleep(SETTLED_SECONDS)
    before = threads_seconds(target.pid)
    time.sleep(seconds)
    spent = threads_seconds(target.pid) - before
    return 100 * spent / max(seconds, 1.0), resident_megabytes(target.pid)

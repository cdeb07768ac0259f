"""One, two and four replicas on one PostgreSQL, all on this machine."""

import contextlib
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.benchmarks.bodies import SMALL_BYTES
from tests.benchmarks.machine import wait_until_idle
from tests.benchmarks.table import Line, Part, at_least, median, ratio_in_rounds, turned
from tests.benchmarks.targets import Target, ours, sandbox
from tests.benchmarks.wrk import CONNECTIONS, Load, Wrk
from tests.support.postgres import NOT_INSTALLED, Postgres, plain, programs

MANY = (1, 2, 4)


def replicas(folder: Path, *, rounds: int, seconds: float) -> list[Part]:
    """Run one, two and four in turn, as many as are loaded, by 64 connections together."""
    found: dict[int, list[Load]] = defaultdict(list)
    with _postgres() as server, sandbox() as edgegap:
        for turn in range(rounds):
            for many in turned(MANY, turn):
                place = folder / f"{turn}-{many}"
                place.mkdir()
                with _running(many, place, edgegap, server) as targets:
                    found[many].append(_load(targets, place, seconds))
    rates = {many: [load.per_second for load in found[many]] for many in MANY}
    lines = [Line("1 replica", f"{median(rates[1]):,.0f} a second")]
    for many in MANY[1:]:
        ratio = ratio_in_rounds(rates[many], rates[1])
        value = f"{median(rates[many]):,.0f} a second"
        lines.append(at_least(f"{many} replicas", value, ratio, "one"))
    p99 = {many: median(load.p99 for load in found[many]) for many in MANY}
    lines += [Line(f"p99, {many} running", f"{p99[many]:.0f} ms") for many in MANY]
    return [Part("Accepts on PostgreSQL, 64 connections, 2 KB", tuple(lines))]


@contextlib.contextmanager
def _running(many: int, folder: Path, edgegap: str, server: Postgres) -> Iterator[Sequence[Target]]:
    """Exactly this number of replicas, on an empty database, idle after their start."""
    environment = {"DATABASE_URL": plain(server.new_database())}
    with contextlib.ExitStack() as stack:
        targets = [
            stack.enter_context(
                ours(folder / f"replica-{number}", edgegap, environment=environment)
            )
            for number in range(many)
        ]
        for target in targets:
            wait_until_idle(target.pid)
        yield targets


def _load(targets: Sequence[Target], folder: Path, seconds: float) -> Load:
    """The sum of what all were answered; the slowest of their p99."""
    share = CONNECTIONS // len(targets)
    runs = [
        Wrk(target.url, folder, size=SMALL_BYTES, seconds=seconds, connections=share)
        for target in targets
    ]
    came = [run.result() for run in runs]
    assert not any(load.errors for load in came), came
    return Load(
        requests=sum(load.requests for load in came),
        seconds=max(load.seconds for load in came),
        p50=median(load.p50 for load in came),
        p99=max(load.p99 for load in came),
        errors=0,
    )


@contextlib.contextmanager
def _postgres() -> Iterator[Postgres]:
    found = programs()
    assert found is not None, NOT_INSTALLED
    folder = Path(tempfile.mkdtemp(prefix="receiver-postgres-"))
    server = Postgres(folder, found)
    server.start()
    try:
        yield server
    finally:
        server.crash()
        shutil.rmtree(folder)

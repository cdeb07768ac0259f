"""How the cost of a step grows with the ledger: a thousand deliveries, and a million."""

import contextlib
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
from sqlalchemy import make_url

from receiver.config.settings import Settings
from receiver.ledger.claims import Claimed, claim
from receiver.ledger.gates import ALL, resume
from receiver.ledger.ledger import Ledger
from receiver.ledger.purge import purge_deliveries
from receiver.ledger.results import Result, settle
from receiver.ledger.transaction import Tx
from receiver.pipeline.finishing import apply_side_effects
from receiver.reasons import Reason, State
from receiver.signing import ApiToken, ApiTokenSigner
from tests.benchmarks.bodies import SMALL_BYTES
from tests.benchmarks.filling import fill
from tests.benchmarks.growth import RULES, TIMES, claiming, milliseconds
from tests.benchmarks.machine import cpu_seconds
from tests.benchmarks.table import Line, Part, at_most, median, ratio_in_rounds, turned
from tests.benchmarks.targets import Target, ours, sandbox
from tests.benchmarks.wrk import load
from tests.support.receiver_process import KEY, RULE

SIZES = tuple(
    int(size) for size in os.environ.get("BENCHMARK_SIZES", "1000 100000 1000000").split()
)
ACCEPT_GOAL = 1.3
PARKING_GOAL = 2.0
BRIEF_SECONDS = 1.0
CONFIG = RULE + RULES
FAR_AHEAD_MS = 10**14
MS = 1000.0
MICRO = 1_000_000
OWNER = "growing"

Figures = dict[int, list[float]]


def growing(folder: Path, *, rounds: int, seconds: float) -> list[Part]:
    """Fill the ledgers, run a receiver over each, and load them in turn."""
    for size in SIZES:
        (folder / str(size)).mkdir()
        fill(folder / str(size) / "receiver.db", size)
    claims: Figures = defaultdict(list)
    parkings: Figures = defaultdict(list)
    bites: Figures = defaultdict(list)
    lists: Figures = defaultdict(list)
    spent: Figures = defaultdict(list)
    rates: Figures = defaultdict(list)
    # All these before the load, which adds some ten thousand to each.
    for turn in range(rounds):
        for size in turned(SIZES, turn):
            claims[size].append(claiming(folder / str(size) / "receiver.db"))
            parkings[size].append(_parking(folder / str(size) / "receiver.db"))
            bites[size].append(_purging(folder / str(size) / "receiver.db"))
    with contextlib.ExitStack() as stack:
        edgegap = stack.enter_context(sandbox())
        targets = {
            size: stack.enter_context(ours(folder / str(size), edgegap, config=CONFIG))
            for size in SIZES
        }
        for turn in range(rounds):
            for size in turned(SIZES, turn):
                lists[size].append(_listing(targets[size]))
        # The load adds some ten thousand to each: it is brief, and the smallest begins again. All
        # are paused, so these are accepts alone: what the work costs, which they wait for while it
        # writes, is measured by itself above.
        brief = min(seconds, BRIEF_SECONDS)
        del targets[SIZES[0]]
        for turn in range(rounds):
            for size in turned(SIZES, turn):
                with contextlib.ExitStack() as fresh:
                    target = targets.get(size) or fresh.enter_context(
                        _the_smallest(folder / f"{SIZES[0]}-{turn}", edgegap)
                    )
                    before = cpu_seconds(target.pid)
                    came = load(target.url, folder, size=SMALL_BYTES, seconds=brief)
                    assert came.errors == 0, came
                    spent[size].append((cpu_seconds(target.pid) - before) / came.requests * MS)
                    rates[size].append(MICRO / came.per_second)
    return [
        _part("CPU for an accept", spent, "ms", ACCEPT_GOAL),
        _part("Time for an accept at 64 connections", rates, "µs"),
        _part("Claim of four", claims, "ms"),
        _part("Result of one that parks, without its commit", parkings, "ms", PARKING_GOAL),
        _part("List of 100", lists, "ms"),
        _part("Purge of 500, without its commit", bites, "ms"),
    ]


@contextlib.contextmanager
def _the_smallest(folder: Path, edgegap: str) -> Iterator[Target]:
    """A receiver over a ledger of the smallest size, made now."""
    folder.mkdir()
    fill(folder / "receiver.db", SIZES[0])
    with ours(folder, edgegap, config=CONFIG) as target:
        yield target


def _part(title: str, figures: Figures, unit: str, goal: float | None = None) -> Part:
    first, *more = SIZES
    value = {size: f"{median(figures[size]):.3g} {unit}" for size in SIZES}
    lines = [Line(f"{first:,} deliveries", value[first])]
    for size in more:
        ratio = ratio_in_rounds(figures[size], figures[first])
        held = goal if size == SIZES[-1] else None
        lines.append(at_most(f"{size:,}", value[size], ratio, f"that at {first:,}", held))
    return Part(title, tuple(lines))


def _listing(target: Target) -> float:
    where = httpx.URL(target.url)
    token = ApiTokenSigner([KEY]).sign(ApiToken("0" * 16, int(time.time()) + 600))
    headers = {"Authorization": f"Bearer {token}"}
    base = f"http://{where.netloc.decode()}"
    with httpx.Client(base_url=base, headers=headers, trust_env=False, timeout=60) as client:

        def ask() -> None:
            assert client.get("/api/deliveries?limit=100").status_code == 200

        return milliseconds(ask)


def _parking(path: Path) -> float:
    """The writing of a result that parks: no push is accepted meanwhile."""
    result = Result(State.PARKED, reason=Reason.NOT_AMD64, sentence="It is for another platform.")

    def park(tx: Tx, claimed: Claimed) -> None:
        assert settle(tx, claimed, OWNER, result)
        apply_side_effects(tx, Settings(), claimed, result)

    def one(tx: Tx) -> Callable[[], None]:
        resume(tx, ALL)
        (claimed,) = claim(tx, owner=OWNER, most=1)
        return partial(park, tx, claimed)

    return _taken_back(path, one)


def _purging(path: Path) -> float:
    """One window; taken back, so that the smallest ledger has something to purge, too."""

    def window(tx: Tx) -> None:
        gone, _ = purge_deliveries(tx, FAR_AHEAD_MS)
        assert gone  # of 500: open ones are kept

    return _taken_back(path, lambda tx: partial(window, tx))


def _taken_back(path: Path, prepare: Callable[[Tx], Callable[[], None]]) -> float:
    """The median time of what `prepare` returns; each run is taken back."""
    ledger = Ledger(make_url(f"sqlite:///{path}"))
    ledger.open_to_write()
    took = []
    try:
        with ledger._write_engine.connect() as connection:
            for _ in range(TIMES):
                taken_back = connection.begin()
                run = prepare(Tx(connection))
                began = time.perf_counter()
                run()
                took.append((time.perf_counter() - began) * MS)
                taken_back.rollback()
    finally:
        ledger.close()
    return median(took)

"""From the 202 to the version, against a sandbox that takes 50 ms for each call."""

import sqlite3
import time
from functools import partial
from pathlib import Path

import httpx

from tests.benchmarks.bodies import SMALL_BYTES, body_of
from tests.benchmarks.paced import paced
from tests.benchmarks.table import Line, Part, at_most, median
from tests.benchmarks.targets import Target, ours, sandbox
from tests.support.receiver_process import until

CALL_SECONDS = 0.05
PUSHES = 15
CROWD = 500
CROWD_A_SECOND = 250.0
AT_ONCE = 4
API_TIME_GOAL = 1.15
REST_SECONDS = 1.0  # a push now and then: none waits for the requests a second of the one before


def registering(folder: Path, *, rounds: int, seconds: float) -> list[Part]:
    """One push at a time, then five hundred."""
    with sandbox(latency=CALL_SECONDS) as edgegap:
        with ours(folder / "one", edgegap) as target:
            single = _one_by_one(target, folder / "one", edgegap)
        quick = {"EDGEGAP_REQUESTS_PER_SECOND": "1000", "EDGEGAP_CONCURRENCY": str(AT_ONCE)}
        with ours(folder / "crowd", edgegap, environment=quick) as target:
            crowd = _crowd(target, folder / "crowd", edgegap)
    return [
        Part(
            "202 to version created, 50 ms for each call to the API, no preflight", (single, crowd)
        )
    ]


def _one_by_one(target: Target, folder: Path, edgegap: str) -> Line:
    """The sum of the API's own answer times: `CALL_SECONDS` for each call it got."""
    took, ratios = [], []
    with httpx.Client(trust_env=False) as client:
        for number in range(PUSHES):
            time.sleep(REST_SECONDS)
            before = _calls(edgegap)
            answer = client.post(target.url, content=body_of(SMALL_BYTES, f"one.{number}"))
            result = time.time()
            assert answer.status_code == 202, answer.text
            delivery = str(answer.json()["delivery"])
            finished = until(partial(_finished, folder, delivery))
            took.append(finished - result)
            ratios.append(took[-1] / ((_calls(edgegap) - before) * CALL_SECONDS))
    value = f"{median(took) * 1000:.0f} ms"
    return at_most("one push", value, median(ratios), "the API's own time", API_TIME_GOAL)


def _crowd(target: Target, folder: Path, edgegap: str) -> Line:
    before = _calls(edgegap)
    began = time.monotonic()
    seconds = CROWD / CROWD_A_SECOND
    paced(target.url, size=SMALL_BYTES, per_second=CROWD_A_SECOND, seconds=seconds, mark="crowd")
    until(lambda: _all_done(folder, CROWD), 300)
    took = time.monotonic() - began
    least = (_calls(edgegap) - before) * CALL_SECONDS / AT_ONCE
    title = f"{CROWD} pushes, {AT_ONCE} at once, no cap a second"
    return at_most(title, f"{took:.1f} s", took / least, "the least")


def _calls(edgegap: str) -> int:
    return len(httpx.get(f"{edgegap}/_sandbox/calls", trust_env=False).json())


def _finished(folder: Path, delivery: str) -> float:
    """When its registration was done, in epoch seconds; 0 while it is not."""
    found = _asked(
        folder,
        "SELECT finished_at FROM registrations JOIN led_to ON registration_id = id"
        " WHERE delivery_id = ? AND outcome = 'created'",
        delivery,
    )
    return found / 1000


def _all_done(folder: Path, many: int) -> bool:
    return _asked(folder, "SELECT count(*) FROM registrations WHERE outcome = 'created'") >= many


def _asked(folder: Path, sql: str, *values: str) -> float:
    with sqlite3.connect(f"file:{folder / 'receiver.db'}?mode=ro", uri=True) as db:
        row = db.execute(sql, values).fetchone()
    db.close()
    return float(row[0]) if row is not None and row[0] is not None else 0.0

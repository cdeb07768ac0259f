"""How the answers' times grow with the ledger: ten thousand deliveries against one million.

Run by hand on a quiet machine, `python -m tests.benchmarks.growth`; some minutes, 2 GB in the
temporary folder. Held to: every page within five times their time at ten thousand.
"""

import argparse
import asyncio
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from sqlalchemy import make_url

from receiver.ledger.claims import claim
from receiver.ledger.gates import ALL, pause
from receiver.ledger.ledger import Ledger
from tests.benchmarks.filling import REPOSITORIES, app_of, fill
from tests.support.receiver_process import NOWHERE, RULE, ReceiverProcess
from tests.support.visitor import PAGE, visitor

TIMES = 15
PUT_BACK = """UPDATE registrations SET state = 'queued', lease_owner = NULL
 WHERE state = 'working'"""
RULES = "\n".join(
    f'[[rule]]\nrepository = "{one}"\napp = "{app_of(one)}"\npreflight = false\nkeep = 10\n'
    for one in REPOSITORIES[1:]
)
PAGES = {
    "overview page": "/",
    "list page": "/deliveries",
    "list page, middle": "/deliveries?before={middle}",
    "list page, state parked": "/deliveries?state=parked",
    "list page, state queued": "/deliveries?state=queued",
    "list page, state done": "/deliveries?state=done",
    "list page, overwritten": "/deliveries?overwritten=1",
    "list page, one repository": f"/deliveries?repository={REPOSITORIES[0]}",
    "list page, verdict ignored": "/deliveries?verdict=ignored",
    "list page, text found nowhere": "/deliveries?text=nowhere",
    "show page": "/deliveries/{middle}",
    "versions page": "/versions",
    "channels page": "/channels",
}
API = {
    "API overview": "/api/overview",
    "API list of 100": "/api/deliveries",
    "API list, state parked": "/api/deliveries?state=parked",
    "API list, overwritten": "/api/deliveries?overwritten=1",
    "API versions": f"/api/versions?app={app_of(REPOSITORIES[0])}",
    "API versions, with keep": f"/api/versions?app={app_of(REPOSITORIES[1])}",
    "API show": "/api/deliveries/{middle}",
    "API list, text found nowhere": "/api/deliveries?text=nowhere",
    "API list, app found nowhere": "/api/deliveries?app=nowhere",
    "metrics": "/metrics",
}


def milliseconds(do: Callable[[], object], times: int = TIMES) -> float:
    """The median of some runs; the first, which fills caches, is left out."""
    took = []
    for _ in range(times + 1):
        began = time.perf_counter()
        do()
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took[1:])


def measured(folder: Path, many: int) -> dict[str, float]:
    """Fill a ledger, and ask a real receiver over it, then claim from it."""
    folder.mkdir()
    path = folder / "receiver.db"
    began = time.monotonic()
    fill(path, many)
    size = path.stat().st_size / 1e6
    print(f"{many:,} deliveries filled in {time.monotonic() - began:.0f} s, {size:,.0f} MB")
    with sqlite3.connect(path) as db:
        query = "SELECT id FROM deliveries WHERE tag IS NOT NULL ORDER BY id LIMIT 1 OFFSET ?"
        middle = str(db.execute(query, (many // 2,)).fetchone()[0])
    db.close()
    receiver = ReceiverProcess(folder, NOWHERE, config=RULE + RULES, environment=PAGE).start()
    try:
        found = asked(receiver, middle)
    finally:
        receiver.stop()
    found["claim 4"] = claiming(path)
    return found


def asked(receiver: ReceiverProcess, middle: str) -> dict[str, float]:
    """The times of the pages, as a person's browser asks, and of the API."""

    def get(client: httpx.Client, path: str) -> None:
        answer = client.get(path)
        assert answer.status_code == 200, (path, answer.status_code, answer.text[:200])

    found = {}
    api = httpx.Client(base_url=receiver.url, trust_env=False, timeout=120)
    with visitor(receiver) as person, api:
        for name, path in PAGES.items():
            whole = path.format(middle=middle)
            found[name] = milliseconds(lambda whole=whole: get(person, whole))  # type: ignore[misc]
        for name, path in API.items():
            api.headers["Authorization"] = f"Bearer {receiver.api_token()}"  # valid for a minute
            whole = path.format(middle=middle)
            found[name] = milliseconds(lambda whole=whole: get(api, whole))  # type: ignore[misc]
    return found


def claiming(path: Path) -> float:
    """The time of one claim of four, on disk; what was claimed is put back in between.

    So is the pause: a receiver over this ledger works on nothing.
    """
    ledger = Ledger(make_url(f"sqlite:///{path}"))
    ledger.open_to_write()
    took = []
    try:
        asyncio.run(ledger.write(lambda tx: tx.run("DELETE FROM pauses").close()))
        for _ in range(TIMES):
            began = time.perf_counter()
            claimed = asyncio.run(ledger.write(lambda tx: claim(tx, owner="growth", most=4)))
            took.append((time.perf_counter() - began) * 1000)
            assert len(claimed) == 4
            asyncio.run(ledger.write(lambda tx: tx.run(PUT_BACK).close()))
        asyncio.run(ledger.write(lambda tx: pause(tx, ALL)))
    finally:
        ledger.close()
    return statistics.median(took)


def main() -> None:
    """Measure both, and print the times side by side."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", type=int, default=[10_000, 1_000_000])
    small, large = parser.parse_args().sizes
    with tempfile.TemporaryDirectory(prefix="growth-") as folder:
        before, after = (measured(Path(folder) / str(many), many) for many in (small, large))
    print(f"\n{'median, ms':34}{small:>12,}{large:>14,}{'ratio':>9}")
    for name, first in before.items():
        print(f"{name:34}{first:12.1f}{after[name]:14.1f}{after[name] / first:9.1f}")


if __name__ == "__main__":
    main()

"""`python -m tests.month`: a month with every fault, then what must be true."""

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.month.clock import Clock


def main() -> None:
    """Run it; exits 1 if a version is missing or wrong, or a channel moved back."""
    parser = argparse.ArgumentParser(prog="python -m tests.month", description=__doc__)
    parser.add_argument("--pushes", type=int, default=30_000)
    parser.add_argument("--repositories", type=int, default=20)
    parser.add_argument("--days", type=float, default=30.0)
    parser.add_argument("--seed", type=int, help="repeats the choices of an earlier run")
    parser.add_argument("--folder", type=Path, help="where to leave the ledger and the log")
    asked = parser.parse_args()
    seed = random.randrange(1_000_000) if asked.seed is None else asked.seed
    print(f"seed {seed}; {asked.pushes} pushes, {asked.repositories} repositories", flush=True)
    clock = Clock()
    clock.install()
    from tests.month.checks import Report, check  # noqa: PLC0415 - after the clock
    from tests.month.month import run_month  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) if asked.folder is None else asked.folder
        folder.mkdir(parents=True, exist_ok=True)
        facts, ledger = run_month(
            clock,
            folder,
            pushes=asked.pushes,
            repositories=asked.repositories,
            days=asked.days,
            seed=seed,
        )
        report = Report(facts, ledger, check(facts, ledger), seed)
        print(report)
    sys.exit(0 if report.passed else 1)


if __name__ == "__main__":
    main()

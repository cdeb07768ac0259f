"""`python -m tests.crash --minutes 5`: inject faults into a receiver, then count the results."""

import argparse
import random
import sys

from tests.crash.process_faults import DISK_FULL, NO_SMALL_DISK, run_with_faults


def main() -> None:
    """Run it; exits 1 when anything was lost, made twice or stuck."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, help="repeats the choices of an earlier run")
    clock = "set the clock too; nothing is pruned then, for what may go is judged by times"
    parser.add_argument("--set-clock", action="store_true", help=clock)
    asked = parser.parse_args()
    seed = random.randrange(1_000_000) if asked.seed is None else asked.seed
    print(f"seed {seed}; {asked.minutes:g} minutes of faults, then the count", flush=True)
    report = run_with_faults(asked.minutes * 60, seed, set_clock=asked.set_clock)
    print(report)
    if not report.had(DISK_FULL):
        print(f"But {NO_SMALL_DISK}.")
    sys.exit(0 if report.passed else 1)


if __name__ == "__main__":
    main()

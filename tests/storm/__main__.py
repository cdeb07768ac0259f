"""`python -m tests.storm --pushes 200 --replicas 3`: kills and faults, then what must be true."""

import argparse
import random
import sys

from tests.storm.storm import run_storm


def main() -> None:
    """Run it; exits 1 if a deployment is left or a channel has what it must not have."""
    parser = argparse.ArgumentParser(prog="python -m tests.storm", description=__doc__)
    parser.add_argument("--pushes", type=int, default=200)
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--seed", type=int, help="repeats the choices of an earlier run")
    asked = parser.parse_args()
    seed = random.randrange(1_000_000) if asked.seed is None else asked.seed
    print(f"seed {seed}; {asked.pushes} pushes to {asked.replicas} replicas", flush=True)
    report = run_storm(pushes=asked.pushes, replicas=asked.replicas, seed=seed)
    print(report)
    sys.exit(0 if report.passed else 1)


if __name__ == "__main__":
    main()

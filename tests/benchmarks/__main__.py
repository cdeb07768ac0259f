"""`python -m tests.benchmarks`: measure the receiver beside its peers, and print one table."""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.accepting import accepting
from tests.benchmarks.commands import commands
from tests.benchmarks.growing import growing
from tests.benchmarks.registering import registering
from tests.benchmarks.replicas import replicas
from tests.benchmarks.shortcuts import shortcuts
from tests.benchmarks.steady import steady
from tests.benchmarks.table import Part, as_text

PARTS: dict[str, Callable[..., list[Part]]] = {
    "accept": accepting,
    "steady": steady,
    "register": registering,
    "grow": growing,
    "replicas": replicas,
    "commands": commands,
    "shortcuts": shortcuts,
}


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; all if none is named")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--seconds", type=int, default=4, help="of each load in a round (whole ones)"
    )
    asked = parser.parse_args()
    chosen = asked.parts or list(PARTS)
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    parts: list[Part] = []
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        for name in chosen:
            place = Path(folder) / name
            place.mkdir()
            parts += PARTS[name](place, rounds=asked.rounds, seconds=asked.seconds)
    print(as_text(parts))


if __name__ == "__main__":
    main()

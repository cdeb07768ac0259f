"""`python -m tests.hostile --bodies 100000`: send what nobody should, and count the answers."""

import argparse
import random
import sqlite3
import sys
import tempfile
import time
from pathlib import Path

from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from tests.hostile.sending import send_many
from tests.support.receiver_process import ReceiverProcess


def main() -> None:
    """Run it; exits 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--bodies", type=int, default=100_000)
    parser.add_argument("--seed", type=int, help="sends the bodies of an earlier run again")
    asked = parser.parse_args()
    seed = random.randrange(1_000_000) if asked.seed is None else asked.seed
    print(f"seed {seed}; {asked.bodies:,} bodies", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="hostile-") as folder,
        serving(EdgegapSandbox().app) as edgegap,
    ):
        receiver = ReceiverProcess(Path(folder), edgegap).start()
        began = time.monotonic()
        sent = send_many(receiver, asked.bodies, seed)
        took = time.monotonic() - began
        clean = receiver.stop() == 0
        with sqlite3.connect(Path(folder) / "receiver.db") as db:
            recorded = {row[0] for row in db.execute("SELECT id FROM deliveries")}
        db.close()
        lost = sent.accepted - recorded
        tracebacks = receiver.log.read_text("utf-8").count("Traceback")
    answers = ", ".join(f"{status}: {many:,}" for status, many in sorted(sent.statuses.items()))
    print(f"{sum(sent.statuses.values()):,} answers in {took:.0f} s: {answers}")
    print(f"accepted and lost: {len(lost)}; tracebacks: {tracebacks}; stopped cleanly: {clean}")
    for line in sent.broken[:20]:
        print(line)
    passed = clean and not (lost or tracebacks or sent.broken)
    print("sound" if passed else "NOT SOUND")
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()

"""`python -m tests.attack`: attack a receiver on this machine, and measure what it holds against.

The receiver runs as a process of its own with the sandbox of Edgegap beside it, on loopback.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from tests.attack.attacks import ATTACKS, FULL, SHORT, memory, run
from tests.attack.connections import allow_open_files
from tests.support.receiver_process import ReceiverProcess
from tests.support.visitor import PAGE


def main() -> None:
    """Run the attacks; exits 1 if one of the bounds was not kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description=__doc__)
    parser.add_argument("attacks", nargs="*", metavar="ATTACK", help=", ".join(ATTACKS))
    parser.add_argument("--short", action="store_true", help="a little of each, in a minute")
    asked = parser.parse_args()
    unknown = set(asked.attacks) - set(ATTACKS)
    if unknown:
        parser.error(f"there is no attack {', '.join(sorted(unknown))}")
    allow_open_files()
    broken = False
    with (
        tempfile.TemporaryDirectory(prefix="attack-") as folder,
        serving(EdgegapSandbox().app) as edgegap,
    ):
        receiver = ReceiverProcess(Path(folder), edgegap, environment=PAGE, fresh=True).start()
        print(f"at rest {memory(receiver):.0f} MiB", flush=True)
        for name in asked.attacks or ATTACKS:
            found = run(ATTACKS[name], receiver, SHORT if asked.short else FULL)
            broken = broken or bool(found.broken)
            print(f"{name}: {found.figures}", flush=True)
            for wrong in found.broken:
                print(f"  NOT KEPT: {wrong}", flush=True)
        receiver.stop()
    print("NOT SOUND" if broken else "sound")
    sys.exit(1 if broken else 0)


if __name__ == "__main__":
    main()

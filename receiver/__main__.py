"""The command `receiver`, also as `python -m receiver`.

It handles Ctrl-C before it imports the commands.
"""

import gc
import os
import signal
import sys
from types import FrameType

BY_SIGNAL = 128  # plus the signal's number: 130 after Ctrl-C
# Looking for garbage takes a sixth of the time of imports, which leave nearly none, and causes the
# slowest responses of the server.
GARBAGE_THRESHOLDS = (20_000, 20, 50)


def main() -> None:
    """Import the command line and run it."""
    previous = signal.getsignal(signal.SIGINT)
    if previous is signal.default_int_handler:  # otherwise the shell set it to be ignored
        signal.signal(signal.SIGINT, _stop)
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    from receiver.cli import main as program  # noqa: PLC0415

    signal.signal(signal.SIGINT, previous)
    try:
        program(prog_name="receiver")
    finally:
        sys.stdout.flush()
        if previous is signal.default_int_handler:
            signal.signal(signal.SIGINT, _stop)  # while the interpreter shuts down


def _stop(number: int, _frame: FrameType | None) -> None:
    os.write(2, b"receiver: stopped\n")
    os._exit(BY_SIGNAL + number)


if __name__ == "__main__":
    main()

"""Where the command `receiver` begins: nothing heavy is imported before Ctrl-C is taken care of."""

import os
import signal
import sys
from types import FrameType

BY_SIGNAL = 128  # shells add the signal's number: 130 after Ctrl-C


def main() -> None:
    """Import the commands, which takes a second on a slow machine, and run the one asked for."""
    usual = signal.getsignal(signal.SIGINT)
    if usual is signal.default_int_handler:  # else the shell wants it ignored
        signal.signal(signal.SIGINT, _stop)
    from receiver.cli import main as program  # noqa: PLC0415

    signal.signal(signal.SIGINT, usual)
    try:
        program(prog_name="receiver")
    finally:
        sys.stdout.flush()
        if usual is signal.default_int_handler:
            signal.signal(signal.SIGINT, _stop)  # while the interpreter ends


def _stop(number: int, _frame: FrameType | None) -> None:
    os.write(2, b"receiver: stopped\n")
    os._exit(BY_SIGNAL + number)

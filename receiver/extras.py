"""Optional extras of this program, and how to install an extra."""

import sys


def how_to_install(extra: str) -> str:
    """Return the instruction to install an extra; the program is on no package index."""
    return f"in the folder of this program, run: {sys.executable} -m pip install '.[{extra}]'"

"""What this program can do only with an extra installed, and how to install one."""

import sys


def how_to_install(extra: str) -> str:
    """Return the words that tell how; the program is on no package index."""
    return f"in the folder of this program run: {sys.executable} -m pip install '.[{extra}]'"

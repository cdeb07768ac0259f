"""A small disk that can be full: a tmpfs, where we may mount one."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FILLER = "filler"
BLOCK = 64 * 1024


class Disk:
    """A folder; `fill` leaves no byte free on it, `free` gives all back."""

    def __init__(self, folder: Path, *, small: bool) -> None:
        self.folder = folder
        self.small = small

    def fill(self) -> None:
        """Write until the system refuses."""
        with (self.folder / FILLER).open("ab", buffering=0) as file:
            for size in (BLOCK, 512, 1):
                try:
                    while file.write(bytes(size)) == size:
                        pass
                except OSError:
                    continue

    def free(self) -> None:
        """Make room again."""
        (self.folder / FILLER).unlink(missing_ok=True)


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Disk]:
    """Mount a small tmpfs there; where that is not allowed, the folder is just a folder."""
    folder.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder],  # noqa: S607
            check=False,
            capture_output=True,
        ).returncode
    )
    try:
        yield Disk(folder, small=mounted)
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", folder], check=True)  # noqa: S607

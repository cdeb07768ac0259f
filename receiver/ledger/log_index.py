"""What SQLite notes of its write-ahead log, for all of its connections, in the file `-shm`.

https://sqlite.org/walformat.html#the_wal_index_file_format has the layout, which is this machine's
own byte order.
"""

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from receiver.ledger.files import beside

HEADER = 48  # bytes, and there are two: they differ while one is written
LOG_HEADER, FRAME_HEADER = 32, 24
LARGEST_PAGE = 65_536  # written as 1


@dataclass(frozen=True, slots=True)
class LogIndex:
    """How many frames the log holds, how many are in the file too, and which log it is."""

    frames: int
    written: int
    salt: int
    page: int

    @property
    def size(self) -> int:
        """The bytes that the log must have."""
        return LOG_HEADER + self.frames * (FRAME_HEADER + self.page) if self.frames else 0

    def wrote_since(self, before: "LogIndex") -> bool:
        """Return whether SQLite may have written into the file since that look."""
        return (self.written, self.salt) != (before.written, before.salt)


class LogIndexFile:
    """The file, kept open: to close it would drop the locks that SQLite has on it."""

    def __init__(self, ledger: Path) -> None:
        self._path = beside(ledger, "-shm")
        self._descriptors: list[int] = []  # the last is in use

    def open(self) -> None:
        """Open the file that SQLite has just opened; raises OSError."""
        there = self._path.stat()
        if not self._descriptors or not os.path.samestat(there, os.fstat(self._descriptors[-1])):
            self._descriptors.append(os.open(self._path, os.O_RDONLY | os.O_CLOEXEC))

    def close(self) -> None:
        """Close it; only once no connection of this process has it open."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def read(self) -> LogIndex | None:
        """Return what it says; None if it is not open, or being written this moment."""
        if not self._descriptors:
            return None
        data = os.pread(self._descriptors[-1], 2 * HEADER + 4, 0)
        if len(data) < 2 * HEADER + 4 or data[:HEADER] != data[HEADER : 2 * HEADER]:
            return None
        page, frames = struct.unpack_from("=HI", data, 14)
        (salt,) = struct.unpack_from("=Q", data, 32)
        (written,) = struct.unpack_from("=I", data, 2 * HEADER)
        return LogIndex(frames, written, salt, LARGEST_PAGE if page == 1 else page)

"""What SQLite notes of its write-ahead log, for all of its connections, in the file `-shm`.

https://sqlite.org/walformat.html#the_wal_index_file_format has the layout, which is this machine's
own byte order.
"""

import os
import struct
from dataclasses import dataclass
from pathlib import Path

from receiver.ledger.files import beside
from receiver.ledger.log_frames import LARGEST_PAGE, Frames, Sums, begun_later

HEADER = 48  # bytes, and there are two: they differ while one is written
VERSION = 3_007_000


@dataclass(frozen=True, slots=True)
class LogIndex:
    """How many frames the log holds, how many are in the file too, and which log it is.

    `sums` is the checksum of the last frame.
    """

    frames: int
    written: int
    salt: int
    page: int
    sums: Sums = (0, 0)

    @property
    def size(self) -> int:
        """The bytes that the log must have."""
        return Frames(count=self.frames, page=self.page).size

    def is_of(self, found: Frames) -> bool:
        """Return whether these are all of its frames."""
        return (found.count, found.salt, found.sums) == (self.frames, self.salt, self.sums)

    def continues(self, before: Frames) -> bool:
        """Return whether the log is the same as at that look, or has grown since."""
        return before.count <= self.frames and (before.salt, before.page) == (self.salt, self.page)

    def is_before(self, later: "LogIndex") -> bool:
        """Return whether frames that SQLite had noted are gone from it without a new beginning."""
        if self.salt == later.salt:
            return self.frames < later.frames
        return later.frames > 0 and not begun_later(self.salt, later.salt)

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
        """Return what it says; None if it is not open, overwritten, or being written just now."""
        if not self._descriptors:
            return None
        data = os.pread(self._descriptors[-1], 2 * HEADER + 4, 0)
        if len(data) < 2 * HEADER + 4 or data[:HEADER] != data[HEADER : 2 * HEADER]:
            return None
        version, begun, page, frames, one, two = struct.unpack_from("=I8xBxHIxxxxII", data)
        if version != VERSION or not begun:
            return None
        (written,) = struct.unpack_from("=I", data, 2 * HEADER)
        salt = int.from_bytes(data[32:40], "big")  # as in the log, byte for byte
        return LogIndex(frames, written, salt, LARGEST_PAGE if page == 1 else page, (one, two))

"""What the lock's note says of the log: so a start notices a log that was harmed meanwhile.

SQLite itself takes a deleted or emptied log for one that never was, and a part of one for all.
"""

import os
from dataclasses import dataclass
from zlib import crc32

from receiver.ledger.log_frames import LARGEST_PAGE, Frames, begun_later

PAGE_SIZE = slice(16, 18)  # in the file's header; 1 is the largest


@dataclass(frozen=True, slots=True)
class LogNote:
    """A log as a commit left it: its frames, how many of them are in the file, the last page.

    `number` and `content` are that page's number and CRC.
    """

    salt: int
    frames: int
    written: int
    number: int
    content: int

    @property
    def words(self) -> tuple[int, ...]:
        """All of it, in the order of the fields."""
        return self.salt, self.frames, self.written, self.number, self.content


@dataclass(frozen=True, slots=True)
class Harm:
    """What is wrong with a log: `lost` if commits are missing, `stale` if it must not be read.

    A stale log holds older pages than the file, or another's, which SQLite would put into it.
    """

    lost: bool = False
    stale: bool = False


def judge(noted: LogNote, found: Frames, *, in_file: bool) -> Harm:
    """Return what happened to the log since the note; `in_file`: the file has its last page."""
    if found.count and found.salt == noted.salt:
        if found.count >= noted.frames:
            return Harm()
        everything = in_file or noted.written >= noted.frames
        return Harm(lost=not everything, stale=everything or found.count < noted.written)
    if found.count and begun_later(found.salt, noted.salt):
        return Harm()  # a power cut kept the newer note off the disk
    lost = not in_file and noted.written < noted.frames
    return Harm(lost, stale=found.count > 0 and (lost or begun_later(noted.salt, found.salt)))


def has_page(file: int, noted: LogNote) -> bool:
    """Return whether an open ledger has the noted log's last page as it was noted."""
    size = int.from_bytes(os.pread(file, PAGE_SIZE.stop, 0)[PAGE_SIZE], "big")
    size = LARGEST_PAGE if size == 1 else size
    return crc32(os.pread(file, size, (noted.number - 1) * size)) == noted.content

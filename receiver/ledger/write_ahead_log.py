"""SQLite's write-ahead log as the receiver reads it: its whole frames, and a note of them.

https://sqlite.org/fileformat2.html#walformat has the layout. A frame's checksum covers all frames
before it, so SQLite ignores what follows a damaged one, without an error.
"""

import os
import struct
from zlib import crc32

import msgspec

LOG_HEADER, FRAME_HEADER = 32, 24
SUMMED = 24  # bytes of the log's header that its checksum covers
SMALLEST_PAGE, LARGEST_PAGE = 512, 65_536
WORD_ORDERS = {b"\x37\x7f\x06\x82": "<", b"\x37\x7f\x06\x83": ">"}
SALT_HALF = 32  # bits
MOST_BEGINNINGS = 2**16  # between two looks: far more than there can be
_WORD = 0xFFFFFFFF

Sums = tuple[int, int]
PAGE_SIZE = slice(16, 18)  # in the file's header; 1 is the largest


class Frames(msgspec.Struct, frozen=True):
    """The whole frames at a log's start; `sums` is the checksum of the last of them.

    `salt`: the log's two salts as one number; the upper half grows by one whenever SQLite begins
    the log again.
    """

    salt: int = 0
    page: int = 0
    count: int = 0
    sums: Sums = (0, 0)

    @property
    def size(self) -> int:
        """The bytes of the log up to the end of the last whole frame."""
        return LOG_HEADER + self.count * (FRAME_HEADER + self.page) if self.count else 0


class LastFrame(msgspec.Struct, frozen=True):
    """What one frame holds: a page of the database, by its number and its CRC."""

    salt: int
    sums: Sums
    number: int
    content: int


def read_frames(log: int, most: int | None = None) -> Frames:
    """Return how far an open log is whole, `most` frames at most. Takes some 0.1 ms a frame."""
    header = os.pread(log, LOG_HEADER, 0)
    order = WORD_ORDERS.get(header[:4])
    if order is None or len(header) < LOG_HEADER:
        return Frames()
    page, _, salt = struct.unpack_from(">IIQ", header, 8)
    sums = _sums(order, header[:SUMMED], (0, 0))
    sound_page = SMALLEST_PAGE <= page <= LARGEST_PAGE and not page & (page - 1)
    if not sound_page or struct.unpack_from(">II", header, SUMMED) != sums:
        return Frames()
    count = 0
    while most is None or count < most:
        frame = os.pread(log, FRAME_HEADER + page, _place(count, page))
        if len(frame) < FRAME_HEADER + page or frame[8:16] != header[16:24]:
            break
        after = _sums(order, frame[:8] + frame[FRAME_HEADER:], sums)
        if struct.unpack_from(">II", frame, 16) != after:
            break
        sums, count = after, count + 1
    return Frames(salt, page, count, sums)


def read_frame(frame: bytes) -> LastFrame | None:
    """Read one frame, header and page; None if it is cut off."""
    if len(frame) < FRAME_HEADER + SMALLEST_PAGE:
        return None
    number, _, salt, one, two = struct.unpack_from(">IIQII", frame)
    return LastFrame(salt, (one, two), number, crc32(memoryview(frame)[FRAME_HEADER:]))


def begun_later(salt: int, before: int) -> bool:
    """Return whether this is the salt of a log that SQLite began again after the other."""
    times = ((salt >> SALT_HALF) - (before >> SALT_HALF)) & _WORD
    return 0 < times <= MOST_BEGINNINGS


def _place(number: int, page: int) -> int:
    return LOG_HEADER + number * (FRAME_HEADER + page)


def _sums(order: str, data: bytes, sums: Sums) -> Sums:
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    one, two = sums
    for even, odd in zip(words[::2], words[1::2], strict=True):
        one = one + even + two & _WORD
        two = two + odd + one & _WORD
    return one, two


class LogNote(msgspec.Struct, frozen=True):
    """A log as a commit left it: its frames, how many of them are in the file, the last page.

    `number` and `content` are that page's number and CRC. The lock's note has it, so that a start
    notices a log that was harmed meanwhile: SQLite itself takes a deleted or emptied log for one
    that never was, and a part of one for all.
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


class Harm(msgspec.Struct, frozen=True):
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

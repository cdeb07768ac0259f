"""SQLite's write-ahead log as the receiver reads it: whether all that was written is still there.

https://sqlite.org/fileformat2.html#walformat has the layout. A frame's checksum covers all frames
before it, so SQLite ignores what follows a damaged one, without an error.

After each commit, the new bytes of the log that we have open are added to a sum, and the last frame
is compared with SQLite's index of the log. All of it is compared with the sum when something else
wrote to it, and else some times a second: a write of another program during a commit changes no
time that the commit does not.
"""

import os
import struct
import time
from contextlib import suppress
from pathlib import Path
from zlib import crc32

import msgspec

from receiver.errors import LedgerError
from receiver.ledger.files import FileLock, LogNote, Seen, beside, log_fault, look_at, wal_path

LOG_HEADER, FRAME_HEADER = 32, 24
SUMMED = 24  # bytes of the log's header that its checksum covers
MIN_PAGE_BYTES, MAX_PAGE_BYTES = 512, 65_536
WORD_ORDERS = {b"\x37\x7f\x06\x82": "<", b"\x37\x7f\x06\x83": ">"}
SALT_HALF = 32  # bits
MAX_BEGINNINGS = 2**16  # between two looks: far more than there can be
_WORD = 0xFFFFFFFF

Sums = tuple[int, int]
PAGE_SIZE = slice(16, 18)  # in the file's header; 1 is the largest
INDEX_HEADER = 48  # bytes, and there are two: they differ while one is written
INDEX_VERSION = 3_007_000
BETWEEN_SUMS_SECONDS = 0.25
SUMS_SHARE = 20  # one takes no more than a twentieth of the time: a long read lets a log grow
INDEX_TRIES = 20
BETWEEN_TRIES_SECONDS = 0.001


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

    def continues(self, before: "Frames") -> bool:
        """Return whether the log is the same as at that look, or has grown since."""
        return before.count <= self.count and (before.salt, before.page) == (self.salt, self.page)

    def is_before(self, later: "Frames") -> bool:
        """Return whether frames of the later look are gone without a new beginning of the log."""
        if self.salt == later.salt:
            return self.count < later.count
        return later.count > 0 and not _begun_later(self.salt, later.salt)


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
    sound_page = MIN_PAGE_BYTES <= page <= MAX_PAGE_BYTES and not page & (page - 1)
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


def _read_frame(frame: bytes) -> LastFrame | None:
    """Read one frame, header and page; None if it is cut off."""
    if len(frame) < FRAME_HEADER + MIN_PAGE_BYTES:
        return None
    number, _, salt, one, two = struct.unpack_from(">IIQII", frame)
    return LastFrame(salt, (one, two), number, crc32(memoryview(frame)[FRAME_HEADER:]))


def _begun_later(salt: int, before: int) -> bool:
    """Return whether this is the salt of a log that SQLite began again after the other."""
    times = ((salt >> SALT_HALF) - (before >> SALT_HALF)) & _WORD
    return 0 < times <= MAX_BEGINNINGS


def _place(number: int, page: int) -> int:
    return LOG_HEADER + number * (FRAME_HEADER + page)


def _sums(order: str, data: bytes, sums: Sums) -> Sums:
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    one, two = sums
    for even, odd in zip(words[::2], words[1::2], strict=True):
        one = one + even + two & _WORD
        two = two + odd + one & _WORD
    return one, two


class LogDamage(msgspec.Struct, frozen=True):
    """What is wrong with a log: `lost` if commits are missing, `stale` if it must not be read.

    A stale log holds older pages than the file, or another's, which SQLite would put into it.
    """

    lost: bool = False
    stale: bool = False


def judge(noted: LogNote, found: Frames, *, in_file: bool) -> LogDamage:
    """Return what happened to the log since the note; `in_file`: the file has its last page."""
    if found.count and found.salt == noted.salt:
        if found.count >= noted.frames:
            return LogDamage()
        everything = in_file or noted.written >= noted.frames
        return LogDamage(lost=not everything, stale=everything or found.count < noted.written)
    if found.count and _begun_later(found.salt, noted.salt):
        return LogDamage()  # a power cut kept the newer note off the disk
    lost = not in_file and noted.written < noted.frames
    return LogDamage(lost, stale=found.count > 0 and (lost or _begun_later(noted.salt, found.salt)))


def has_page(file: int, noted: LogNote) -> bool:
    """Return whether an open ledger has the noted log's last page as it was noted."""
    size = int.from_bytes(os.pread(file, PAGE_SIZE.stop, 0)[PAGE_SIZE], "big")
    size = MAX_PAGE_BYTES if size == 1 else size
    return crc32(os.pread(file, size, (noted.number - 1) * size)) == noted.content


class LogIndex(msgspec.Struct, frozen=True):
    """The frames that the log holds, and how many of them are in the file, too.

    SQLite notes it for all of its connections in the file `-shm`, in this machine's byte order:
    https://sqlite.org/walformat.html#the_wal_index_file_format has the layout.
    """

    frames: Frames
    written: int

    def wrote_since(self, before: "LogIndex") -> bool:
        """Return whether SQLite may have written into the file since that look."""
        return (self.written, self.frames.salt) != (before.written, before.frames.salt)


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
        data = os.pread(self._descriptors[-1], 2 * INDEX_HEADER + 4, 0)
        if (
            len(data) < 2 * INDEX_HEADER + 4
            or data[:INDEX_HEADER] != data[INDEX_HEADER : 2 * INDEX_HEADER]
        ):
            return None
        version, begun, page, frames, one, two = struct.unpack_from("=I8xBxHIxxxxII", data)
        if version != INDEX_VERSION or not begun:
            return None
        (written,) = struct.unpack_from("=I", data, 2 * INDEX_HEADER)
        salt = int.from_bytes(data[32:40], "big")  # as in the log, byte for byte
        page = MAX_PAGE_BYTES if page == 1 else page
        return LogIndex(Frames(salt, page, frames, (one, two)), written)


class OwnLog:
    """`seen` and `at` are the log and its index as our last look left them."""

    def __init__(self, ledger: Path, lock: FileLock) -> None:
        self.path = wal_path(ledger)
        self.seen: Seen | None = None
        self.at: LogIndex | None = None
        self._ledger = ledger
        self._lock = lock
        self._index = LogIndexFile(ledger)
        self._descriptor: int | None = None
        self._suspect = False  # something else wrote to it, or may have
        self._summed = Frames()  # how much of it is in the sum
        self._sum = 0
        self._compared = 0  # how much was, when it was last compared
        self._compare_at = 0.0
        self._note: LogNote | None = None

    def open(self) -> None:
        """Know the log that SQLite has just opened and emptied."""
        self._close_log()
        with suppress(OSError):
            self._index.open()
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        self.seen, self.at = self.look()
        self._suspect, self._summed = False, Frames()

    def close(self) -> None:
        """Close what is open; only once no connection of this process has the ledger open."""
        self._index.close()
        self._close_log()
        self.seen = None

    def look(self) -> tuple[Seen | None, LogIndex | None]:
        """Return the log and its index as they are now."""
        return look_at(self.path), self._index.read()

    def is_gone(self, seen: Seen | None) -> bool:
        """Return whether it was deleted, or another is in its place."""
        return self.seen is None or seen is None or seen.identity != self.seen.identity

    def committing(self) -> None:
        """Look once more before a commit: afterwards SQLite itself has written to it."""
        self.suspect_change(look_at(self.path))

    def is_harmed(self, seen: Seen, index: LogIndex | None) -> bool:
        """Return whether frames are missing or not as SQLite wrote them.

        The log is truncated before the first such frame: then SQLite fails instead of reading it,
        and the pages that the connection has in memory can be saved.
        """
        if index is not None and seen.size < index.frames.size:
            return True
        # Holes: it was cut off while we wrote. A file system that compresses looks alike.
        if seen.allocated < seen.size and log_fault(self._ledger) is not None:
            return True
        if self._descriptor is None or (self._add(index) and not self._must_compare()):
            return False
        index = self._index_again()
        if index is not None and not self._is_lost(index) and self._add(index) and self._is_sum():
            self._suspect = False
            return False
        known = index if index is not None and not self._is_lost(index) else self.at
        if known is None or not known.frames.count:
            return False
        found = read_frames(self._descriptor, known.frames.count)
        if index is not None and self._index.read() != index:
            self._suspect = True  # another program writes: it is read again at the next look
            return False
        whole = found == known.frames
        self._suspect, self._summed = False, Frames()
        if not whole:
            os.ftruncate(self._descriptor, found.size)
        return not whole

    def suspect_change(self, seen: Seen | None) -> None:
        """Have all of it compared if anything wrote to it since our last commit."""
        if seen != self.seen:
            self._suspect = True

    def check_not_lost(self) -> None:
        """Raise LedgerError if SQLite, too, has forgotten frames."""
        if self._is_lost(self._index.read()):
            raise LedgerError("SQLite's index of it was overwritten, too")

    def _is_lost(self, index: LogIndex | None) -> bool:
        return self.at is not None and (index is None or index.frames.is_before(self.at.frames))

    def note(self) -> None:
        """Write down what it holds after a commit, for the next start."""
        with suppress(OSError):
            self._lock.note_log(self._note)

    def _add(self, index: LogIndex | None) -> bool:
        """Add to the sum what was written since; False if it does not end as the index says."""
        if index is None or self._descriptor is None:
            return False
        frames = index.frames
        if not frames.count or not frames.continues(self._summed):
            self._summed, self._sum, self._note = Frames(), 0, None
        if frames.count == self._summed.count:
            return not frames.count or frames.sums == self._summed.sums
        new = os.pread(self._descriptor, frames.size - self._summed.size, self._summed.size)
        last = _read_frame(new[-FRAME_HEADER - frames.page :])
        if last is None or (last.salt, last.sums) != (frames.salt, frames.sums):
            return False
        self._sum = crc32(new, self._sum)
        self._summed = frames
        self._note = LogNote(frames.salt, frames.count, index.written, last.number, last.content)
        return True

    def _must_compare(self) -> bool:
        written = self._compared != self._sum
        return self._suspect or (written and time.monotonic() >= self._compare_at)

    def _is_sum(self) -> bool:
        """Return whether all of it is still as it was added to the sum."""
        if self._descriptor is None:
            return False
        began = time.monotonic()
        whole = crc32(os.pread(self._descriptor, self._summed.size, 0)) == self._sum
        took = time.monotonic() - began
        self._compared = self._sum
        self._compare_at = began + max(BETWEEN_SUMS_SECONDS, SUMS_SHARE * took)
        return whole

    def _index_again(self) -> LogIndex | None:
        """Return what the index says, None if it says nothing for longer than a write takes."""
        for _ in range(INDEX_TRIES):
            index = self._index.read()
            if index is not None:
                return index
            time.sleep(BETWEEN_TRIES_SECONDS)
        return None

    def _close_log(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

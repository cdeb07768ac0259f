"""Output to whatever is there: a terminal of any encoding, a pipe that closes, or nothing."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

# Arrow, dots, dashes and quotes; none becomes a double quote, which would end a string in JSON.
PLAIN = {"\u2192": "->", "\u2026": "...", "\u2013": "-", "\u2014": "-",
         **dict.fromkeys("\u2018\u2019\u201c\u201d", "'")}  # fmt: skip
LOWEST_OF_OTHERS = 3  # below are standard input, output and error


def prepare_streams() -> None:
    """Make standard output and error raise no error; streams that were replaced are left alone."""
    codecs.register_error("plain", _plainly)
    _occupy()
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__"):
            continue
        encoding = "utf-8" if stream is None else stream.encoding
        buffered = stream is not None and not stream.write_through
        by_line = stream is not None and stream.line_buffering
        setattr(sys, name, _Text(
            io.BufferedWriter(_Output(number)), encoding, "plain",
            line_buffering=by_line, write_through=not buffered,
        ))  # fmt: skip


def output_failure() -> str | None:
    """Return why standard output could not be written, None if it could or nobody reads it."""
    with suppress(ValueError):
        sys.stdout.flush()
    output = getattr(sys.stdout, "output", None)
    return output.failure if isinstance(output, _Output) else None


class _Output(io.RawIOBase):
    """A file descriptor; once it cannot be written, everything goes nowhere."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._gone = False
        self.failure: str | None = None

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def fileno(self) -> int:
        return self._number

    def write(self, data: Buffer, /) -> int:
        if not self._gone:
            try:
                return os.write(self._number, data)
            except OSError as error:
                self._gone = True
                if error.errno != errno.EPIPE:
                    self.failure = error.strerror
        return memoryview(data).nbytes


class _Text(io.TextIOWrapper):
    """Without a `buffer`: click would write UTF-8 into that if the terminal is ASCII."""

    buffer = None  # type: ignore[assignment]

    def __init__(self, buffer: io.BufferedWriter, *args: object, **kwargs: object) -> None:
        super().__init__(buffer, *args, **kwargs)  # type: ignore[arg-type]
        self.output = buffer.raw


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """Replace what an encoding lacks, as codecs.register_error wants it."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(PLAIN.get(letter, "?") for letter in lacking), error.end


def _occupy() -> None:
    """Open the standard descriptors that are closed: else a ledger would be one, and printed to."""
    for number in range(LOWEST_OF_OTHERS):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest that is free

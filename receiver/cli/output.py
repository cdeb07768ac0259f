"""How a command prints and ends: terminals of any encoding, pipes, times, errors, exit codes."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import click

from receiver.errors import BadImageReference, ConfigError, LedgerError, ReceiverError

if TYPE_CHECKING:
    from typing_extensions import Buffer

P = ParamSpec("P")
R = TypeVar("R")

NOT_DONE = 1  # parked, ignored, refused or not reached
USAGE = 2  # the code that click uses
BAD_CONFIG = 3
NO_LEDGER = 4
NOT_FOUND = 5
STILL_WAITING = 6
INTERRUPTED = 130  # as shells report SIGINT

NO_TERMINAL = "stopped: without a terminal, pass every answer as an option; see --help"

MAY_BE_RECORDED = "the server may still record the push, see `receiver deliveries`"

EPILOG = (
    "Exit codes: 0 done; 1 not done (parked, ignored, not reached); 2 wrong usage; 3 faults in "
    "the configuration; 4 the ledger cannot be used; 5 not found; 6 still waiting; "
    "130 stopped by Ctrl-C."
)
COLORS = {
    "ready": "green",
    "done": "green",
    "waiting": "yellow",
    "working": "cyan",
    "queued": "cyan",
    "parked": "red",
    "refused": "red",
    "problem": "red",
    "pass": "green",
    "warn": "yellow",
    "fail": "red",
}
BETWEEN = "  "
# Arrow, dots, dashes and quotes. No double quotes: a double quote would end a string in JSON.
PLAIN = {"\u2192": "->", "\u2026": "...", "\u2013": "-", "\u2014": "-",
         **dict.fromkeys("\u2018\u2019\u201c\u201d", "'")}  # fmt: skip
FIRST_OTHER_DESCRIPTOR = 3  # the numbers below are standard input, output and error
MIN_YEAR = 1900  # an earlier one is a typing error
UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class CommandError(click.ClickException):
    """Ends a command with an error message and an exit code."""

    def __init__(self, sentence: str, code: int) -> None:
        super().__init__(sentence)
        self.exit_code = code  # type: ignore[misc]  # click only reads it

    def show(self, file: object = None) -> None:  # noqa: ARG002 - click's signature
        """Print the error message on standard error."""
        click.echo(f"receiver: {self.message}", err=True)


def stopped_after(recorded: Sequence[str]) -> str:
    """Return the message of a command that Ctrl-C stopped, with what it has recorded."""
    if not recorded:
        return "stopped"
    many = f"{len(recorded)} pushes are recorded, the last one"
    what = "the push is recorded" if len(recorded) == 1 else many
    return f"stopped; {what}: see `receiver show {recorded[-1]}`"


def handle_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Turn this program's errors into one message and an exit code, without a traceback."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except click.Abort:  # Ctrl-C at a prompt, or no terminal for the prompt
            if sys.stdin is not None and sys.stdin.isatty():
                click.echo(err=True)  # ends the line of the prompt
                raise CommandError("stopped", INTERRUPTED) from None
            raise CommandError(NO_TERMINAL, NOT_DONE) from None
        except KeyboardInterrupt:
            raise CommandError("stopped", INTERRUPTED) from None
        except ConfigError as error:
            raise CommandError(str(error), BAD_CONFIG) from None
        except LedgerError as error:
            raise CommandError(str(error), NO_LEDGER) from None
        except BadImageReference as error:
            raise CommandError(str(error), USAGE) from None
        except ReceiverError as error:
            raise CommandError(str(error), NOT_DONE) from None

    return wrapped


def on_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return sys.stdout.isatty()


def is_interactive() -> bool:
    """Return whether standard input is a terminal, so that questions can be answered."""
    return sys.stdin is not None and sys.stdin.isatty()


def colored(text: str, word: str) -> str:
    """Return the text in the color of a state, a verdict or another word."""
    from receiver.logs import in_color

    color = COLORS.get(word) if in_color(sys.stdout) else None
    return text if color is None else click.style(text, fg=color)


def json_text(view: object) -> str:
    """Return a view as one line of JSON."""
    from receiver.web.serialization import encode

    return encode(view).decode()


def print_rows(headers: Sequence[str], rows: Sequence[Sequence[str]], *, plain: str = "") -> None:
    """Print rows of cells; on a terminal in columns below headers, else after the word `plain`."""
    if not rows:
        return
    if not on_terminal():
        for row in rows:
            click.echo(BETWEEN.join(cell for cell in (plain, *row) if cell))
        return
    from receiver.logs import in_color

    columns = zip(headers, *rows, strict=True)
    widths = [max(_width(cell) for cell in column) for column in columns]
    bold = in_color(sys.stdout)
    head = [click.style(one, bold=True) if bold else one for one in headers]
    for row in (head, *rows):
        cells = zip(row, widths, strict=True)
        line = BETWEEN.join(cell + " " * (width - _width(cell)) for cell, width in cells)
        click.echo(line.rstrip())


def print_title(text: str) -> None:
    """Print the title of a list, if it is on a terminal."""
    if on_terminal():
        click.echo(f"\n{text}")


def _width(cell: str) -> int:
    return len(click.unstyle(cell))


def prepare_streams() -> None:
    """Make standard output and error raise no error; replaced streams are not changed."""
    codecs.register_error("plain", _replace_missing)
    _open_closed_descriptors()
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
    """Return why standard output could not be written; None if it was written or has no reader."""
    with suppress(ValueError):
        sys.stdout.flush()
    output = getattr(sys.stdout, "output", None)
    return output.failure if isinstance(output, _Output) else None


class _Output(io.RawIOBase):
    """A file descriptor; after a failed write, all further output is discarded."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._failed = False
        self.failure: str | None = None

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def fileno(self) -> int:
        return self._number

    def write(self, data: Buffer, /) -> int:
        if not self._failed:
            try:
                return os.write(self._number, data)
            except OSError as error:
                self._failed = True
                if error.errno != errno.EPIPE:
                    self.failure = error.strerror
        return memoryview(data).nbytes


class _Text(io.TextIOWrapper):
    """A text stream without `buffer`: click would write UTF-8 into it if the terminal is ASCII."""

    buffer = None  # type: ignore[assignment]

    def __init__(self, buffer: io.BufferedWriter, *args: object, **kwargs: object) -> None:
        super().__init__(buffer, *args, **kwargs)  # type: ignore[arg-type]
        self.output = buffer.raw


def _replace_missing(error: UnicodeError) -> tuple[str, int]:
    """Replace characters that an encoding lacks: a handler for codecs.register_error."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    missing = error.object[error.start : error.end]
    return "".join(PLAIN.get(letter, "?") for letter in missing), error.end


def _open_closed_descriptors() -> None:
    """Open closed standard descriptors: otherwise the ledger's file could become one of them."""
    for number in range(FIRST_OTHER_DESCRIPTOR):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # uses the lowest free number


def moment(text: str) -> int:
    """Return a date, a time or an age (`2h`, `3d ago`) as epoch milliseconds.

    A time without a zone is UTC, as in all output.
    """
    try:
        read = _read(text.strip())
        if read.year >= MIN_YEAR:
            return max(0, int(read.timestamp() * 1000))
    except (ValueError, OverflowError):
        pass
    raise CommandError(f"{text!r} is not a time: write 2026-11-23T17:00 (in UTC), 2h or 3d", USAGE)


def _read(text: str) -> datetime:
    ago = text.removesuffix("ago").rstrip()
    number, unit = ago[:-1], ago[-1:]
    if number.isdecimal() and unit in UNITS:
        return datetime.now(UTC) - timedelta(**{UNITS[unit]: int(number)})
    read = datetime.fromisoformat(text)
    return read if read.tzinfo else read.replace(tzinfo=UTC)

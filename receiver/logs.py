"""Logging: one line per event, in the words of the glossary.

Readable on a terminal, otherwise JSON. Outside text cannot forge a line. All known secrets and
links are masked in everything that is written, including uvicorn's own lines and tracebacks.
"""

import asyncio
import atexit
import getpass
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from enum import StrEnum
from functools import lru_cache
from secrets import token_hex
from typing import Any, TextIO, cast

import msgspec
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from receiver.secret import MASK, Secret, mask_spelt, spellings_of
from receiver.signing import APPROVAL_PATH, PATH

_PATHS = (PATH, APPROVAL_PATH)
_LINK = re.compile(f"({'|'.join(map(re.escape, _PATHS))})" + r"[^\s\"'<>]+")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
QUIET = (
    *("httpx", "httpcore", "alembic", "asyncio"),
    *("uvicorn", "uvicorn.error", "uvicorn.access"),  # we log its start and stop ourselves
)
# The events of uvicorn's lines, by what it writes. All other lines of libraries have one event.
OF_LIBRARIES = {
    "Exception in ASGI application\n": "request_fault",
    "Cancel %s running task(s), timeout graceful shutdown exceeded": "requests_cut_off",
    "Application startup failed. Exiting.": "start_failed",
    "Application shutdown failed. Exiting.": "stop_failed",
}
OF_A_LIBRARY = "library_message"
SOURCE_HEADER = "Receiver-Source"  # a command names itself in it
USER_HEADER = "Receiver-User"  # and in this the user who runs it, percent-encoded
MAX_NAME = 100
_fault: ContextVar[str] = ContextVar("fault")
_who: ContextVar[dict[str, str] | None] = ContextVar("who", default=None)


class Redactor:
    """Masks known secrets and links in text; a reload may add secrets."""

    def __init__(self) -> None:
        self._secrets: frozenset[Secret] = frozenset()
        self._spellings: tuple[str, ...] = ()

    def know(self, secrets: Iterable[Secret]) -> None:
        """Mask these secrets from now on, in addition to those already known."""
        self._secrets = self._secrets.union(secrets)
        self._spellings = spellings_of(self._secrets)

    def __call__(self, text: str) -> str:
        """Return the text without any secret or link."""
        masked = mask_spelt(text, self._spellings)
        found = any(path in masked for path in _PATHS)
        return _LINK.sub(rf"\1{MASK}", masked) if found else masked


masking = Redactor()


class _Lines:
    """Buffers the lines of one tick of the event loop; outside a loop, each is written at once.

    Under load many pushes are answered in one tick, and a write for each line costs a fifth more
    (ADR 14). A kill may lose one tick's lines; the ledger loses nothing.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._waiting: list[str] = []
        # The ledger's threads also log, and so may objects that are garbage-collected meanwhile.
        self._lock = threading.RLock()
        atexit.register(self.send)

    def write(self, text: str) -> int:
        with self._lock:
            self._waiting.append(text)
            first = len(self._waiting) == 1
        if first:
            try:
                asyncio.get_running_loop().call_soon(self.send)
            except RuntimeError:
                self.send()
        return len(text)

    def flush(self) -> None:
        """Do nothing: callers flush after each line, and the buffer is sent anyway."""

    def send(self) -> None:
        with self._lock:
            text, self._waiting = masking("".join(self._waiting)), []
            if text:
                # The reader is gone or the disk is full: an error about it could not be logged.
                with suppress(ValueError, OSError):
                    self._out.write(text)
                    self._out.flush()


def _is_not_of_ctrl_c(record: logging.LogRecord) -> bool:
    """Return whether to write a line: libraries log the interrupt that ends them and raise it."""
    return not record.exc_info or not isinstance(record.exc_info[1], KeyboardInterrupt)


def get_logger(*, always: bool = False) -> FilteringBoundLogger:
    """Return a logger that follows `configure_logs`, even if that is called later.

    With `always`, its lines are written at any log level.
    """
    wrapper = structlog.make_filtering_bound_logger("INFO") if always else None
    logger: FilteringBoundLogger = structlog.wrap_logger(None, wrapper_class=wrapper)
    return logger


def in_color(out: TextIO) -> bool:
    """Return whether a stream shows colors; https://no-color.org turns them off."""
    dumb = os.environ.get("TERM") == "dumb"
    return out.isatty() and not dumb and not os.environ.get("NO_COLOR")


def configure_logs(
    *,
    stream: TextIO | None = None,
    secrets: Iterable[Secret] = (),
    level: str = "INFO",
    form: str = "auto",
    for_good: bool = False,
) -> None:
    """Set up logging for the process.

    `form` is `json`, `text`, or `auto`: text if the stream is a terminal, otherwise JSON.
    `for_good`: the setup will not change later, so each logger may cache it.

    Our own lines go straight to the stream: through `logging` each would cost three times as
    much, and every accepted push writes one. Libraries log through `logging`.
    """
    masking.know(secrets)
    out = stream or sys.stderr
    lines = cast("TextIO", _Lines(out))
    text = out.isatty() if form == "auto" else form == "text"
    renderers: list[Processor] = (
        [_harmless, structlog.dev.ConsoleRenderer(colors=in_color(out))] if text else [_json]
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[_of_a_library, _described],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
    )
    handler = logging.StreamHandler(lines)
    handler.setFormatter(formatter)
    handler.addFilter(_is_not_of_ctrl_c)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(logging.getLevelName(level), logging.INFO))  # their details may hold secrets
    least = max(root.level, logging.WARNING)
    for name in QUIET:
        library = logging.getLogger(name)
        library.setLevel(least)
        library.handlers, library.propagate = [], True  # uvicorn has set its own
    structlog.configure(
        processors=[_described, *renderers],
        logger_factory=structlog.WriteLoggerFactory(lines),
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=for_good,
    )


def _of_a_library(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Give a library's line a fixed event; what it says becomes the field `message`."""
    record: logging.LogRecord = event["_record"]
    event["message"] = str(event["event"]).strip()
    event["library"] = record.name
    event["event"] = OF_LIBRARIES.get(str(record.msg), OF_A_LIBRARY)
    if event["event"] == "request_fault":
        event["id"] = _fault.get("")
    return event


def _described(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Add level, timestamp and traceback; one processor instead of structlog's three."""
    event["level"] = "error" if method == "exception" else method
    second, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    event["timestamp"] = f"{_to_the_second(second)}.{nanoseconds // 1000:06d}Z"
    if "exc_info" in event:
        return structlog.processors.format_exc_info(logger, method, event)
    return event


@lru_cache(maxsize=2)
def _to_the_second(epoch: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(epoch))


def _json(logger: WrappedLogger, method: str, event: EventDict) -> str:
    """Render first: most lines need no escaping. They are masked when they are sent."""
    with suppress(TypeError, ValueError):  # not a JSON value: see _clean
        line = msgspec.json.encode(event).decode()
        if "\\" not in line and line.isprintable():
            return line
    return msgspec.json.encode(_harmless(logger, method, event)).decode()


def _harmless(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {key: _clean(value, multiline=key == "exception") for key, value in event.items()}


def _clean(value: Any, *, multiline: bool = False) -> Any:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_clean(str(key)): _clean(item) for key, item in value.items()}
    if not isinstance(value, str) and not multiline:
        return value if isinstance(value, logging.LogRecord) else _clean(str(value))
    text = masking(str(value))
    if text.isprintable():  # contains none of the characters replaced below
        return text
    text = text.encode("utf-8", "replace").decode()
    if multiline:  # indented, so that no line can pass for a log line
        return "\n    ".join(_UNPRINTABLE.sub(_visible, line) for line in text.split("\n"))
    return _UNPRINTABLE.sub(_visible, text)


def _visible(found: re.Match[str]) -> str:
    return " " if found[0] == "\n" else f"\\u{ord(found[0]):04x}"


log = get_logger(always=True)


class Source(StrEnum):
    """How a person asked for it. A command asks the running server through the API."""

    PAGE = "page"
    API = "api"
    COMMAND = "command"


def note_fault() -> str:
    """Return an id for the error that ends this request: the line that uvicorn logs has it too."""
    fault = token_hex(6)
    _fault.set(fault)
    return fault


def note_address(address: str) -> None:
    """Begin a request from this address: what is logged in its task is said to come from there."""
    _who.set({"address": address})


def note_name(name: str) -> None:
    """Name the person or the token of this request."""
    _who.set({**(_who.get() or {}), "by": printable(name)})


def user_name() -> str:
    """Return the user's name on this machine; empty if the system has no name for it."""
    try:
        return printable(getpass.getuser())
    except (OSError, KeyError):
        return ""


def printable(name: str) -> str:
    """Return a name without what could forge another, and not too long."""
    return "".join(letter for letter in name if letter.isprintable())[:MAX_NAME]


def log_operation(operation: str, *, source: str, by: str | None = None, **facts: object) -> None:
    """Log an operation that is in the ledger; `source` is `page`, `api` or `command`.

    The event is the operation's name in the past tense, such as `paused` or `rolled_back`. It is
    logged whatever the level: a command without a running server logs nothing else. `by` is only
    given if the request itself names a person.
    """
    who = requester(source)
    if by:
        who = {**who, "by": by}
    log.info(operation, source=source, **{**who, **facts})


def requested_by(source: str) -> str:
    """Return who requests an operation, as it is recorded: `command (anna)`."""
    name = requester(source).get("by")
    return f"{source} ({name})" if name else source


def requester(source: str) -> Mapping[str, str]:
    """Return who requests an operation, `by` and `address`, as far as that is known."""
    who = _who.get()
    if who is None:  # no server is running in this process
        return {"by": user_name()} if source == Source.COMMAND else {}
    return who

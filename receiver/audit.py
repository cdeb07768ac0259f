"""Operations that a person starts from the page, the API or a command: one log line for each.

The line says who it was, as far as that is known: the source, the user of a command or the API
token, and the address of the request.
"""

import getpass
from contextvars import ContextVar
from enum import StrEnum

from receiver.logs import get_logger

SOURCE_HEADER = "Receiver-Source"  # a command names itself in it
USER_HEADER = "Receiver-User"  # and in this the user who runs it, percent-encoded
LONGEST_NAME = 100

log = get_logger(always=True)
_who: ContextVar[dict[str, str] | None] = ContextVar("who", default=None)


class Source(StrEnum):
    """How a person asked for it. A command asks the running server through the API."""

    PAGE = "page"
    API = "api"
    COMMAND = "command"


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
    return "".join(letter for letter in name if letter.isprintable())[:LONGEST_NAME]


def log_operation(operation: str, *, source: str, by: str | None = None, **facts: object) -> None:
    """Log an operation that is in the ledger; `source` is `page`, `api` or `command`.

    The event is the operation's name in the past tense, such as `paused` or `rolled_back`. It is
    logged whatever the level: a command without a running server logs nothing else. `by` is only
    given if the request itself names a person.
    """
    who = _who.get()
    if who is None:  # no server is running in this process
        who = {"by": user_name()} if source == Source.COMMAND else {}
    if by:
        who = {**who, "by": by}
    log.info(operation, source=source, **{**who, **facts})

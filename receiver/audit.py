"""Operations that a person starts from the page, the API or a command: one log line for each."""

from enum import StrEnum

from receiver.logs import get_logger

SOURCE_HEADER = "Receiver-Source"  # a command names itself in it

log = get_logger(always=True)


class Source(StrEnum):
    """How a person asked for it. A command asks the running server through the API."""

    PAGE = "page"
    API = "api"
    COMMAND = "command"


def log_operation(operation: str, *, source: str, **facts: object) -> None:
    """Log an operation that is in the ledger; `source` is `page`, `api` or `command`.

    The event is the operation's name in the past tense, such as `paused` or `rolled_back`. It is
    logged whatever the level: a command without a running server logs nothing else.
    """
    log.info(operation, source=source, **facts)

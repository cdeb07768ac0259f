"""Operations that a person starts from the page, the API or a command: one log line for each."""

from receiver.logs import get_logger

log = get_logger()


def log_operation(operation: str, *, source: str, **facts: object) -> None:
    """Log an operation that is in the ledger; `source` is `page`, `api` or `command`.

    The event is the operation's name in the past tense, such as `paused` or `rolled_back`.
    """
    log.info(operation, source=source, **facts)

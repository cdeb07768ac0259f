"""Logs: one line per thing that happened, named in the design's words.

On a terminal for people, else JSON. Text from outside can forge no line, and every known secret
and every link is masked in whatever goes out, uvicorn's own lines and tracebacks included.
"""

import logging
import re
import sys
from collections.abc import Iterable
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from receiver.hook_tokens import PATH
from receiver.secret import MASK, Secret, mask

_LINK = re.compile(re.escape(PATH) + r"[^\s\"'<>]+")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
QUIET = ("httpx", "httpcore", "alembic", "asyncio")


class Masking:
    """Masks known secrets and links in text; the secrets may be replaced at a reload."""

    def __init__(self) -> None:
        self._secrets: tuple[Secret, ...] = ()

    def know(self, secrets: Iterable[Secret]) -> None:
        """Mask these too from now on; what was known before stays masked."""
        self._secrets = tuple({*self._secrets, *secrets})

    def __call__(self, text: str) -> str:
        """Return the text without any secret or link."""
        return _LINK.sub(PATH + MASK, mask(text, self._secrets))


masking = Masking()


def get_logger(name: str = "receiver") -> structlog.stdlib.BoundLogger:
    """Return the logger of one part of the program."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def configure_logs(
    *, stream: TextIO | None = None, secrets: Iterable[Secret] = (), level: str = "INFO"
) -> None:
    """Set up all logging of the process. Console when the stream is a terminal, else JSON."""
    masking.know(secrets)
    out = stream or sys.stderr
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _harmless,
    ]
    renderer: Processor = (
        structlog.dev.ConsoleRenderer(colors=True)
        if out.isatty()
        else structlog.processors.JSONRenderer(ensure_ascii=False)
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(), *shared],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers = []
        logging.getLogger(name).propagate = True
        logging.getLogger(name).setLevel(logging.WARNING)  # that it listens and stops, we say
    structlog.configure(
        processors=[
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


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
    text = masking(str(value)).encode("utf-8", "replace").decode()
    if multiline:  # its lines are set in, so that none of them passes for one of the log's
        return "\n    ".join(_UNPRINTABLE.sub(_visible, line) for line in text.split("\n"))
    return _UNPRINTABLE.sub(_visible, text)


def _visible(found: re.Match[str]) -> str:
    return " " if found[0] == "\n" else f"\\u{ord(found[0]):04x}"

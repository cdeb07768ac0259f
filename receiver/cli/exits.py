"""Exit codes, and how errors become them."""

import sys
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import click

from receiver.errors import BadImageReference, ConfigError, LedgerError, ReceiverError

P = ParamSpec("P")
R = TypeVar("R")

NOT_DONE = 1  # what was asked came to something else: parked, ignored, refused, not reached
USAGE = 2  # click's own
BAD_CONFIG = 3
NO_LEDGER = 4
NOT_FOUND = 5
STILL_WAITING = 6
INTERRUPTED = 130  # as shells have it for SIGINT

NO_TERMINAL = "stopped: without a terminal give each answer as an option, see --help"

EPILOG = (
    "Exit codes: 0 done; 1 not done (parked, ignored, not reached); 2 wrong usage; 3 faults in "
    "the configuration; 4 the ledger cannot be used; 5 no such delivery; 6 still waiting; "
    "130 stopped by Ctrl-C."
)


class Stop(click.ClickException):
    """Ends a command with a sentence and a code."""

    def __init__(self, sentence: str, code: int) -> None:
        super().__init__(sentence)
        self._code = code

    @property
    def exit_code(self) -> int:  # type: ignore[override]  # click reads it, and sets it nowhere
        """The code the process ends with."""
        return self._code

    def show(self, file: object = None) -> None:  # noqa: ARG002 - click's signature
        """Print the sentence on standard error."""
        click.echo(f"receiver: {self.message}", err=True)


def told_plainly(command: Callable[P, R]) -> Callable[P, R]:
    """Turn this program's errors into a sentence and an exit code, without a traceback."""

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except click.Abort:  # Ctrl-C at a question, or no terminal to answer it at
            if sys.stdin is not None and sys.stdin.isatty():
                click.echo(err=True)  # the question's line ends here
                raise Stop("stopped", INTERRUPTED) from None
            raise Stop(NO_TERMINAL, NOT_DONE) from None
        except KeyboardInterrupt:
            raise Stop("stopped", INTERRUPTED) from None
        except ConfigError as error:
            raise Stop(str(error), BAD_CONFIG) from None
        except LedgerError as error:
            raise Stop(str(error), NO_LEDGER) from None
        except BadImageReference as error:
            raise Stop(str(error), USAGE) from None
        except ReceiverError as error:
            raise Stop(str(error), NOT_DONE) from None

    return wrapped

"""Exit codes, and the mapping from errors to exit codes."""

import sys
from collections.abc import Callable, Sequence
from functools import wraps
from typing import ParamSpec, TypeVar

import click

from receiver.errors import BadImageReference, ConfigError, LedgerError, ReceiverError

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


class CommandError(click.ClickException):
    """Ends a command with an error message and an exit code."""

    def __init__(self, sentence: str, code: int) -> None:
        super().__init__(sentence)
        self._code = code

    @property
    def exit_code(self) -> int:  # type: ignore[override]  # click only reads it
        """The exit code of the process."""
        return self._code

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

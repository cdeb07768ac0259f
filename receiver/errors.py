"""The exception classes.

Each has a message that says what happened and what to do; none contains a secret.
"""

from typing import NamedTuple

import msgspec


class ReceiverError(Exception):
    """Base class of the errors that this program raises on purpose; their text is for users."""


class BadImageReference(ReceiverError):
    """A repository, tag or image reference that breaks the registry's grammar."""


class BadLink(ReceiverError):
    """An invalid link. The message is for the log; the sender never sees it.

    `repository` is the repository that the link was made for, None if it is not known.
    """

    def __init__(self, reason: str, text: str, repository: str | None = None) -> None:
        super().__init__(text)
        self.reason = reason
        self.repository = repository


class BadBody(ReceiverError):
    """A webhook body that is not a push; `reason` is the machine-readable reason."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class BadVersionName(ReceiverError):
    """A rule gives a tag a version name that Edgegap does not accept."""

    def __init__(self, name: str, sentence: str) -> None:
        super().__init__(sentence)
        self.name = name


class BadTagPattern(ReceiverError):
    """An invalid tag pattern in a rule."""


class BadText(ReceiverError):
    """A file, or a part of one, that cannot be read as text; `fix` says what to do."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.fix = fix


class Fault(NamedTuple):
    """What is wrong with a value, and how to fix it."""

    what: str
    fix: str


class ConfigIssue(msgspec.Struct, frozen=True):
    """One error in the configuration: its location, what is wrong, and how to fix it."""

    where: str
    what: str
    hint: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}. {self.hint}"


class ConfigError(ReceiverError):
    """All errors in a configuration at once, together with its warnings."""

    def __init__(self, faults: tuple[ConfigIssue, ...], warnings: tuple[str, ...] = ()) -> None:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        lines = "\n".join(f"  - {fault}" for fault in faults)
        super().__init__(f"The configuration has {count}:\n{lines}")
        self.faults = faults
        self.warnings = warnings


class RestartFirst(ConfigError):
    """A configuration that is valid, but unsafe with settings that only a restart changes."""


class LedgerError(ReceiverError):
    """The ledger cannot be read or written now; the operation did not happen."""


class NoLedger(LedgerError):
    """There is no ledger yet, and nothing is known that would keep `serve` from making it."""


class LedgerInUse(LedgerError):
    """Another process has the ledger locked."""


class LedgerSchemaError(LedgerError):
    """The ledger's schema is older or newer than this program's."""

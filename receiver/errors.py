"""The family of errors.

    ReceiverError
    ├── BadImageReference     a name that Docker Hub could not have
    ├── BadLink               a token that is not ours, revoked, or malformed
    ├── BadBody               a webhook body that cannot be read as a push
    ├── BadVersionName        a rule and tag that give no name Edgegap takes
    ├── BadTagPattern         a tag pattern that cannot be read
    ├── BadText               a file that cannot be read as text
    ├── ConfigError           all faults of the configuration at once
    └── LedgerError           the ledger cannot be read or written now
        ├── LedgerInUse       another process holds it
        └── LedgerSchemaError its schema is not this program's

Each carries a sentence that says what happened and what to do; none carries a secret.
"""

from dataclasses import dataclass


class ReceiverError(Exception):
    """Anything this program raises on purpose; its text is meant for people."""


class BadImageReference(ReceiverError):
    """A repository, tag or image reference that breaks the registry's grammar."""


class BadLink(ReceiverError):
    """A token that opens nothing. Its text says why, for the log; the sender never sees it.

    `reason` is the word; `repository` the one that the link was made for, None if it is not known.
    """

    def __init__(self, reason: str, text: str, repository: str | None = None) -> None:
        super().__init__(text)
        self.reason = reason
        self.repository = repository


class BadBody(ReceiverError):
    """A webhook body that is no push; `reason` is the word, the text the sentence."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class BadVersionName(ReceiverError):
    """The version name that a rule gives a tag is not one that Edgegap takes."""

    def __init__(self, name: str, sentence: str) -> None:
        super().__init__(sentence)
        self.name = name


class BadTagPattern(ReceiverError):
    """A tag pattern of a rule that cannot be read."""


class BadText(ReceiverError):
    """A file, or a part of one, that cannot be read as text; `fix` says what to do."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(what)
        self.fix = fix


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with the configuration: where, what, and how to mend it."""

    where: str
    what: str
    mend: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}. {self.mend}"


class ConfigError(ReceiverError):
    """All faults of a configuration at once, with the warnings beside them."""

    def __init__(self, faults: tuple[Fault, ...], warnings: tuple[str, ...] = ()) -> None:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        lines = "\n".join(f"  - {fault}" for fault in faults)
        super().__init__(f"The configuration has {count}:\n{lines}")
        self.faults = faults
        self.warnings = warnings


class LedgerError(ReceiverError):
    """The ledger cannot be read or written now; what was asked did not happen."""


class LedgerInUse(LedgerError):
    """Another process holds the ledger's lock."""


class LedgerSchemaError(LedgerError):
    """The ledger's schema is older or newer than this program's."""

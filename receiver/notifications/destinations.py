"""Notification destinations and events, and the text of a message. Pure.

Each `[[notice]]` names a destination by the variable that holds its Apprise URL, and its events.
"""

from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum

import msgspec

from receiver.secret import Secret

MAX_LINES = 10


class Severity(StrEnum):
    """How much an event matters, in Apprise's words: many destinations show it as a color."""

    INFO = "info"
    SUCCESS = "success"
    WARNING = "warning"
    FAILURE = "failure"


class NotificationEvent(StrEnum):
    """The events that a notification can report."""

    one: str  # the title of a message about one event
    several: str  # and about several
    severity: Severity

    def __new__(
        cls, word: str, one: str = "", several: str = "", severity: Severity = Severity.INFO
    ) -> "NotificationEvent":
        """Return a member whose value is the word."""
        event = str.__new__(cls, word)
        event._value_, event.one, event.several, event.severity = word, one, several, severity
        return event

    CREATED = "created", "version created", "versions created", Severity.SUCCESS
    UPDATED = "updated", "channel moved", "channel moves", Severity.SUCCESS
    PROMOTED = "promoted", "channel promoted", "promotions", Severity.SUCCESS
    ROLLED_BACK = "rolled_back", "channel rolled back", "rollbacks", Severity.WARNING
    PARKED = "parked", "registration parked", "registrations parked", Severity.FAILURE
    OVERWRITTEN = "overwritten", "tag overwritten", "tags overwritten", Severity.WARNING
    TRIAL_FAILED = "trial_failed", "trial failed", "trials failed", Severity.FAILURE
    APPROVAL = "approval", "approval needed", "approvals needed", Severity.INFO
    DELETED = "deleted", "version deleted", "versions deleted", Severity.INFO
    TOKEN_REFUSED = (
        "token_refused",
        "Edgegap refuses the token",
        "refusals of the token by Edgegap",
        Severity.FAILURE,
    )
    CAUGHT_UP = (
        "caught_up",
        "missed push found by catch-up",
        "missed pushes found by catch-up",
        Severity.INFO,
    )
    WEBHOOK_SILENT = (
        "webhook_silent",
        "no webhook arrives",
        "repositories without webhooks",
        Severity.WARNING,
    )
    DRIFTED = (
        "drifted",
        "channel differs at Edgegap",
        "channels differ at Edgegap",
        Severity.WARNING,
    )
    RECOVERED = "recovered", "recovered", "recoveries", Severity.SUCCESS


EVERYTHING = tuple(NotificationEvent)


class Notice(msgspec.Struct, frozen=True):
    """A destination: its Apprise URL, its events, and its rules (empty: all)."""

    name: str
    url: Secret
    on: tuple[NotificationEvent, ...] = EVERYTHING
    rules: tuple[str, ...] = ()

    def wants(self, event: NotificationEvent, rule: str | None) -> bool:
        """Return whether the destination accepts an event; `rule` is None if it concerns all."""
        return event in self.on and (rule is None or not self.rules or rule in self.rules)


def wanting(
    notices: Iterable[Notice], event: NotificationEvent, rules: Collection[str]
) -> list[Notice]:
    """Return the destinations that accept an event about one of these rules."""
    return [one for one in notices if any(one.wants(event, rule) for rule in rules)]


class Message(msgspec.Struct, frozen=True):
    """One message, for one or more events of a kind."""

    title: str
    body: str
    severity: Severity = Severity.INFO


def message_of(event: NotificationEvent, texts: Sequence[str]) -> Message:
    """Return one message for all texts: the first ten, and the number of the others."""
    head = event.one if len(texts) == 1 else f"{len(texts)} {event.several}"
    lines = list(texts[:MAX_LINES])
    if len(texts) > MAX_LINES:
        lines.append(f"… and {len(texts) - MAX_LINES} more; see `receiver deliveries`.")
    return Message(f"Receiver: {head}", "\n".join(lines), event.severity)

"""Notification destinations and events, and the text of a message. Pure.

Each `[[notice]]` names a destination by the variable that holds its Apprise URL, and its events.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum

import msgspec

from receiver.secret import Secret

MOST_LINES = 10


class NotificationEvent(StrEnum):
    """The events that a notification can report."""

    CREATED = "created"
    UPDATED = "updated"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    PARKED = "parked"
    OVERWRITTEN = "overwritten"
    TRIAL_FAILED = "trial_failed"
    APPROVAL = "approval"
    DELETED = "deleted"
    TOKEN_REFUSED = "token_refused"  # noqa: S105 - a word
    CAUGHT_UP = "caught_up"
    WEBHOOK_SILENT = "webhook_silent"
    DRIFTED = "drifted"
    RECOVERED = "recovered"


class Severity(StrEnum):
    """How much an event matters, in Apprise's words: many destinations show it as a color."""

    INFO = "info"
    SUCCESS = "success"
    WARNING = "warning"
    FAILURE = "failure"


class Wording(msgspec.Struct, frozen=True):
    """The title of a message about one event, or about several, and their severity."""

    one: str
    several: str
    severity: Severity


EVERYTHING = tuple(NotificationEvent)
WORDINGS: Mapping[NotificationEvent, Wording] = {
    NotificationEvent.CREATED: Wording("version created", "versions created", Severity.SUCCESS),
    NotificationEvent.UPDATED: Wording("channel moved", "channel moves", Severity.SUCCESS),
    NotificationEvent.PROMOTED: Wording("channel promoted", "promotions", Severity.SUCCESS),
    NotificationEvent.ROLLED_BACK: Wording("channel rolled back", "rollbacks", Severity.WARNING),
    NotificationEvent.PARKED: Wording(
        "registration parked", "registrations parked", Severity.FAILURE
    ),
    NotificationEvent.OVERWRITTEN: Wording("tag overwritten", "tags overwritten", Severity.WARNING),
    NotificationEvent.TRIAL_FAILED: Wording("trial failed", "trials failed", Severity.FAILURE),
    NotificationEvent.APPROVAL: Wording("approval needed", "approvals needed", Severity.INFO),
    NotificationEvent.DELETED: Wording("version deleted", "versions deleted", Severity.INFO),
    NotificationEvent.TOKEN_REFUSED: Wording(
        "Edgegap refuses the token", "refusals of the token by Edgegap", Severity.FAILURE
    ),
    NotificationEvent.CAUGHT_UP: Wording(
        "missed push found by catch-up", "missed pushes found by catch-up", Severity.INFO
    ),
    NotificationEvent.WEBHOOK_SILENT: Wording(
        "no webhook arrives", "repositories without webhooks", Severity.WARNING
    ),
    NotificationEvent.DRIFTED: Wording(
        "channel differs at Edgegap", "channels differ at Edgegap", Severity.WARNING
    ),
    NotificationEvent.RECOVERED: Wording("recovered", "recoveries", Severity.SUCCESS),
}


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
    wording = WORDINGS[event]
    head = wording.one if len(texts) == 1 else f"{len(texts)} {wording.several}"
    lines = list(texts[:MOST_LINES])
    if len(texts) > MOST_LINES:
        lines.append(f"… and {len(texts) - MOST_LINES} more; see `receiver deliveries`.")
    return Message(f"Receiver: {head}", "\n".join(lines), wording.severity)

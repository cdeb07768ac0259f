"""Notification destinations and events, and the text of a message. Pure.

Each `[[notice]]` names a destination by the variable that holds its Apprise URL, and its events.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from receiver.secret import Secret

MOST_LINES = 10


class NotificationEvent(StrEnum):
    """The events that a notification can report."""

    CREATED = "created"
    UPDATED = "updated"
    PARKED = "parked"
    OVERWRITTEN = "overwritten"
    TRIAL_FAILED = "trial_failed"
    APPROVAL = "approval"
    TOKEN_REFUSED = "token_refused"  # noqa: S105 - a word
    CAUGHT_UP = "caught_up"
    WEBHOOK_SILENT = "webhook_silent"
    DRIFTED = "drifted"


EVERYTHING = tuple(NotificationEvent)
TITLES: Mapping[NotificationEvent, str] = {
    NotificationEvent.CREATED: "version created",
    NotificationEvent.UPDATED: "version moved",
    NotificationEvent.PARKED: "registration parked",
    NotificationEvent.OVERWRITTEN: "tag overwritten",
    NotificationEvent.TRIAL_FAILED: "trial failed",
    NotificationEvent.APPROVAL: "approval needed",
    NotificationEvent.TOKEN_REFUSED: "Edgegap refuses the token",
    NotificationEvent.CAUGHT_UP: "missed push found by catch-up",
    NotificationEvent.WEBHOOK_SILENT: "no webhook arrives",
    NotificationEvent.DRIFTED: "channel has another image at Edgegap",
}


@dataclass(frozen=True, slots=True)
class Notice:
    """A destination: its Apprise URL, its events, and its rules (empty: all)."""

    name: str
    url: Secret
    on: tuple[NotificationEvent, ...] = EVERYTHING
    rules: tuple[str, ...] = ()

    def wants(self, event: NotificationEvent, rule: str | None) -> bool:
        """Return whether the destination accepts an event; `rule` is None if it concerns all."""
        return event in self.on and (rule is None or not self.rules or rule in self.rules)


@dataclass(frozen=True, slots=True)
class Message:
    """One message, for one or more events of a kind."""

    title: str
    body: str


def message_of(event: NotificationEvent, texts: Sequence[str]) -> Message:
    """Return one message for all texts: the first ten, and the number of the others."""
    head = TITLES[event]
    title = f"Receiver: {head}" if len(texts) == 1 else f"Receiver: {head} ({len(texts)} times)"
    lines = list(texts[:MOST_LINES])
    if len(texts) > MOST_LINES:
        lines.append(f"… and {len(texts) - MOST_LINES} more; see `receiver deliveries`.")
    return Message(title, "\n".join(lines))

"""Notification destinations and events, and the text of a message. Pure.

Each `[[notice]]` names a destination by the variable that holds its Apprise URL, and its events.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from receiver.config.environment import read_secret, shown
from receiver.config.values import known_names
from receiver.errors import Fault
from receiver.rules.rule import Rule
from receiver.secret import Secret

KEYS = ("name", "url_env", "on", "rules")
MOST_LINES = 10
HOW_TO_SET = 'Write url_env = "DISCORD_NOTICE_URL" and set it to an Apprise URL'


class NotificationEvent(StrEnum):
    """The events that a notification can report."""

    CREATED = "created"
    UPDATED = "updated"
    PARKED = "parked"
    OVERWRITTEN = "overwritten"
    TRIAL_FAILED = "trial_failed"
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


def read_notices(
    tables: object, environ: Mapping[str, str], rules: Iterable[Rule]
) -> tuple[tuple[Notice, ...], list[Fault]]:
    """Read the list of `[[notice]]` tables."""
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        fix = "Write each notice under a line [[notice]]"
        return (), [Fault("notice", "it is not a list of tables", fix)]
    known = {rule.name for rule in rules}
    faults: list[Fault] = []
    found = [_read(table, number, environ, known, faults) for number, table in enumerate(tables, 1)]
    names = [notice.name for notice in found if notice is not None]
    for name in sorted({name for name in names if names.count(name) > 1}):
        what = f"two notices have the name {name!r}"
        faults.append(Fault("notice", what, 'Give one of them another: name = "…"'))
    return tuple(notice for notice in found if notice is not None), faults


def _read(
    table: Mapping[str, object],
    number: int,
    environ: Mapping[str, str],
    known: set[str],
    faults: list[Fault],
) -> Notice | None:
    where = f"notice {number}"
    for key in table:
        if key not in KEYS:
            fix = known_names(key, KEYS)
            faults.append(Fault(f"{where}, {key}", "there is no such key", fix))
    variable = table.get("url_env")
    url = read_secret(environ, variable) if isinstance(variable, str) else None
    if url is None:
        what = f"{shown(variable)} is not set" if isinstance(variable, str) else "it is missing"
        faults.append(Fault(f"{where}, url_env", what, HOW_TO_SET))
    events = _texts(table.get("on", [*EVERYTHING]))
    if events is None or not set(events) <= set(EVERYTHING):
        fix = f"There are {', '.join(EVERYTHING)}"
        faults.append(Fault(f"{where}, on", "unknown event", fix))
        events = []
    rules = _texts(table.get("rules", []))
    if rules is None or not set(rules) <= known:
        fix = f"There are {', '.join(sorted(known))}"
        faults.append(Fault(f"{where}, rules", "it names a rule that does not exist", fix))
        rules = []
    name = table.get("name", f"notice {number}")
    on = tuple(NotificationEvent(event) for event in events)
    return None if url is None else Notice(str(name), url, on, tuple(rules))


def _texts(value: object) -> list[str] | None:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return None
    return [str(item) for item in value]

"""The list of deliveries as it is shown: by day, one status for each, ignored ones folded."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby

from receiver.ledger.views import Delivery, DeliveryDetail, Registration
from receiver.reasons import State, Verdict
from receiver.rules.rule import Mode
from receiver.web.page.flow import COLOURS

# The first state that one of the registrations has is the delivery's status.
BY_URGENCY = (State.PARKED, State.WAITING, State.WORKING, State.QUEUED)
OF_VERDICT = {Verdict.IGNORED: "calm", Verdict.REFUSED: "bad", Verdict.ACCEPTED: "busy"}
LEAST_FOLDED = 2


@dataclass(frozen=True, slots=True)
class Status:
    """One word for a delivery, its reason and its color."""

    word: str
    colour: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A delivery with its status; `main` is shown in full, of `others` only the names."""

    delivery: Delivery
    status: Status
    main: Registration | None
    others: tuple[Registration, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that are shown together; `summary` says what is folded, empty if nothing is."""

    rows: tuple[Row, ...]
    summary: str = ""


@dataclass(frozen=True, slots=True)
class Day:
    """The deliveries of one day (UTC)."""

    title: str
    groups: tuple[Group, ...]


def by_day(deliveries: Iterable[Delivery], *, folding: bool) -> list[Day]:
    """Return the deliveries, in their order, by day; runs of ignored ones are folded."""
    rows = [row_of(one) for one in deliveries]
    return [
        Day(title, tuple(_grouped(list(those), folding=folding)))
        for title, those in groupby(rows, key=lambda row: _day(row.delivery.received_at))
    ]


def row_of(delivery: Delivery) -> Row:
    """Return a delivery as a row."""
    registrations = sorted(delivery.registrations, key=lambda one: one.mode is not Mode.CREATE)
    main = registrations[0] if registrations else None
    return Row(delivery, status_of(delivery), main, tuple(registrations[1:]))


def status_of(delivery: Delivery | DeliveryDetail) -> Status:
    """Return the most urgent state of the registrations, else the outcome or the verdict."""
    for state in BY_URGENCY:
        for one in delivery.registrations:
            if one.state is state:
                return Status(state.value, COLOURS[state], one.reason or "")
    for one in sorted(delivery.registrations, key=lambda one: one.mode is not Mode.CREATE):
        word = one.outcome or one.state
        if any(each.overwritten for each in delivery.registrations):
            return Status(word, "wait", "tag overwritten")
        later = "later deleted" if one.deleted_at is not None else ""
        return Status(word, COLOURS.get(word, "calm"), later)
    return Status(delivery.verdict.value, OF_VERDICT[delivery.verdict], delivery.reason or "")


def _grouped(rows: Sequence[Row], *, folding: bool) -> Iterable[Group]:
    for noise, run in groupby(rows, key=lambda row: row.delivery.verdict is Verdict.IGNORED):
        those = tuple(run)
        if not (noise and folding) or len(those) < LEAST_FOLDED:
            yield Group(those)
            continue
        reasons = Counter(row.status.reason for row in those).most_common()
        named = ", ".join(f"{count} {reason}" for reason, count in reasons)
        yield Group(those, f"{len(those)} ignored: {named}")


def _day(milliseconds: int) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return f"{moment:%A}, {moment.day} {moment:%B %Y}"

"""The page that lists deliveries by day, ignored ones folded, and the page of one delivery."""

import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from itertools import groupby

import msgspec
from msgspec.structs import replace
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from receiver.ledger.deliveries import DELIVERY
from receiver.ledger.ids import first_id
from receiver.ledger.queries import (
    DEPTH,
    Filter,
    count_deliveries,
    delivery_detail,
    search_deliveries,
)
from receiver.ledger.stats import DAY_MS
from receiver.ledger.transaction import Tx
from receiver.ledger.views import (
    Delivery,
    DeliveryDetail,
    DeliveryPage,
    DeliverySource,
    Registration,
)
from receiver.pipeline.prune import Scope, prune_preview
from receiver.reasons import Reason, State, Verdict
from receiver.rules.rule import Mode, Rule, takes
from receiver.service import Service
from receiver.upkeep.health import Condition
from receiver.web.bodies import CURSOR
from receiver.web.page.answers import answer_page, short_text
from receiver.web.page.auth import FRAGMENT, failure
from receiver.web.page.flow import (
    Status,
    colour_of,
    flow_of,
    holds_back,
    status_of_registration,
)
from receiver.web.page.rendering import query_of
from receiver.web.page.sessions import Session

# The first state that one of the registrations has is the delivery's status.
BY_URGENCY = (State.PARKED, State.WAITING, State.WORKING, State.QUEUED)


class Row(msgspec.Struct, frozen=True):
    """A delivery with its status; `main` is shown in full, of `others` only the most urgent."""

    delivery: Delivery
    status: Status
    main: Registration | None
    others: tuple[Registration, ...]


class Day(msgspec.Struct, frozen=True):
    """The deliveries of one day (UTC); `folded` are those that `summary` counts."""

    date: str
    title: str
    rows: tuple[Row, ...]
    folded: tuple[Row, ...]
    summary: str


def by_day(
    deliveries: Iterable[Delivery], conditions: Sequence[Condition], *, folding: bool
) -> list[Day]:
    """Return the deliveries, in their order, by day.

    The ignored ones of a day are folded, unless the day has no others.
    """
    rows = [row_of(one, held=holds_back(conditions, one.repository)) for one in deliveries]
    return [
        _day(date, tuple(those), folding=folding)
        for date, those in groupby(rows, key=lambda row: _date(row.delivery.received_at))
    ]


def row_of(delivery: Delivery, *, held: bool) -> Row:
    """Return a delivery as a row."""
    registrations = sorted(delivery.registrations, key=lambda one: one.mode is not Mode.CREATE)
    main = registrations[0] if registrations else None
    others = sorted(registrations[1:], key=lambda one: (*BY_URGENCY, State.DONE).index(one.state))
    return Row(delivery, status_of(delivery, held=held), main, tuple(others))


def status_of(delivery: Delivery | DeliveryDetail, *, held: bool) -> Status:
    """Return the most urgent state of the registrations, else the outcome or the verdict."""
    for state in BY_URGENCY:
        for one in delivery.registrations:
            if one.state is state:
                return status_of_registration(one, held=held)
    done = sorted(delivery.registrations, key=lambda one: one.mode is not Mode.CREATE)
    if done:
        worst = next((one for one in done if one.overwritten), done[0])
        status = status_of_registration(worst)
        return Status(done[0].outcome or done[0].state, status.colour, status.reason)
    verdict = delivery.verdict
    return Status(verdict.value, colour_of(verdict), delivery.reason or "")


def _day(date: datetime, rows: tuple[Row, ...], *, folding: bool) -> Day:
    noise = tuple(row for row in rows if row.delivery.verdict is Verdict.IGNORED)
    title = f"{date:%A}, {date.day} {date:%B %Y}"
    if not (noise and folding) or len(noise) == len(rows):
        return Day(f"{date:%Y-%m-%d}", title, rows, (), "")
    reasons = Counter(row.status.reason for row in noise).most_common()
    named = ", ".join(f"{count} {reason}" for reason, count in reasons)
    named = named if len(reasons) > 1 else reasons[0][0]
    summary = f"{len(noise)} ignored {'push' if len(noise) == 1 else 'pushes'}: {named}"
    shown = tuple(row for row in rows if row.delivery.verdict is not Verdict.IGNORED)
    return Day(f"{date:%Y-%m-%d}", title, shown, noise, summary)


def _date(milliseconds: int) -> datetime:
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


# The page that lists deliveries, with its filters.

ROWS = 50
MAX_COUNTED = 100  # beside a status: more are "100+"
HOUR_MS = 60 * 60 * 1000
FILTERS = (
    "text", "state", "verdict", "since", "day",
    "repository", "tag", "app", "version", "reason", "source", "overwritten",
)  # fmt: skip
SINCE = {"24h": 24, "7d": 7 * 24, "30d": 30 * 24}  # hours
CHOICES: Mapping[str, Sequence[str]] = {
    "verdict": tuple(Verdict),
    "state": tuple(State),
    "since": tuple(SINCE),
    "reason": tuple(Reason),
    "source": DeliverySource.known,
    "overwritten": ("1",),
}
# One word for each chip: the filters that it sets.
STATUSES: Sequence[tuple[str, Mapping[str, str]]] = (
    ("all", {}),
    ("parked", {"state": "parked"}),
    ("waiting", {"state": "waiting"}),
    ("queued", {"state": "queued"}),
    ("done", {"state": "done"}),
    ("ignored", {"verdict": "ignored"}),
    ("refused", {"verdict": "refused"}),
    ("overwritten", {"overwritten": "1"}),
)
PERIODS = (("any time", ""), ("24 h", "24h"), ("7 d", "7d"), ("30 d", "30d"))


async def show_deliveries(service: Service, request: Request, session: Session) -> Response:
    """Show a page of deliveries, newest first."""
    query = request.query_params
    if FRAGMENT not in query and not all(query.values()):  # a form sends its empty fields, too
        kept = query_of(**{name: value for name, value in query.items() if value})
        return RedirectResponse(f"/deliveries?{kept}" if kept else "/deliveries", 303)
    chosen = _chosen(query)
    before, after = (_cursor(query, name) for name in ("before", "after"))
    search = _filter(chosen, before, after)

    def look(tx: Tx) -> tuple[DeliveryPage, dict[str, str]]:
        return search_deliveries(tx, search), _counts(tx, chosen)

    page, counts = await service.ledger.read(look)
    given = {name: value for name, value in chosen.items() if value}
    if after is not None and page.next is None:  # there are no newer ones than on the first page
        return RedirectResponse(f"/deliveries?{query_of(**given)}" if given else "/deliveries", 303)
    health = await service.health.now()
    return await answer_page(
        request, session, "deliveries.html",
        days=by_day(
            page.deliveries if after is None else page.deliveries[::-1], health.conditions,
            folding=not chosen["verdict"] and not chosen["reason"],
        ),
        chosen=chosen, given=given, depth=DEPTH, counts=counts,
        **_paging(page, before, after),
        repositories=sorted({rule.repository for rule in service.settings.rules}),
        statuses=STATUSES, periods=PERIODS, reasons=CHOICES["reason"], sources=CHOICES["source"],
    )  # fmt: skip


def _chosen(query: QueryParams) -> dict[str, str]:
    """Return the value of each filter, empty if it is not set; raises ValueError."""
    chosen = {name: short_text(query.get(name, "")) for name in FILTERS}
    for name, choices in CHOICES.items():
        if chosen[name] and chosen[name] not in choices:
            raise ValueError(f"{name} must be one of {', '.join(choices)}")
    if chosen["day"]:
        chosen["day"] = str(date.fromisoformat(chosen["day"]))
    return chosen


def _cursor(query: QueryParams, name: str) -> str | None:
    cursor = short_text(query.get(name, "")) or None
    if cursor is not None and re.match(CURSOR, cursor) is None:
        raise ValueError(f"{name} must be the `next` of a page: an id of a delivery")
    return cursor


def _paging(page: DeliveryPage, before: str | None, after: str | None) -> dict[str, object]:
    """Return the cursors of the pages beside this one.

    `further` is set instead of the next one if the search ended before this page was full.
    """
    full, found = len(page.deliveries) == ROWS, page.deliveries
    onward = page.next if full else None
    begun = found[0].id if found and (before or after) else None
    older, newer = (onward, begun) if after is None else (begun, onward)
    further = (
        None if full or page.next is None else {"before" if after is None else "after": page.next}
    )
    return {"older": older, "newer": newer, "further": further, "paged": bool(before or after)}


def _counts(tx: Tx, chosen: Mapping[str, str]) -> dict[str, str]:
    """Return how many deliveries each status has; nothing if an index does not count them."""
    others = {**chosen, "state": "", "verdict": "", "overwritten": ""}
    counts: dict[str, str] = {}
    if _filter(others).has_index:
        for word, sets in STATUSES:
            wanted = replace(_filter({**others, **sets}), limit=MAX_COUNTED)
            count, more = count_deliveries(tx, wanted)
            counts[word] = f"{count}+" if more else str(count)
    return counts


def _filter(
    chosen: Mapping[str, str], before: str | None = None, after: str | None = None
) -> Filter:
    hours = SINCE.get(chosen["since"])
    since = None if hours is None else time.time_ns() // 1_000_000 - hours * HOUR_MS
    if chosen["day"]:  # by id, as the chart of days counts: rows of later days are not read
        since = int(datetime.fromisoformat(chosen["day"]).replace(tzinfo=UTC).timestamp() * 1000)
        end = first_id(DELIVERY, since + DAY_MS)
        before = end if before is None else min(before, end)
    words: dict[str, object] = {
        name: value for name, value in chosen.items() if value and name not in {"day", "since"}
    }
    words["overwritten"] = bool(chosen["overwritten"])
    bounds = {"since": since, "before": before, "after": after, "limit": ROWS}
    return msgspec.convert({**words, **bounds}, Filter)


# The page of one delivery.


async def show_delivery(service: Service, request: Request, session: Session) -> Response:
    """Show the history of one delivery, and what to do now."""
    identity = short_text(request.path_params["id"])
    row = await service.ledger.read(lambda tx: delivery_detail(tx, identity))
    if row is None:
        return failure(request, 404, "There is no such delivery.", _NOT_THERE)
    own = [rule for rule in service.settings.rules if rule.repository == row.repository]
    held = any(one.held_back for one in row.registrations)
    room: dict[str, str] = {}
    for registration in row.registrations:
        if registration.reason == Reason.VERSION_LIMIT.value:
            scope = Scope(registration.app, most=1, keep=1)
            old = await prune_preview(service.ledger, service.settings, scope)
            room[registration.id] = old.planned[0].target.version if old.planned else ""
    return await answer_page(
        request, session, "delivery.html",
        row=row, decided=_decided(row.tag, own), room=room,
        result=status_of(row, held=held),
        flow=flow_of(row.tag, row.digest, row.registrations, own, held=held),
        digest=next((one.digest for one in row.registrations if one.digest), row.digest),
        urgent=[one for one in row.registrations if one.state is not State.DONE or one.overwritten],
        found=_in_all([one.notes for one in row.registrations if one.mode is not Mode.TRIAL]),
    )  # fmt: skip


_NOT_THERE = "It may have been purged by age, or the address is wrong."


class Decided(msgspec.Struct, frozen=True):
    """A rule of the repository, and whether it matches the tag."""

    rule: str
    app: str
    takes: bool
    why: str


def _decided(tag: str | None, own: Sequence[Rule]) -> list[Decided]:
    if tag is None:
        return [Decided(rule.name, rule.app, takes=False, why="") for rule in own]
    return [
        Decided(rule.name, rule.app, takes(rule, tag), rule.tags.why_not(tag) or "") for rule in own
    ]


def _in_all(notes: Sequence[Sequence[str]]) -> list[str]:
    """Return the notes that each registration has: they are of the image."""
    return [note for note in notes[0] if all(note in each for each in notes)] if notes else []

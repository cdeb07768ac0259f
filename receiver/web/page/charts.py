"""Two charts, with the same information as text: deliveries by day, and push to version."""

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from statistics import median

import msgspec
from markupsafe import Markup

from receiver.ledger.stats import Day, PushDuration, Settled, count_days, last_times, read_days
from receiver.ledger.transaction import Tx
from receiver.timestamps import duration
from receiver.web.page.flow import colour_of

TALL = 100
MIN_PART = 3  # the smallest part that can still be seen
STEP, WIDE = 8, 6
MIN_BARS = 30  # a few times are bars of the usual width, not blocks
SLOWEST_NAMED = 3
COUNTED_FOR_SECONDS = 3600.0
PARTS = ("done", "overwritten", "queued", "waiting", "parked", "ignored", "refused")
LABELLED_EVERY = 7  # days

_SVG = Markup('<svg class="picture" viewBox="0 0 {} {}" {} preserveAspectRatio="none">{}</svg>')
_HIDDEN = Markup('aria-hidden="true"')
_NAMED = Markup('role="img" aria-label="{}"')
_RECT = Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}">{}</rect>')
_TITLE = Markup("<title>{}</title>")
_LINE = Markup('<line class="{}" x1="0" x2="{}" y1="{}" y2="{}"></line>')


class DayCounts:
    """Reads what the charts show; the days that are over are counted once an hour."""

    def __init__(self) -> None:
        self._known: dict[int, Settled] = {}
        self._counted_at = -math.inf

    def read(self, tx: Tx) -> tuple[list[Day], list[PushDuration]]:
        """Return the last days, and how long the last versions took."""
        now = time.monotonic()
        known = self._known if now - self._counted_at < COUNTED_FOR_SECONDS else {}
        if not known:
            self._counted_at = now
        counts = count_days(tx, known)
        today = max(counts)
        self._known = {start: one for start, one in counts.items() if start != today}
        return read_days(tx, counts), last_times(tx)


class Bar(msgspec.Struct, frozen=True):
    """A day of the chart: its date as in the filter, its counts in words, and its picture.

    `total` deliveries; `label` is the date for the axis, empty for most days.
    """

    date: str
    words: str
    total: int
    picture: Markup
    label: str


class DaysChart(msgspec.Struct, frozen=True):
    """The chart of deliveries by day. `most`: of the busiest day. `totals`: by part."""

    bars: tuple[Bar, ...]
    most: int
    totals: tuple[tuple[str, int], ...]


def chart_of_days(days: Sequence[Day]) -> DaysChart:
    """Draw the days, the oldest on the left, each stacked by what its deliveries led to."""
    counted = [{part: int(getattr(day, part)) for part in PARTS} for day in days]
    most = max((sum(parts.values()) for parts in counted), default=0)
    bars = tuple(
        Bar(
            date=f"{moment:%Y-%m-%d}",
            words=f"{_date(moment)}: {_words(parts.items()) or 'none'}",
            total=sum(parts.values()),
            picture=_stacked(parts, most),
            label=_date(moment) if from_newest % LABELLED_EVERY == 0 else "",
        )
        for day, parts, from_newest in zip(days, counted, range(len(days) - 1, -1, -1), strict=True)
        for moment in (datetime.fromtimestamp(day.start / 1000, UTC),)
    )
    totals = ((part, sum(parts[part] for parts in counted)) for part in PARTS)
    return DaysChart(bars, most, tuple((part, many) for part, many in totals if many))


def _date(moment: datetime) -> str:
    return f"{moment.day} {moment:%b}"


def _words(parts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{many} {part}" for part, many in parts if many)


def _stacked(parts: Mapping[str, int], most: int) -> Markup:
    """Draw one day; each part can be seen, and all parts fit."""
    scaled = {part: max(MIN_PART, many * TALL // most) for part, many in parts.items() if many}
    if scaled and (over := sum(scaled.values()) - TALL) > 0:
        scaled[max(scaled, key=lambda part: scaled[part])] -= over
    drawn, bottom = [], TALL
    for part, height in scaled.items():
        bottom -= height
        drawn.append(_RECT.format(colour_of(part), 0, bottom, WIDE, height, ""))
    return _SVG.format(WIDE, TALL, _HIDDEN, Markup("").join(drawn))


class TimesChart(msgspec.Struct, frozen=True):
    """The chart of the times from push to version (ms). `slowest`: those above the 95 %."""

    picture: Markup
    words: str
    top: int
    slowest: tuple[PushDuration, ...]


def chart_of_times(newest_first: Sequence[PushDuration]) -> TimesChart | None:
    """Draw the times, oldest on the left, with lines at the median and at the 95th percentile.

    Bars end at twice the 95th percentile, so that one slow version does not flatten all others.
    None if there are no times.
    """
    if not newest_first:
        return None
    took = [max(1, one.milliseconds) for one in reversed(newest_first)]
    middle, high = int(median(took)), sorted(took)[math.ceil(len(took) * 0.95) - 1]
    top = min(max(took), 2 * high)
    wide = max(MIN_BARS, len(took)) * STEP - (STEP - WIDE)
    first = max(0, MIN_BARS - len(took))
    drawn = [_bar(place, one, top) for place, one in enumerate(took, first)]
    drawn += [
        _LINE.format(name, wide, TALL - _height(value, top), TALL - _height(value, top))
        for name, value in (("median", middle), ("high", high))
    ]
    words = (
        f"median {duration(middle)} (line), 95 % within {duration(high)} (dashed line), "
        f"at most {duration(max(took))}"
    )
    slow = sorted(newest_first, key=lambda one: one.milliseconds, reverse=True)
    slowest = tuple(one for one in slow[:SLOWEST_NAMED] if one.milliseconds > high)
    picture = _SVG.format(wide, TALL, _NAMED.format(words), Markup("").join(drawn))
    return TimesChart(picture, words, top, slowest)


def _bar(place: int, milliseconds: int, top: int) -> Markup:
    height = _height(milliseconds, top)
    colour = "wait" if milliseconds > top else "time"
    title = _TITLE.format(duration(milliseconds))
    return _RECT.format(colour, place * STEP, TALL - height, WIDE, height, title)


def _height(milliseconds: int, top: int) -> int:
    return min(TALL, max(MIN_PART, milliseconds * TALL // top))

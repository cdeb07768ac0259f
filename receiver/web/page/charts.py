"""Two small SVG charts, with the same information as text."""

from collections import Counter
from collections.abc import Sequence
from statistics import median

from markupsafe import Markup

from receiver.ledger.views import RecentRegistration
from receiver.reasons import Outcome
from receiver.timestamps import duration
from receiver.web.page.flow import colour_of

PLACES = 50
STEP, WIDE, TALL = 8, 6, 56
LEAST = 3  # the smallest bar that can still be seen
MADE = frozenset({Outcome.CREATED, Outcome.UPDATED})
SHAPES = {"good": 1.0, "calm": 0.35, "busy": 0.5, "wait": 0.65, "bad": 0.85}

_SVG = Markup(
    '<svg class="picture" viewBox="0 0 {} {}" role="img" aria-label="{}"'
    ' preserveAspectRatio="none">{}</svg>'
)
_BAR = Markup(
    '<rect class="{}" x="{}" y="{}" width="{}" height="{}" rx="1.5"><title>{}</title></rect>'
)
_GROUND = Markup('<rect class="ground" x="{}" y="{}" width="{}" height="2" rx="1"></rect>')


def last_registrations(newest_first: Sequence[RecentRegistration]) -> Markup:
    """Draw the last registrations, oldest on the left; height and colour show the result."""
    rows = list(reversed(newest_first[:PLACES]))
    bars = []
    for position, row in enumerate(rows, PLACES - len(rows)):
        colour = colour_of(row.outcome or row.state)
        title = f"{row.app}/{row.version}: {standing(row)}"
        bars.append(_bar(colour, position, SHAPES[colour], title))
    return _drawn(bars, len(rows), said_of(rows))


def said_of(rows: Sequence[RecentRegistration]) -> str:
    """Return the chart of registrations as text."""
    if not rows:
        return "No registrations yet."
    counted = Counter(row.outcome or row.state for row in rows)
    return ", ".join(f"{count} {word}" for word, count in counted.most_common())


def push_to_version(newest_first: Sequence[RecentRegistration]) -> Markup:
    """Draw the time from push to version of the last pushes, oldest on the left."""
    took = list(reversed(durations(newest_first)))
    longest = max(took, default=0) or 1
    bars = [
        _bar("time", position, milliseconds / longest, duration(milliseconds))
        for position, milliseconds in enumerate(took, PLACES - len(took))
    ]
    return _drawn(bars, len(took), said_of_times(took))


def said_of_times(took: Sequence[int]) -> str:
    """Return the chart of times as text."""
    if not took:
        return "No version created yet."
    return f"median {duration(int(median(took)))}, at most {duration(max(took))}"


def durations(rows: Sequence[RecentRegistration]) -> list[int]:
    """Return the milliseconds from push to version, for created and updated versions."""
    return [
        max(0, row.finished_at - row.created_at)
        for row in rows[:PLACES]
        if row.outcome in MADE and row.finished_at is not None
    ]


def standing(row: RecentRegistration) -> str:
    """Return the state, and the outcome or reason."""
    detail = row.outcome or row.reason
    return f"{row.state} {detail}" if detail else row.state.value


def _bar(colour: str, position: int, share: float, title: str) -> Markup:
    height = max(LEAST, round(share * TALL))
    return _BAR.format(colour, position * STEP, TALL - height, WIDE, height, title)


def _drawn(bars: Sequence[Markup], filled: int, said: str) -> Markup:
    ground = [
        _GROUND.format(position * STEP, TALL - 2, WIDE) for position in range(PLACES - filled)
    ]
    return _SVG.format(PLACES * STEP - (STEP - WIDE), TALL, said, Markup("").join([*ground, *bars]))

"""The one table: for each thing measured its median, its ratio, and the goal it is held to."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Line:
    """One line. `ratio` is to what `against` names; `goal` is what the ratio or value must meet."""

    what: str
    value: str
    ratio: float | None = None
    against: str = ""
    goal: str = ""
    met: bool | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the table."""

    title: str
    lines: tuple[Line, ...]


def turned(compared: Sequence[T], turn: int) -> list[T]:
    """What is compared, in the order of this round: another one goes first in each."""
    first = turn % len(compared)
    return [*compared[first:], *compared[:first]]


def median(figures: Iterable[float]) -> float:
    """Return the median."""
    return statistics.median(list(figures))


def ratio_in_rounds(ours: Sequence[float], others: Sequence[float]) -> float:
    """The median of the ratios of each round: what hits a round hits both in it."""
    return median(mine / other for mine, other in zip(ours, others, strict=True))


def at_least(what: str, value: str, ratio: float, against: str, goal: float | None = None) -> Line:
    """A line whose ratio should be large."""
    if goal is None:
        return Line(what, value, ratio, against)
    return Line(what, value, ratio, against, f"≥ {goal:g} x", ratio >= goal)


def at_most(what: str, value: str, ratio: float, against: str, goal: float | None = None) -> Line:
    """A line whose ratio should be small."""
    if goal is None:
        return Line(what, value, ratio, against)
    return Line(what, value, ratio, against, f"≤ {goal:g} x", ratio <= goal)


def under(what: str, value: float, unit: str, goal: float | None = None) -> Line:
    """A line whose value should be small."""
    answer = f"{value:,.3g} {unit}" if value < 100 else f"{value:,.0f} {unit}"
    if goal is None:
        return Line(what, answer)
    return Line(what, answer, goal=f"< {goal:g} {unit}", met=value < goal)


def as_text(parts: Iterable[Part]) -> str:
    """Return the table as text."""
    rows = [f"{'':44}{'median':>16}  {'ratio':<34}{'goal':<14}"]
    for part in parts:
        rows += ["", part.title]
        for line in part.lines:
            ratio = f"{line.ratio:.2f} x {line.against}" if line.ratio is not None else ""
            verdict = {None: "", True: "met", False: "NOT MET"}[line.met]
            rows.append(f"  {line.what:42}{line.value:>16}  {ratio:<34}{line.goal:<14}{verdict}")
    return "\n".join(row.rstrip() for row in rows)

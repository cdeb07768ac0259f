"""Tag filters of rules and channels: globs, or a range of semantic versions.

Ranges are read as npm reads them (github.com/npm/node-semver#ranges); in addition `,` may separate
bounds, and there is `!=`. No regular expressions.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase

import msgspec

from receiver.errors import BadTagPattern

LATEST = "latest"
MAX_PATTERN = 128
MAX_RANGE = 256
FULL = 3  # numbers of a semantic version
BEYOND_ALL = 10**9

_GLOB = re.compile(r"!?[A-Za-z0-9_.*?-]+", re.ASCII)
_PART = r"(?:0|[1-9]\d{0,8})"
IDENTIFIERS = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_VERSION = re.compile(
    rf"v?(?P<numbers>{_PART}(?:\.{_PART}){{2}})(?:-(?P<prerelease>{IDENTIFIERS}))?", re.ASCII
)
_BOUND = re.compile(
    r"(?P<operator>>=|<=|!=|==|=|>|<|~>|~|\^)?v?"
    r"(?P<numbers>(?:\d{1,9}|[xX*])(?:\.(?:\d{1,9}|[xX*])){0,2})"
    rf"(?:-(?P<prerelease>{IDENTIFIERS}))?",
    re.ASCII,
)
_OPERATOR_AND_SPACE = re.compile(r"([<>=!~^])\s+")
_BETWEEN = re.compile(r"(\S+)\s+-\s+(\S+)")
WRITE = 'write for instance semver = ">=1.2 <2", "1.x", "^1.2" or "~1.2"'

# A number is lower than a text: the first item is 0 for a number, 1 for a text.
Piece = tuple[int, int, str]

# The sort key of a version: its numbers, whether it is a release, its prerelease identifiers.
Place = tuple[tuple[int, ...], bool, tuple[Piece, ...]]
_FIRST_AFTER: Piece = (-1, 0, "")  # lower than any identifier


class Globs(msgspec.Struct, frozen=True):
    """Globs over the whole tag; `*` and `?` only. No positive glob: all tags but `latest`."""

    positive: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()

    def takes(self, tag: str) -> bool:
        """Return whether the tag matches; `latest` matches only if it is listed."""
        if tag == LATEST and LATEST not in self.positive:
            return False
        if any(fnmatchcase(tag, glob) for glob in self.negative):
            return False
        return not self.positive or any(fnmatchcase(tag, glob) for glob in self.positive)

    def lists(self, tag: str) -> bool:
        """Return whether a glob with more than wildcards matches the tag: it is listed."""
        return any(glob.strip("*?") and fnmatchcase(tag, glob) for glob in self.positive)

    def why_not(self, tag: str) -> str | None:
        """Return which pattern excludes the tag; None if the tag matches."""
        if self.takes(tag):
            return None
        excluding = next((glob for glob in self.negative if fnmatchcase(tag, glob)), None)
        if excluding is not None:
            return f"it is excluded by !{excluding}"
        if tag == LATEST:
            return "`latest` matches only if it is listed"
        return f"it matches none of {', '.join(self.positive)}"


class Interval(msgspec.Struct, frozen=True):
    """Versions from `low` up to, not including, `high`; None is unbounded. `outside`: all others.

    `named` are the numbers of a bound with a prerelease: prereleases of these numbers match even
    without `prerelease = true`.
    """

    low: Place | None = None
    high: Place | None = None
    named: tuple[int, ...] | None = None
    outside: bool = False

    def contains(self, place: Place) -> bool:
        """Return whether the interval contains a version."""
        above = self.low is None or place >= self.low
        below = self.high is None or place < self.high
        return (above and below) is not self.outside


@dataclass(frozen=True, slots=True)
class SemverRange:
    """Tags that are semantic versions (`1.2.3`, `v1.2.3-rc.1`) within all intervals of a set."""

    any_of: tuple[tuple[Interval, ...], ...]
    prerelease: bool = False
    text: str = field(default="", compare=False)  # as it is written

    def takes(self, tag: str) -> bool:
        """Return whether the tag is a version within the range."""
        version = _VERSION.fullmatch(tag)
        if version is None:
            return False
        place = _place(_numbers(version["numbers"]), version["prerelease"])
        return any(self._takes(intervals, place) for intervals in self.any_of)

    def _takes(self, intervals: Sequence[Interval], place: Place) -> bool:
        numbers, released, _ = place
        asked_for = (
            released or self.prerelease or any(interval.named == numbers for interval in intervals)
        )
        return asked_for and all(interval.contains(place) for interval in intervals)

    def why_not(self, tag: str) -> str | None:
        """Return why the tag is not in the range; None if it is."""
        if self.takes(tag):
            return None
        version = _VERSION.fullmatch(tag)
        if version is None:
            return "it is not a version number such as 1.2.3, and the rule has a version range"
        if replace(self, prerelease=True).takes(tag):
            return "it is a pre-release, which only prerelease = true includes"
        return f"it is outside the range {self.text}"


TagPattern = Globs | SemverRange


def may_overlap(first: TagPattern, second: TagPattern) -> bool:
    """Return whether a tag may match both, judged by the characters before `*` and `?`."""
    if not isinstance(first, Globs) or not isinstance(second, Globs):
        return True
    if not first.positive or not second.positive:
        return True
    return any(
        _may_match_the_same(glob, other) for glob in first.positive for other in second.positive
    )


def _may_match_the_same(first: str, second: str) -> bool:
    for exact, glob in ((first, second), (second, first)):
        if not set(exact) & set("*?"):
            return fnmatchcase(exact, glob)
    heads = [re.split(r"[*?]", glob, maxsplit=1)[0] for glob in (first, second)]
    return heads[0].startswith(heads[1]) or heads[1].startswith(heads[0])


def parse_tag_pattern(value: object) -> TagPattern:
    """Read `tags`: a list of globs, or { semver = ">=1.2", prerelease = false }.

    Raises BadTagPattern with the error.
    """
    if isinstance(value, str):
        value = [value]
    if isinstance(value, Sequence):
        return _parse_globs(value)
    if isinstance(value, Mapping):
        return _parse_range(value)
    raise BadTagPattern('is neither a list of globs nor { semver = ">=1.2" }')


def _parse_globs(globs: Sequence[object]) -> Globs:
    for glob in globs:
        if not isinstance(glob, str) or len(glob) > MAX_PATTERN or not _GLOB.fullmatch(glob):
            raise BadTagPattern(f"{glob!r} is not a glob: letters, digits and _ . - with * and ?")
    texts = [glob for glob in globs if isinstance(glob, str)]
    return Globs(
        positive=tuple(glob for glob in texts if not glob.startswith("!")),
        negative=tuple(glob.removeprefix("!") for glob in texts if glob.startswith("!")),
    )


def _parse_range(table: Mapping[str, object]) -> SemverRange:
    unknown = sorted(set(table) - {"semver", "prerelease"})
    if unknown:
        raise BadTagPattern(f"has the unknown key {unknown[0]!r}; there are semver and prerelease")
    text, prerelease = table.get("semver"), table.get("prerelease", False)
    if not isinstance(text, str) or not isinstance(prerelease, bool):
        raise BadTagPattern("needs semver as text and prerelease as true or false")
    if len(text) > MAX_RANGE:
        raise BadTagPattern(f"is not a range: it is longer than {MAX_RANGE} characters; {WRITE}")
    any_of = tuple(_parse_set(part) for part in text.split("||"))
    return SemverRange(any_of, prerelease, text.strip())


def _parse_set(text: str) -> tuple[Interval, ...]:
    between = _BETWEEN.fullmatch(text.strip())
    if between is not None:  # 1.2 - 2.3
        return _interval(f">={between[1]}"), _interval(f"<={between[2]}")
    parts = re.split(r"\s*,\s*|\s+", _OPERATOR_AND_SPACE.sub(r"\1", text.strip()))
    return tuple(_interval(part) for part in parts)


def _interval(text: str) -> Interval:
    """Read one bound: the interval of its version, or everything on one side of it."""
    found = _BOUND.fullmatch(text)
    if found is None:
        raise BadTagPattern(f"{text!r} is not a bound: {WRITE}")
    given = _numbers(found["numbers"])
    whole, prerelease = len(given) == FULL, found["prerelease"]
    if prerelease is not None and not whole:
        raise BadTagPattern(f"{text!r} is not a bound: a prerelease needs three numbers before it")
    named = given if prerelease is not None else None
    low: Place | None = _place(given, prerelease) if whole else _first_of(given)
    after = _first_of(_next(given))
    if prerelease is not None:
        after = given, False, (*in_order(prerelease.split(".")), _FIRST_AFTER)
    match found["operator"]:
        case "<":
            return Interval(high=low, named=named)
        case "<=":
            return Interval(high=after if given else None, named=named)
        case ">":
            return Interval(low=after, named=named)
        case ">=":
            return Interval(low=low, named=named)
        case "^":
            after = _first_of(_next(given[: _first_that_counts(given)]))
        case "~" | "~>":
            after = _first_of(_next(given[:2]))
    outside = found["operator"] == "!="
    return Interval(low, after if given else None, named, outside=outside)


def _numbers(text: str) -> tuple[int, ...]:
    """Return the numbers before the first `x` or `*`: 1.x.3 is 1.x."""
    parts = text.split(".")
    known = next((index for index, part in enumerate(parts) if not part.isdigit()), len(parts))
    return tuple(int(part) for part in parts[:known])


def _place(numbers: tuple[int, ...], prerelease: str | None) -> Place:
    return numbers, prerelease is None, in_order(prerelease.split(".") if prerelease else ())


def in_order(texts: Iterable[str]) -> tuple[Piece, ...]:
    """Return the parts of a prerelease as semver.org orders them."""
    return tuple((0, int(text), "") if text.isdigit() else (1, 0, text) for text in texts)


def _first_of(numbers: tuple[int, ...]) -> Place:
    """Return the key before all versions that begin with these numbers, prereleases included."""
    return (*numbers, *[0] * (FULL - len(numbers))), False, ()


def _next(numbers: tuple[int, ...]) -> tuple[int, ...]:
    """Return the next numbers: 1.3 after 1.2; without numbers, a number above all versions."""
    return (*numbers[:-1], numbers[-1] + 1) if numbers else (BEYOND_ALL,)


def _first_that_counts(numbers: tuple[int, ...]) -> int:
    """Return the number of leading numbers that `^` fixes: up to the first that is not 0."""
    counts = (count for count, number in enumerate(numbers, start=1) if number)
    return next(counts, len(numbers))

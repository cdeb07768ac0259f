"""The order of tags that are version numbers; other tags have no order.

Two to four numeric parts, an optional leading `v`, and a prerelease as semver.org orders it
(section 11). A calendar version may end in a time or a count of the day: `2026.01.09-0930` comes
after `2026.01.09`. Build metadata is ignored; a tag cannot contain its `+`, so `_` begins it.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

MOST_PARTS = 4
FIRST_YEAR, LAST_YEAR = 2000, 2099
LAST_MONTH, LAST_DAY = 12, 31

_IDENTIFIERS = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_NUMBER = re.compile(
    rf"[vV]?(?P<parts>\d{{1,18}}(?:\.\d{{1,18}}){{1,3}})(?:-(?P<rest>{_IDENTIFIERS}))?(?:_.*)?",
    re.ASCII,
)
_OF_THE_DAY = re.compile(rf"(?P<number>\d{{1,6}})(?:-(?P<rest>{_IDENTIFIERS}))?", re.ASCII)

# A numeric identifier is lower than a text: the first item is 0 for a number, 1 for a text.
Identifier = tuple[int, int, str]


@dataclass(frozen=True, slots=True, order=True)
class VersionNumber:
    """A version number; it is compared by its fields, in their order.

    `of_the_day` is a calendar version's time or count, -1 without one; `released` is False for a
    prerelease.
    """

    parts: tuple[int, ...]
    of_the_day: int
    released: bool
    prerelease: tuple[Identifier, ...]


@lru_cache(maxsize=4096)
def version_number(tag: str) -> VersionNumber | None:
    """Return the version number of a tag; None for `nightly`, `v2` or `3f9c2e1`."""
    found = _NUMBER.fullmatch(tag)
    if found is None:
        return None
    parts, rest = [int(text) for text in found["parts"].split(".")], found["rest"]
    counted = _OF_THE_DAY.fullmatch(rest) if rest is not None and _is_date(parts) else None
    if counted is not None:
        rest = counted["rest"]
    return VersionNumber(
        parts=tuple(parts + [0] * (MOST_PARTS - len(parts))),
        of_the_day=-1 if counted is None else int(counted["number"]),
        released=rest is None,
        prerelease=() if rest is None else identifiers(rest),
    )


def identifiers(prerelease: str) -> tuple[Identifier, ...]:
    """Return the identifiers of a prerelease such as `rc.1`, as semver.org orders them."""
    return tuple(map(_identifier, prerelease.split(".")))


def _is_date(parts: list[int]) -> bool:
    """Return whether the parts begin with a year and a month, and a day if there is a third."""
    year, month, *more = parts
    return (
        FIRST_YEAR <= year <= LAST_YEAR
        and 1 <= month <= LAST_MONTH
        and (not more or 1 <= more[0] <= LAST_DAY)
    )


def _identifier(text: str) -> Identifier:
    return (0, int(text), "") if text.isdigit() else (1, 0, text)

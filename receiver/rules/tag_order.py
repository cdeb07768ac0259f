"""The order of tags that are version numbers; other tags have no order.

Two to four numeric parts, an optional leading `v`, and a prerelease as semver.org orders it
(section 11), except for numbers within an identifier: `rc10` comes after `rc9`. Python and Maven
write it without the hyphen: `1.2rc1`, `1.2.0.RC1`. The hash of a commit in it is ignored.

A date is a calendar version in each of its spellings: `2026.01.09`, `2026-01-09`, `20260109`. It
may end in a time or a count of the day: `2026.01.09-0930` comes after `2026.01.09`. Build metadata
is ignored; a tag cannot contain its `+`, so `_` begins it.
"""

import re
from functools import lru_cache

import msgspec

MOST_PARTS = 4
FIRST_YEAR, LAST_YEAR = 2000, 2099
LAST_MONTH, LAST_DAY = 12, 31

_IDENTIFIERS = r"[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*"
_UNHYPHENATED = (
    r"(?i:(?:alpha|beta|rc|cr|pre|preview|dev|snapshot)(?![a-z])|[abcm]\d{1,3}(?![\da-z]))"
)
_REST = rf"(?:(?:-|\.?(?={_UNHYPHENATED}))(?P<rest>{_IDENTIFIERS}))?(?:_.*)?"
_NUMBER = re.compile(rf"[vV]?(?P<parts>\d{{1,18}}(?:\.\d{{1,18}}){{1,3}}){_REST}", re.ASCII)
_DATE = re.compile(
    r"[vV]?(?:(?P<compact>\d{8})(?P<clock>\d{4}(?:\d{2})?)?"
    r"|(?P<date>\d{4}(?P<between>[-_])\d{1,2}(?P=between)\d{1,2}))"
    rf"(?:[Tt](?P<time>\d{{4}}(?:\d{{2}})?))?(?:\.(?P<count>\d{{1,18}}))?{_REST}",
    re.ASCII,
)
_OF_THE_DAY = re.compile(rf"(?P<number>\d{{1,6}})(?:-(?P<rest>{_IDENTIFIERS}))?", re.ASCII)
_COMMIT = re.compile(
    r"(?:^|-)(?:g[0-9a-f]{3,40}|(?=[a-f]*[0-9])(?=[0-9]*[a-f])[0-9a-f]{7,40})\Z", re.ASCII
)
_PIECES = re.compile(r"\d+|\D+", re.ASCII)

# A number is lower than a text: the first item is 0 for a number, 1 for a text.
Piece = tuple[int, int, str]


class VersionNumber(msgspec.Struct, frozen=True, order=True):
    """A version number; it is compared by its fields, in their order.

    `of_the_day` is a calendar version's time or count, -1 without one; `released` is False for a
    prerelease. `prerelease` holds the numbers and texts of each identifier.
    """

    parts: tuple[int, ...]
    of_the_day: int
    released: bool
    prerelease: tuple[tuple[Piece, ...], ...]


@lru_cache(maxsize=4096)
def version_number(tag: str) -> VersionNumber | None:
    """Return the version number of a tag; None for `nightly`, `v2` or `3f9c2e1`."""
    return _date(tag) or _number(tag)


def _number(tag: str) -> VersionNumber | None:
    found = _NUMBER.fullmatch(tag)
    if found is None:
        return None
    parts = [int(text) for text in found["parts"].split(".")]
    return _version(parts, None, found["rest"], calendar=_is_date(parts))


def _date(tag: str) -> VersionNumber | None:
    """Return the calendar version of a tag that has a date without dots."""
    found = _DATE.fullmatch(tag)
    if found is None:
        return None
    compact = found["compact"]
    texts = [compact[:4], compact[4:6], compact[6:]] if compact else re.split("[-_]", found["date"])
    parts = [int(text) for text in texts]
    if not _is_date(parts):
        return None
    count = [] if found["count"] is None else [int(found["count"])]
    return _version(parts + count, found["clock"] or found["time"], found["rest"], calendar=True)


def _version(
    parts: list[int], time: str | None, rest: str | None, *, calendar: bool
) -> VersionNumber:
    if calendar and time is None and rest is not None:
        counted = _OF_THE_DAY.fullmatch(rest)
        if counted is not None:
            time, rest = counted["number"], counted["rest"]
    return VersionNumber(
        parts=tuple(parts + [0] * (MOST_PARTS - len(parts))),
        of_the_day=-1 if time is None else int(time),
        released=rest is None,
        prerelease=() if rest is None else tuple(map(_pieces, rest.split("."))),
    )


def _is_date(parts: list[int]) -> bool:
    """Return whether the parts begin with a year and a month, and a day if there is a third."""
    year, month, *more = parts
    return (
        FIRST_YEAR <= year <= LAST_YEAR
        and 1 <= month <= LAST_MONTH
        and (not more or 1 <= more[0] <= LAST_DAY)
    )


def _pieces(identifier: str) -> tuple[Piece, ...]:
    """Return the numbers and texts of an identifier, without the hash of a commit at its end."""
    return tuple(
        (0, int(text), "") if text.isdigit() else (1, 0, text)
        for text in _PIECES.findall(_COMMIT.sub("", identifier))
    )

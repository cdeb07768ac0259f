"""Which tags a rule takes: globs, or a range of semantic versions. No regular expressions."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from receiver.errors import BadTagPattern

LATEST = "latest"
MAX_PATTERN = 128

_GLOB = re.compile(r"!?[A-Za-z0-9_.*?-]+", re.ASCII)
_VERSION = re.compile(
    r"v?(?P<numbers>(?:0|[1-9]\d{0,8})(?:\.(?:0|[1-9]\d{0,8})){2})"
    r"(?:-(?P<prerelease>[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?",
    re.ASCII,
)
_BOUND = re.compile(
    r"(?P<operator>>=|<=|!=|==|=|>|<)v?(?P<numbers>\d{1,9}(?:\.\d{1,9}){0,2})", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Globs:
    """Globs over the whole tag; `*` and `?` only. No positive one means every tag but `latest`."""

    positive: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()

    def takes(self, tag: str) -> bool:
        """Tell whether the tag is one of these; `latest` only where it is written out."""
        if tag == LATEST and LATEST not in self.positive:
            return False
        if any(fnmatchcase(tag, glob) for glob in self.negative):
            return False
        return not self.positive or any(fnmatchcase(tag, glob) for glob in self.positive)

    def why_not(self, tag: str) -> str | None:
        """Say which pattern keeps the tag out; None if it is taken."""
        if self.takes(tag):
            return None
        excluding = next((glob for glob in self.negative if fnmatchcase(tag, glob)), None)
        if excluding is not None:
            return f"it is excluded by !{excluding}"
        if tag == LATEST:
            return "`latest` is taken only if it is written out"
        return f"it matches none of {', '.join(self.positive)}"


@dataclass(frozen=True, slots=True)
class SemverRange:
    """Tags that are semantic versions (`1.2.3`, `v1.2.3-rc.1`) within all bounds."""

    bounds: tuple[tuple[str, tuple[int, int, int]], ...]
    prerelease: bool = False
    text: str = field(default="", compare=False)  # as it is written

    def takes(self, tag: str) -> bool:
        """Tell whether the tag is a version within the bounds; semver.org's order, section 11."""
        version = _VERSION.fullmatch(tag)
        if version is None:
            return False
        if version["prerelease"] is not None and not self.prerelease:
            return False
        numbers = _numbers(version["numbers"])
        before = version["prerelease"] is not None  # 1.2.0-rc.1 stands before 1.2.0
        return all(_holds(operator, numbers, before, bound) for operator, bound in self.bounds)

    def why_not(self, tag: str) -> str | None:
        """Say why the tag is not one of the range's versions; None if it is taken."""
        if self.takes(tag):
            return None
        version = _VERSION.fullmatch(tag)
        if version is None:
            return "it is not a version number such as 1.2.3, and the rule takes a range of those"
        if version["prerelease"] is not None and not self.prerelease:
            return "it is a pre-release, which prerelease = true would take"
        return f"it is outside of the range {self.text}"


TagPattern = Globs | SemverRange


def may_take_the_same(one: TagPattern, other: TagPattern) -> bool:
    """Return whether a tag may be taken by both, as far as the letters before `*` and `?` say."""
    if not isinstance(one, Globs) or not isinstance(other, Globs):
        return True
    if not one.positive or not other.positive:
        return True
    return any(
        _may_match_the_same(first, second) for first in one.positive for second in other.positive
    )


def _may_match_the_same(one: str, other: str) -> bool:
    for exact, glob in ((one, other), (other, one)):
        if not set(exact) & set("*?"):
            return fnmatchcase(exact, glob)
    heads = [re.split(r"[*?]", glob, maxsplit=1)[0] for glob in (one, other)]
    return heads[0].startswith(heads[1]) or heads[1].startswith(heads[0])


def parse_tag_pattern(value: object) -> TagPattern:
    """Read a rule's `tags`: a list of globs, or { semver = ">=1.2", prerelease = false }.

    Raises BadTagPattern, saying what is wrong with it.
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
            raise BadTagPattern(f"{glob!r} is no glob: letters, digits and _ . - with * and ?")
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
        raise BadTagPattern("wants semver as text and prerelease as true or false")
    bounds = []
    for part in re.split(r"[,\s]+", re.sub(r"([<>=!])\s+", r"\1", text.strip())):
        bound = _BOUND.fullmatch(part)
        if bound is None:
            raise BadTagPattern(f'{part!r} is no bound: write semver = ">=1.2 <2"')
        bounds.append((bound["operator"], _numbers(bound["numbers"])))
    return SemverRange(bounds=tuple(bounds), prerelease=prerelease, text=text.strip())


def _numbers(text: str) -> tuple[int, int, int]:
    major, minor, patch = (*(int(part) for part in text.split(".")), 0, 0)[:3]
    return major, minor, patch


def _holds(
    operator: str, numbers: tuple[int, int, int], before: bool, bound: tuple[int, int, int]
) -> bool:
    place = (numbers, 0 if before else 1)
    edge = (bound, 1)
    match operator:
        case ">=":
            return place >= edge
        case "<=":
            return place <= edge
        case ">":
            return place > edge
        case "<":
            return place < edge and numbers != bound
        case "!=":
            return place != edge
        case _:
            return place == edge

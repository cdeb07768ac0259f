"""The order of tags that are version numbers."""

from datetime import date
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.rules.tag_order import version_number

# Lowest first; the prereleases are semver.org's own example, section 11.
ORDERED = (
    "0.9", "v1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "v1.0.0-beta.2",
    "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0-rc.2-9-g3f9c2e1", "1.0.0-rc9", "1.0.0-rc10",
    "1.0", "1.0.1", "1.2", "v1.10", "1.10.0.1", "V2.0.0",
    "2026.01.09", "2026.01.09-2", "2026.01.09-0930", "2026.01.09-1530-rc.1", "2026.01.09-1530",
    "2026.1.10-rc.1", "2026.01.10", "20260111", "20260111-2", "202601110930", "2026-01-11T1530",
    "2026-01-12-rc1", "2026-1-12", "20260112.1", "20260112.10", "2026_01_13", "2026-01-14-0930",
    "20260114-1530", "2026.10.09", "2026-11-20", "v20261121", "2027.01",
)  # fmt: skip
NO_NUMBERS = (
    "latest", "nightly", "v2", "17", "3f9c2e1", "sha-1.2.3", "1.2.3.4.5", "1.", "1..2", "v-1.0",
    "1.2-", "1.2-a..b", "release-1.2", "1.x", "2026", "202601", "2026-13-01", "20261301",
    "2026-01_09", "2026-1", "12345678", "20260109T9", "202601091",
    "1.2.x", "1.2.3a", "2026.01.09b", "1.2.3dirty", "1.2.3arm64", "1.2.3previous",
    "1.2.3.b2f9e10", "1.2.3c0ffee",
)  # fmt: skip
UNHYPHENATED = (
    "1.2rc1", "1.2.0a1", "1.2.0b12", "1.2.0.dev3", "1.2.0.M1", "1.2.0.RC1", "v1.2.0beta",
    "1.2.0.0-rc1", "1.2.0SNAPSHOT", "1.2.0rc1-3-g3f9c2e1", "1.2.0rc.1", "1.2.0pre",
)  # fmt: skip


@pytest.mark.parametrize(("lower", "higher"), list(pairwise(ORDERED)))
def test_version_numbers_are_ordered(lower: str, higher: str) -> None:
    first, second = version_number(lower), version_number(higher)

    assert first is not None
    assert second is not None
    assert first < second


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1.2", "v1.2.0"),
        ("1.2.3_build.7", "1.2.3"),
        ("2026.01.09", "2026.1.9"),
        ("01.2", "1.02"),
        ("2026-01-09", "20260109"),
        ("2026-1-9", "2026.01.09"),
        ("20260109-0930", "202601090930"),
        ("1.2.4-9-gabc", "1.2.4-9-gdef"),
        ("1.2.4-3f9c2e1", "1.2.4-0123abc"),
        ("1.2.4rc1", "1.2.4-rc1"),
        ("1.2.4.RC1", "1.2.4-RC1"),
    ],
)
def test_one_version_may_be_written_in_several_ways(one: str, other: str) -> None:
    assert version_number(one) == version_number(other)


@pytest.mark.parametrize("tag", UNHYPHENATED)
def test_a_prerelease_comes_before_its_release_with_or_without_a_hyphen(tag: str) -> None:
    """Without one it was no version number, and moved a channel back by the time of its push."""
    older, found, release = map(version_number, ("1.1.9", tag, "1.2.0"))

    assert older is not None
    assert found is not None
    assert release is not None
    assert older < found < release


@pytest.mark.parametrize("tag", NO_NUMBERS)
def test_any_other_tag_is_no_version_number(tag: str) -> None:
    assert version_number(tag) is None


PARTS = st.lists(st.integers(0, 3000), min_size=2, max_size=4)


@given(PARTS, PARTS)
def test_numbers_are_ordered_as_numbers(one: list[int], other: list[int]) -> None:
    first, second = (version_number(".".join(map(str, parts))) for parts in (one, other))
    padded = [[*parts, 0, 0][:4] for parts in (one, other)]

    assert first is not None
    assert second is not None
    assert (first < second) is (padded[0] < padded[1])


@given(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}", fullmatch=True))
def test_any_tag_is_ordered_or_not_without_an_error(tag: str) -> None:
    found = version_number(tag)

    assert found is None or len(found.parts) == 4


TEXT = st.text("0123456789abgrcT", min_size=1, max_size=4)
PRERELEASES = st.lists(TEXT, max_size=2).map(".".join)
DATES = st.dates(min_value=date(2025, 12, 30), max_value=date(2026, 1, 3))
TAGS = st.one_of(
    st.builds(
        lambda parts, rest: ".".join(map(str, parts)) + (f"-{rest}" if rest else ""),
        st.lists(st.integers(0, 11), min_size=2, max_size=4),
        PRERELEASES,
    ),
    st.builds(
        lambda day, form, rest: day.strftime(form) + (f"-{rest}" if rest else ""),
        DATES,
        st.sampled_from(["%Y-%m-%d", "%Y%m%d", "%Y.%m.%d", "%Y_%m_%d", "%Y%m%d0930"]),
        PRERELEASES,
    ),
)


@given(TAGS, TAGS, TAGS)
def test_any_version_numbers_have_one_order(one: str, other: str, third: str) -> None:
    first, second, last = map(version_number, (one, other, third))
    assert first is not None
    assert second is not None
    assert last is not None

    assert [first < second, first == second, first > second].count(True) == 1
    assert (first < second) is (second > first)
    low, middle, high = sorted([first, second, last])
    assert low <= middle <= high
    assert low <= high


@given(DATES, DATES, st.sampled_from(["%Y-%m-%d", "%Y%m%d", "%Y.%m.%d", "%Y_%m_%d"]))
def test_dates_are_ordered_by_time(one: date, other: date, form: str) -> None:
    first, second = version_number(one.strftime(form)), version_number(other.strftime("%Y%m%d"))

    assert first is not None
    assert second is not None
    assert ((first < second), (first == second)) == ((one < other), (one == other))


@given(st.integers(0, 200), st.integers(0, 200), st.sampled_from(["rc{}", "{}-gabc", "b{}.1"]))
def test_numbers_in_an_identifier_are_ordered_as_numbers(one: int, other: int, form: str) -> None:
    first, second = (version_number(f"1.0.0-{form.format(one)}") for one in (one, other))

    assert first is not None
    assert second is not None
    assert (first < second) is (one < other)

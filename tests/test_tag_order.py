"""The order of tags that are version numbers."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.tag_order import version_number

# Lowest first; the prereleases are semver.org's own example, section 11.
ORDERED = (
    "0.9", "v1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "v1.0.0-beta.2",
    "1.0.0-beta.11", "1.0.0-rc.1", "1.0", "1.0.1", "1.2", "v1.10", "1.10.0.1", "V2.0.0",
    "2026.01.09", "2026.01.09-2", "2026.01.09-0930", "2026.01.09-1530-rc.1", "2026.01.09-1530",
    "2026.1.10-rc.1", "2026.01.10", "2026.10.09", "2027.01",
)  # fmt: skip
NO_NUMBERS = (
    "latest", "nightly", "v2", "17", "3f9c2e1", "sha-1.2.3", "1.2.3.4.5", "1.", "1..2", "v-1.0",
    "1.2-", "1.2-a..b", "2026-01-09", "release-1.2", "1.x",
)  # fmt: skip


@pytest.mark.parametrize(("lower", "higher"), list(pairwise(ORDERED)))
def test_version_numbers_are_ordered(lower: str, higher: str) -> None:
    first, second = version_number(lower), version_number(higher)

    assert first is not None
    assert second is not None
    assert first < second


@pytest.mark.parametrize(
    ("one", "other"),
    [("1.2", "v1.2.0"), ("1.2.3_build.7", "1.2.3"), ("2026.01.09", "2026.1.9"), ("01.2", "1.02")],
)
def test_one_version_may_be_written_in_several_ways(one: str, other: str) -> None:
    assert version_number(one) == version_number(other)


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
def test_any_tag_has_a_place_or_none(tag: str) -> None:
    found = version_number(tag)

    assert found is None or len(found.parts) == 4

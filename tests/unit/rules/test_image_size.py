"""Sizes of images, read and written in the units of Docker."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.rules.image_size import SIZE, read_size, size_note, size_text

SIZES = st.integers(1, 2**50)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("4GB", 4_000_000_000),
        ("4 GB", 4_000_000_000),
        (" 4GB ", 4_000_000_000),
        ("1.5GB", 1_500_000_000),
        ("0.001MB", 1000),
        ("800MB", 800_000_000),
        ("999999.999GB", 999_999_999_000_000),
    ],
)
def test_a_size_is_read(text: str, size: int) -> None:
    assert read_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        *("", "4", "GB", "4gb", "4GiB", "4G", "-4GB", "+4GB", "4,5GB", "4.GB", ".5GB", "1e3MB"),
        *("0GB", "0.000MB", "4.0001GB", "1234567MB", "4  GB", "٤GB", "4GB\nx"),
        *(None, 4, 4.0, True, ["4GB"]),
    ],
)
def test_what_is_no_size_is_none(text: object) -> None:
    assert read_size(text) is None


@given(st.from_regex(SIZE, fullmatch=True))
def test_what_the_schema_admits_is_read_unless_it_is_zero(text: str) -> None:
    is_zero = re.search("[1-9]", text) is None
    assert (read_size(text) is None) == is_zero


@given(st.text() | st.from_regex(SIZE))
def test_no_text_breaks_the_reader(text: str) -> None:
    size = read_size(text)
    assert size is None or size > 0


@given(st.integers(1, 999), st.integers(0, 9), st.sampled_from(["MB", "GB"]))
def test_a_size_that_was_read_is_written_as_it_was(whole: int, tenth: int, unit: str) -> None:
    text = f"{whole}.{tenth} {unit}" if tenth and whole < 100 else f"{whole} {unit}"
    size = read_size(text)
    assert size is not None
    assert size_text(size) == text


@given(SIZES, SIZES)
def test_a_larger_size_is_never_written_as_a_smaller_one(one: int, other: int) -> None:
    def shown(size: int) -> float:
        number, unit = size_text(size).split()
        return float(number) * {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[unit]

    low, high = sorted((one, other))
    assert shown(low) <= shown(high)
    assert abs(shown(low) - low) <= 0.051 * low


@given(SIZES, st.none() | st.tuples(st.just("1.4.1"), st.integers(0, 2**50)))
def test_every_size_has_a_note(size: int, before: tuple[str, int] | None) -> None:
    assert size_text(size) in size_note(size, before)


def test_the_note_compares_with_the_version_before() -> None:
    size = 1_904_000_000
    assert size_note(size, None) == "the image has 1.9 GB, compressed"
    assert size_note(size, ("1.4.1", 1_700_000_000)).endswith(", 12 % more than 1.4.1")
    assert size_note(size, ("1.4.1", 3_808_000_000)).endswith(", 50 % less than 1.4.1")
    assert size_note(size, ("1.4.1", size + 1)).endswith(", as 1.4.1 has")

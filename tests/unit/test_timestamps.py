"""How long a response asks to wait, in every form met (RFC 9110, section 10.2.3)."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.timestamps import MAX_WAIT_MS, read_retry_after

NOW = 1_790_000_000_000  # Mon, 21 Sep 2026 14:13:20 GMT
HOUR = 3_600_000
NAMES = ("retry-after", "x-retry-after")


def wait(value: str | None, now: int = NOW) -> int | None:
    return read_retry_after({} if value is None else {"retry-after": value}, now)


@given(st.integers(0, 86_400), st.sampled_from(NAMES))
def test_seconds_to_wait_are_never_fewer_than_said(seconds: int, name: str) -> None:
    assert read_retry_after({name: f" {seconds} "}, NOW) == seconds * 1000


@given(st.integers(0, 86_000), st.sampled_from(NAMES), st.integers(-10 * HOUR, 10 * HOUR))
def test_a_time_to_wait_for_goes_by_the_clock_of_the_response(
    seconds: int, name: str, our_error: int
) -> None:
    sent_at = datetime.fromtimestamp(NOW / 1000, UTC)
    until = sent_at + timedelta(seconds=seconds)
    date = {"date": format_datetime(sent_at, usegmt=True)}
    forms = [
        format_datetime(until, usegmt=True),
        str(int(until.timestamp())),
        str(int(until.timestamp() * 1000)),
    ]

    for form in forms:
        assert read_retry_after({name: form, **date}, NOW + our_error) == seconds * 1000
        assert read_retry_after({name: form}, NOW) == seconds * 1000


@pytest.mark.parametrize(
    ("written", "milliseconds"),
    [
        ("0", 0),
        ("-5", 0),
        ("1.5", 1500),
        ("0.25", 250),
        ("1790000030.5", 30_500),
        ("1789999970", 0),  # a UNIX time that is past
        ("1790000030", 30_000),
        ("1790000030000", 30_000),
        ("Thu, 24 Sep 2020 00:00:00 GMT", 0),
        ("Mon, 21 Sep 2026 14:13:50 GMT", 30_000),
        ("Monday, 21-Sep-26 14:13:50 GMT", 30_000),  # the two old forms of HTTP dates
        ("Mon Sep 21 14:13:50 2026", 30_000),
        ("Mon, 21 Sep 2026 14:13:50 -0000", 30_000),
        ("Mon, 21 Sep 2026 16:13:50 +0200", 30_000),
    ],
)
def test_each_form_is_read(written: str, milliseconds: int) -> None:
    assert wait(written) == milliseconds


@pytest.mark.parametrize("written", ["999999999", "9" * 500, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_no_wait_is_longer_than_a_day(written: str) -> None:
    assert wait(written) == 24 * HOUR


@pytest.mark.parametrize(
    "written",
    [
        None,
        "",
        "soon",
        "--5",
        "1.",
        ".5",
        "1e3",
        "5 s",
        "٣",
        "²",
        "0x10",
        "Mon, 99 Foo 2026",
        "1, 2",
        "\x00",
    ],
)
def test_what_names_no_time_is_none(written: str | None) -> None:
    assert wait(written) is None


def test_the_standard_header_comes_first_if_it_can_be_read() -> None:
    assert read_retry_after({"retry-after": "5", "x-retry-after": "7"}, NOW) == 5000
    assert read_retry_after({"retry-after": "soon", "x-retry-after": "7"}, NOW) == 7000
    assert read_retry_after({"retry-after": "5", "date": "soon"}, NOW) == 5000


def test_the_reset_of_a_used_up_limit_counts_if_nothing_else_can_be_read() -> None:
    reset = {"x-ratelimit-reset": "1790000030"}
    left = {**reset, "x-ratelimit-remaining": "3"}

    assert read_retry_after(reset, NOW) == 30_000
    assert read_retry_after({**reset, "x-ratelimit-remaining": "0"}, NOW) == 30_000
    assert read_retry_after({**reset, "retry-after": "soon"}, NOW) == 30_000
    assert read_retry_after({**reset, "retry-after": "5"}, NOW) == 5000
    assert read_retry_after(left, NOW) is None


ANY_NAME = st.sampled_from([*NAMES, "date", "x-ratelimit-reset", "x-ratelimit-remaining"])
ANY_VALUE = (
    st.text() | st.integers().map(str) | st.floats().map(str) | st.from_regex(r"-?\d*\.?\d*")
)


@given(st.dictionaries(ANY_NAME, ANY_VALUE))
def test_any_headers_are_a_wait_within_a_day_or_none(headers: dict[str, str]) -> None:
    milliseconds = read_retry_after(headers, NOW)

    assert milliseconds is None or 0 <= milliseconds <= MAX_WAIT_MS

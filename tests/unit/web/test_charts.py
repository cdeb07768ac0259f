"""The charts: drawn from plain numbers, whatever they are, with the same as text."""

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.ledger.stats import Day, PushDuration
from receiver.timestamps import duration
from receiver.web.page.charts import (
    MIN_BARS,
    PARTS,
    STEP,
    TALL,
    WIDE,
    chart_of_days,
    chart_of_times,
)

MANY = st.integers(0, 10**6)
DAYS = st.lists(
    st.builds(Day, start=st.integers(0, 2**42), **dict.fromkeys(PARTS, MANY)), max_size=40
)
TIMES = st.lists(
    st.builds(
        PushDuration,
        app=st.text(max_size=5),
        version=st.sampled_from(["1.0.0", "<script>", '"&\u202e', "👩‍🚀"]),
        milliseconds=st.integers(0, 2**42),
        delivery=st.none() | st.just("d0"),
    ),
    max_size=60,
)


def bars(drawn: str) -> list[dict[str, str]]:
    """The bars of a picture, which must be valid XML, within its frame."""
    root = ET.fromstring(drawn)  # noqa: S314
    _, _, wide, tall = map(int, root.attrib["viewBox"].split())
    found = [bar.attrib for bar in root if bar.tag == "rect"]
    for bar in found:
        assert 0 <= int(bar["x"]) <= wide - WIDE
        assert int(bar["height"]) > 0
        assert 0 <= int(bar["y"]) <= tall - int(bar["height"])
    return found


def took(*milliseconds: int) -> list[PushDuration]:
    """The times, the newest first."""
    return [
        PushDuration("my-game", f"1.{place}", one, f"d{place}")
        for place, one in enumerate(milliseconds)
    ]


@given(DAYS)
def test_each_part_of_a_day_can_be_seen_and_a_day_fits_its_frame(days: list[Day]) -> None:
    chart = chart_of_days(days)

    for day, bar in zip(days, chart.bars, strict=True):
        drawn = bars(bar.picture)
        parts = [getattr(day, part) for part in PARTS]
        assert len(drawn) == sum(many > 0 for many in parts)
        assert sum(int(part["height"]) for part in drawn) <= TALL
        assert bar.total == sum(parts) <= chart.most


def test_a_day_is_stacked_in_the_colours_of_the_page_and_says_the_same_in_words() -> None:
    day = Day(1_796_256_000_000, done=4, overwritten=1, waiting=2, parked=3, ignored=5)

    chart = chart_of_days([Day(day.start - 86_400_000), day])

    assert [bar["class"] for bar in bars(chart.bars[1].picture)] == [
        "good", "wait", "wait", "bad", "calm"
    ]  # fmt: skip
    assert chart.bars[1].words == "3 Dec: 4 done, 1 overwritten, 2 waiting, 3 parked, 5 ignored"
    assert chart.bars[1].date == "2026-12-03"
    assert chart.bars[0].words == "2 Dec: none"
    assert chart.most == 15
    assert dict(chart.totals)["parked"] == 3


@given(TIMES)
def test_times_are_drawn_within_their_frame(times: list[PushDuration]) -> None:
    chart = chart_of_times(times)

    assert (chart is None) == (not times)
    if chart is not None:
        assert len(bars(chart.picture)) == len(times)
        assert "<script>" not in chart.picture


def test_the_newest_is_on_the_right_and_few_are_not_drawn_as_blocks() -> None:
    chart = chart_of_times(took(100, 50))

    assert chart is not None
    assert [bar["height"] for bar in bars(chart.picture)] == ["50", "100"]
    end = (MIN_BARS - 1) * STEP
    assert [int(bar["x"]) for bar in bars(chart.picture)] == [end - STEP, end]
    assert f'viewBox="0 0 {end + WIDE} {TALL}"' in chart.picture


def test_a_slow_version_does_not_flatten_the_others_and_is_named() -> None:
    chart = chart_of_times(took(*[1000] * 20, 3_600_000, *[2000] * 20))

    assert chart is not None
    assert chart.top == 4000
    assert {bar["height"] for bar in bars(chart.picture)} == {"25", "50", "100"}
    assert [bar["class"] for bar in bars(chart.picture)].count("wait") == 1
    assert [one.delivery for one in chart.slowest] == ["d20"]
    assert chart.words == "median 2.0 s (line), 95 % within 2.0 s (dashed line), at most 60 min"


@pytest.mark.parametrize(
    ("milliseconds", "answer"),
    [
        (0, "0 ms"), (999, "999 ms"), (1000, "1.0 s"), (9_949, "9.9 s"), (42_000, "42 s"),
        (600_000, "10 min"), (36_000_000, "10 h"), (864_000_000, "10 d"),
    ],
)  # fmt: skip
def test_durations_are_written_in_words(milliseconds: int, answer: str) -> None:
    assert duration(milliseconds) == answer

"""The pictures: drawn from plain numbers, whatever they are."""

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.ledger.views import ReasonWord, RecentRegistration
from receiver.reasons import Outcome, State
from receiver.timestamps import Time, duration
from receiver.web.page.charts import PLACES, TALL, last_registrations, push_to_version

TIMES = st.integers(0, 2**42).map(Time)
ROWS = st.lists(
    st.builds(
        RecentRegistration,
        id=st.just("r0"),
        tag=st.just("1.0.0"),
        app=st.text(max_size=5),
        version=st.sampled_from(["1.0.0", "<script>", '"&\u202e', "👩‍🚀"]),
        state=st.sampled_from(State),
        outcome=st.none() | st.sampled_from(Outcome),
        reason=st.none() | st.just(ReasonWord("name_taken")),
        created_at=TIMES,
        finished_at=st.none() | TIMES,
    ),
    max_size=60,
)


def bars(drawn: str) -> list[dict[str, str]]:
    """The bars of a picture, which must be valid XML; what is no bar is the empty ground."""
    root = ET.fromstring("".join(letter for letter in drawn if letter.isprintable()))  # noqa: S314
    assert root.attrib["aria-label"]
    return [bar.attrib for bar in root if bar.attrib["class"] != "ground"]


@given(rows=ROWS)
def test_a_picture_is_valid_and_within_its_frame(rows: list[RecentRegistration]) -> None:
    for drawn in (last_registrations(rows), push_to_version(rows)):
        found = bars(drawn)
        assert len(found) <= PLACES
        for bar in found:
            assert 0 <= int(bar["x"]) < PLACES * 8
            assert 0 < int(bar["height"]) <= TALL
            assert int(bar["y"]) + int(bar["height"]) == TALL
        assert "<script>" not in drawn


def test_the_newest_stands_on_the_right() -> None:
    def row(state: State, outcome: Outcome | None) -> RecentRegistration:
        return RecentRegistration("r0", "a", "1", "1", state, outcome, None, Time(0), Time(10))

    newest, oldest = row(State.PARKED, None), row(State.DONE, Outcome.CREATED)

    failed = row(State.DONE, Outcome.FAILED)
    drawn = bars(last_registrations([newest, failed, oldest]))
    assert [bar["class"] for bar in drawn] == ["good", "bad", "bad"]


@pytest.mark.parametrize(
    ("milliseconds", "answer"),
    [
        (0, "0 ms"), (999, "999 ms"), (1000, "1.0 s"), (9_949, "9.9 s"), (42_000, "42 s"),
        (600_000, "10 min"), (36_000_000, "10 h"), (864_000_000, "10 d"),
    ],
)  # fmt: skip
def test_durations_are_written_in_words(milliseconds: int, answer: str) -> None:
    assert duration(milliseconds) == answer

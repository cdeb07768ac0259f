"""Ids sort by time, whatever the clock does."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.ledger import ids

NOW = time.time_ns() // 1_000_000


@settings(deadline=None, database=None)
@given(st.lists(st.integers(NOW - 10_000, NOW + 10_000), min_size=2, max_size=50))
def test_ids_sort_by_the_order_in_which_they_were_made_even_if_the_clock_goes_back(
    moments: list[int],
) -> None:
    made = [ids.new_id("d", now) for now in moments]

    assert made == sorted(set(made))
    assert all(len(one) == 19 for one in made)


def test_ids_of_two_processes_sort_by_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    for moment in (NOW, NOW + 1, NOW + 1000, NOW + 10**9):
        monkeypatch.setattr(ids, "_last", 0)  # as in a process that has just begun
        made.append(ids.new_id("d", moment))

    assert made == sorted(made)


@settings(deadline=None, database=None)
@given(
    st.lists(st.tuples(st.integers(NOW - 10_000, NOW + 10_000), st.integers(1, 3000)), max_size=5)
)
def test_many_of_one_time_rise_and_have_one_length(batches: list[tuple[int, int]]) -> None:
    made: list[str] = []
    for now, many in batches:
        made += [ids.new_id("d", now) for _ in range(many)]

    assert made == sorted(set(made))
    assert len(made) == sum(many for _, many in batches)
    assert {len(one) for one in made} <= {19}

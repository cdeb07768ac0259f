"""Lists are read to their end, and no further, whatever they say of themselves."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.edgegap.listing import MAX_PAGES, Listing, Pages, running_in
from receiver.edgegap.responses import Answer

FIVE = [{"name": str(number)} for number in range(5)]


def answer(body: Any, status: int = 200, at: int = 0) -> Answer:
    return Answer("GET", "/v1/app/a/versions", status, body, milliseconds=7, at=at)


def page(rows: Any, number: Any = 1, has_next: Any = True, total: Any = 5) -> dict[str, Any]:
    return {
        "versions": rows,
        "total_count": total,
        "pagination": {"number": number, "has_next": has_next},
    }


def read(*bodies: Any) -> tuple[Listing, int]:
    """The listing of these pages, the last one for ever, and how many were asked for."""
    pages, asked = Pages("versions"), 1
    while pages.take(answer(bodies[min(asked, len(bodies)) - 1], at=asked)):
        asked += 1
    return pages.listing(), asked


def names(listing: Listing) -> str:
    return "".join(str(row["name"]) for row in listing.rows)


@pytest.mark.parametrize("first", [0, 1, "1", 1.0])
def test_a_list_is_read_to_its_last_page(first: Any) -> None:
    start = int(first)
    listing, asked = read(
        page(FIVE[:2], number=first), page(FIVE[2:4], start + 1), page(FIVE[4:], start + 2, False)
    )

    assert (names(listing), asked, listing.complete) == ("01234", 3, True)
    assert listing.answer.message == "3 pages"
    assert (listing.answer.milliseconds, listing.answer.at) == (21, 1)


@pytest.mark.parametrize(
    ("bodies", "found", "asked", "complete"),
    [
        ([page(FIVE)], "01234", 2, True),  # it ignores the page, and has them all
        ([page(FIVE[:2])], "01", 2, False),
        ([page(FIVE[:2], number=0)], "01", 2, False),
        ([page(FIVE[:2], number=None)], "01", 2, False),
        ([page(FIVE[:2]), page(FIVE[2:4], number=1)], "0123", 2, False),  # not what was asked for
        ([page(FIVE[:2], number=7)], "01", 1, False),
        ([page(FIVE[:2], has_next=False)], "01", 1, True),
        ([page(FIVE[:2], has_next=None, total=2)], "01", 1, True),
        ([page(FIVE[:2], 1, None, None), page([], 2, None, None)], "01", 2, True),
        ([page(None)], "", 1, False),
        ([page(None, has_next=False, total=0)], "", 1, True),
        ([page("rows")], "", 1, False),
        ([page([*FIVE[:1], None, {}, {"name": 7}], has_next=False)], "0", 1, True),
        ([{"versions": FIVE, "pagination": None, "total_count": None}], "01234", 2, True),
        ([{"versions": FIVE}], "01234", 2, True),
        ([{}], "", 1, True),
    ],
)
def test_a_list_ends_where_nothing_new_comes(
    bodies: list[Any], found: str, asked: int, *, complete: bool
) -> None:
    listing, times = read(*bodies)

    assert (names(listing), times) == (found, asked)
    if found or complete:
        assert listing.complete is complete


def test_a_page_that_fails_is_the_lists_answer() -> None:
    pages = Pages("versions")

    assert pages.take(answer(page(FIVE[:2])))
    assert not pages.take(answer({"message": "no"}, status=500))

    listing = pages.listing()
    assert listing.answer.status == 500
    assert not listing.complete
    assert names(listing) == "01"


ANY = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
ROWS = st.lists(st.dictionaries(st.just("name"), ANY | st.text()) | ANY, max_size=4) | ANY


@given(st.lists(st.builds(page, ROWS, ANY, ANY, ANY) | st.just({}), min_size=1, max_size=4))
def test_any_pages_end(bodies: list[Any]) -> None:
    listing, asked = read(*bodies)

    assert asked <= min(len(bodies) + 1, MAX_PAGES)
    assert len({row["name"] for row in listing.rows}) == len(listing.rows)


def test_new_names_for_ever_end_too() -> None:
    listing, asked = read(*(page([{"name": str(n)}], number=n + 1, total=999) for n in range(99)))

    assert (asked, listing.complete) == (MAX_PAGES, False)


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ({"data": [], "total_count": 0}, 0),
        ({"data": [{}], "total_count": 0}, 1),
        ({"data": [{}], "total_count": 7}, 7),
        ({"data": [], "total_count": "3"}, 3),
        ({"data": None, "total_count": 0, "pagination": {"has_next": False}}, 0),
        ({"total_count": 2, "pagination": {"has_next": False}}, 2),
        ({"total_count": 0, "pagination": {"has_next": True}}, None),
        ({"total_count": 0}, None),
        ({"data": []}, None),
        ({"data": [], "total_count": False}, None),
        ({"data": [], "total_count": -1}, None),
        ({"data": "x", "total_count": 0}, None),
        ({"data": [], "total_count": 0, "message": ["Unknown field"]}, None),
        ({"success": False, "data": [], "total_count": 0}, None),
    ],
)
def test_how_many_deployments_run_is_known_or_not(body: Any, count: int | None) -> None:
    assert running_in(answer(body)) == count


def test_an_error_does_not_say_how_many_deployments_run() -> None:
    assert running_in(answer({"data": [], "total_count": 0}, status=500)) is None

"""Edgegap's paged lists, and how to detect the last page.

`GET …/versions` documents no `page`, though its answer is paged: a server that ignores it answers
the first page again and again, with `has_next` true for ever.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from receiver.edgegap.fields import flag
from receiver.edgegap.responses import Answer, Body, count_of, is_row

MAX_PAGES = 30


class Listing(msgspec.Struct, frozen=True):
    """The rows of a list, each once; `answer` represents all of its calls.

    `complete` is False if the list itself says that there are more rows.
    """

    rows: tuple[Body, ...]
    answer: Answer
    complete: bool

    @property
    def total(self) -> int:
        """The number of rows; the list's own count if it was not read to its end."""
        if self.complete or self.answer.body is None:
            return len(self.rows)
        return max(len(self.rows), count_of(self.answer.body.get("total_count")) or 0)


class Pages:
    """Collects the pages of one list, with the rows under `key`; `id_field` identifies a row."""

    def __init__(self, key: str, id_field: str = "name") -> None:
        self._key = key
        self._id_field = id_field
        self._rows: dict[str, Body] = {}
        self._answers: list[Answer] = []
        self._first = 1  # how the list numbers its first page
        self._claims_more = False

    def take(self, answer: Answer) -> bool:
        """Take the next page; return whether to ask for the one after it."""
        asked = len(self._answers)
        self._answers.append(answer)
        if not answer.ok or answer.body is None:
            return False
        number = count_of(_pagination(answer.body).get("number"))
        if asked == 0 and number == 0:
            self._first = 0
        before = len(self._rows)
        rows = answer.body.get(self._key)
        for row in rows if isinstance(rows, list) else ():
            if is_row(row, self._id_field):
                self._rows.setdefault(row[self._id_field], row)
        more = _has_more(answer.body, len(self._rows))
        self._claims_more = more is True
        if more is False or len(self._rows) == before or len(self._answers) == MAX_PAGES:
            return False
        return number is None or number == asked + self._first

    def listing(self) -> Listing:
        """Return the rows read so far; if a page failed, `answer` is that response."""
        first, last = self._answers[0], self._answers[-1]
        answer = replace(last, at=first.at, milliseconds=sum(a.milliseconds for a in self._answers))
        if last.ok and len(self._answers) > 1:
            answer = replace(answer, message=f"{len(self._answers)} pages")
        total = count_of((last.body or {}).get("total_count"))
        has_all = not self._claims_more or (total is not None and len(self._rows) >= total)
        return Listing(tuple(self._rows.values()), answer, last.ok and has_all)


def equal_to(**fields: str) -> str:
    """Return the query for the rows of a list whose fields have these values."""
    filters = [{"field": name, "operator": "eq", "value": value} for name, value in fields.items()]
    return json.dumps({"filters": filters})


def running_in(answer: Answer) -> int | None:
    """Return how many deployments the first page of a list names; None if it is not certain.

    The number is not certain if the list has a `message` about the query, which Edgegap may have
    read differently, or if the optional rows are missing and the list does not say that it ends.
    """
    if not answer.ok or answer.body is None or answer.body.get("message"):
        return None
    rows, total = answer.body.get("data"), count_of(answer.body.get("total_count"))
    if not isinstance(rows, list | None) or total is None or total < 0:
        return None
    count = max(len(rows or ()), total)
    ends_here = flag(_pagination(answer.body).get("has_next")) is False
    return count if rows is not None or ends_here else None


def partly_listed(listing: Listing) -> str:
    """Return a sentence about a list that is not complete."""
    return (
        f"only {len(listing.rows)} of the app's versions could be listed: Edgegap says that there "
        "are more, but does not return them"
    )


def _has_more(body: Body, so_far: int) -> bool | None:
    """Return whether more rows follow, None if the page does not say it."""
    has_next = flag(_pagination(body).get("has_next"))
    if isinstance(has_next, bool):
        return has_next
    total = count_of(body.get("total_count"))
    return None if total is None else so_far < total


def _pagination(body: Body) -> Mapping[str, Any]:
    found = body.get("pagination")
    return found if isinstance(found, dict) else {}

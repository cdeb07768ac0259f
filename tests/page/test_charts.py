"""The overview's charts: each day links to its deliveries, a slow version to its own."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from receiver.ledger import ids
from receiver.ledger.deliveries import DELIVERY
from receiver.ledger.ids import first_id
from receiver.ledger.stats import DAY_MS
from receiver.ledger.transaction import Tx
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.web.page import charts
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import APP, NO_CATCH_UP, REPOSITORY, RULE, webhook_body
from tests.support.visitor import PAGE, Visitor


@pytest.fixture(autouse=True)
def _new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids of a process never go back, and another test may have made some far ahead."""
    monkeypatch.setattr(ids, "_last", 0)


@pytest.fixture
def receiver(edgegap: str, tmp_path: Path, _new_process: None) -> Iterator[ReceiverHere]:
    with receiver_here(tmp_path, edgegap, config=RULE + NO_CATCH_UP, environment=PAGE) as one:
        yield one


def days(person: Visitor) -> dict[str, str]:
    """The titles of the days in the chart, by the link of each."""
    return {
        found["href"] or "": found["title"] or ""
        for tag, found in person.read("/").elements
        if tag == "a" and "day=" in (found.get("href") or "")
    }


def moved_back(receiver: ReceiverHere, days: int) -> str:
    """Send a push that is ignored, and have it received this many days ago; return the day."""
    delivery = receiver.post(webhook_body("cache-old")).json()["delivery"]

    def write(tx: Tx) -> int:
        then = tx.now - days * DAY_MS
        named = {"id": delivery, "then": then, "new": first_id(DELIVERY, then)}
        changed = "UPDATE deliveries SET id = :new, received_at = :then WHERE id = :id"
        assert tx.run(changed, **named).rowcount == 1
        return then

    then = receiver.inside(lambda: receiver.service.ledger.write(write))
    return f"{datetime.fromtimestamp(then / 1000, UTC):%Y-%m-%d}"


def test_each_day_is_counted_by_result_and_links_to_its_deliveries(
    receiver: ReceiverHere, person: Visitor, sandbox: EdgegapSandbox
) -> None:
    sandbox.add_version(APP, "2.0.0", docker_image="studio/another")
    for tag in ("1.0.0", "2.0.0"):
        receiver.ended(receiver.push(tag))
    receiver.post(webhook_body("latest"))

    ((link, title),) = days(person).items()

    assert title.endswith(": 1 done, 1 parked, 1 ignored")
    shown = person.read(link)
    assert all(tag in shown.text for tag in ("1.0.0", "2.0.0", "latest"))
    assert days(person)[link] == title


def test_a_day_lists_its_own_deliveries_only(receiver: ReceiverHere, person: Visitor) -> None:
    day = moved_back(receiver, 2)
    receiver.post(webhook_body("latest"))

    shown = person.read(f"/deliveries?day={day}").text
    assert f"{REPOSITORY}:cache-old" in shown
    assert f"{REPOSITORY}:latest" not in shown
    assert f"{REPOSITORY}:cache-old" not in person.read("/deliveries?day=2020-02-29").text
    assert f"day={day}&state=parked" in "".join(person.read(f"/deliveries?day={day}").links())


@pytest.mark.parametrize("day", ["2026-02-30", "yesterday", "2026-13-01", "0000-00-00"])
def test_a_day_that_does_not_exist_is_answered_400(person: Visitor, day: str) -> None:
    assert person.get(f"/deliveries?day={day}").status_code == 400


def test_the_newest_day_is_counted_each_time_and_the_others_once_an_hour(
    receiver: ReceiverHere, person: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver.post(webhook_body("latest"))
    assert len(days(person)) == 1

    moved_back(receiver, 1)
    receiver.post(webhook_body("latest"))
    (title,) = days(person).values()
    assert title.endswith(": 2 ignored")

    monkeypatch.setattr(charts, "COUNTED_FOR_SECONDS", 0.0)
    receiver.post(webhook_body("latest"))
    assert [one.rpartition(": ")[2] for one in days(person).values()] == ["1 ignored", "3 ignored"]


def test_the_times_have_a_scale_and_are_also_text(receiver: ReceiverHere, person: Visitor) -> None:
    receiver.ended(receiver.push("1.0.0"))

    shown = person.read("/")

    assert "Of the last versions: median " in shown.text
    (picture,) = [
        found["aria-label"] or ""
        for tag, found in shown.elements
        if tag == "svg" and "aria-label" in found
    ]
    assert "95 % within" in picture

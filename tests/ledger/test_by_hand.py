"""What a person asked for stays theirs until the tag is pushed again: a repeated report is none."""

import pytest

from receiver.ledger.deliveries import NewDelivery, record
from receiver.ledger.ledger import Ledger
from receiver.ledger.targets import read_target
from receiver.reasons import Verdict
from receiver.rules.rule import Decision, Match
from tests.support.ledger_work import at, finish, write
from tests.support.receiver_process import APP, REPOSITORY

NOW = 1_790_000_000_000
SECOND = 1000
AGAIN = pytest.mark.parametrize(
    ("source", "pushed_at", "stays"),
    [
        ("webhook", NOW, True),
        ("webhook", NOW - SECOND, True),
        ("webhook", None, True),
        ("catch-up", NOW + 700, True),  # Docker Hub's list is more exact than its webhook
        ("webhook", NOW + 3 * SECOND, False),
        ("catch-up", NOW + 3 * SECOND, False),
    ],
)


def reported(
    ledger: Ledger, tag: str, pushed_at: int | None, source: str = "webhook", *, work: bool = True
) -> None:
    delivery = NewDelivery(source, REPOSITORY, tag, pushed_at=pushed_at)
    ruling = Decision(Verdict.ACCEPTED, matches=(Match("rule", APP, tag),))
    write(ledger, at(NOW + 10 * SECOND, lambda tx: record(tx, delivery, ruling)))
    if work:
        finish(ledger)


def is_by_hand(ledger: Ledger) -> bool:
    found = ledger.read_sync(lambda tx: read_target(tx, APP, "1.0"))
    assert found is not None
    return found.by_hand


@AGAIN
@pytest.mark.parametrize("joined", [False, True], ids=["after", "while open"])
def test_only_a_new_push_of_the_tag_ends_it(
    ledger: Ledger, source: str, pushed_at: int | None, *, stays: bool, joined: bool
) -> None:
    """A repeated webhook took it away, and the next push deleted the version."""
    reported(ledger, "1.0", NOW)
    reported(ledger, "1.1", NOW + SECOND)
    reported(ledger, "1.0", None, "command", work=not joined)
    assert joined or is_by_hand(ledger)

    reported(ledger, "1.0", pushed_at, source)

    assert is_by_hand(ledger) == stays


def test_a_push_that_was_asked_for_before_it_was_reported_is_the_same_push(ledger: Ledger) -> None:
    reported(ledger, "1.1", NOW + SECOND)
    reported(ledger, "1.0", NOW + 400, "command")

    reported(ledger, "1.0", NOW)

    assert is_by_hand(ledger)

"""Ids rise across restarts and among replicas, though the clock was ahead: lists go by them."""

from collections.abc import Iterator

import pytest
from sqlalchemy.engine import URL

from receiver.ledger import ids
from receiver.ledger.cursors import begin_cursors, count_unreported
from receiver.ledger.ledger import Ledger
from receiver.ledger.links import (
    Counts,
    adopt_keys,
    count_refused_links,
    dead_links,
    refused_links,
    use_links,
)
from receiver.ledger.purge import purge_deliveries
from receiver.ledger.queries import Filter, list_deliveries, overview
from receiver.ledger.transaction import Tx
from receiver.rules.rule import Rule
from receiver.signing import LinkFault
from tests.support.ledger_work import MINUTE, at, pushed, write
from tests.support.receiver_process import APP, REPOSITORY

HOUR = 60 * MINUTE
DAY = 24 * HOUR
NOW = 1_790_000_000_000
AHEAD = NOW + 365 * DAY
ONE: Counts = {(LinkFault.TRUNCATED, REPOSITORY): 1}


@pytest.fixture
def corrected(either: URL, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ledger]:
    """A ledger whose clock was a year ahead, opened by a process that never saw that clock."""
    monkeypatch.setattr(ids, "_last", 0)
    before = Ledger(either)
    before.open_to_write(wait_seconds=0)
    write(before, at(AHEAD, lambda tx: pushed(tx, "1.0")))
    write(before, at(AHEAD, lambda tx: begin_cursors(tx, [REPOSITORY])))
    before.close()
    monkeypatch.setattr(ids, "_last", 0)
    after = Ledger(either)
    after.open_to_write(wait_seconds=0)
    yield after
    after.close()


def test_what_is_recorded_later_is_listed_as_newer(corrected: Ledger) -> None:
    write(corrected, at(NOW, lambda tx: pushed(tx, "1.1")))

    listed = corrected.read_sync(lambda tx: list_deliveries(tx, Filter()))
    rule = Rule(REPOSITORY, APP, f"{REPOSITORY} → {APP}")
    seen = corrected.read_sync(lambda tx: overview(tx, [rule]))

    assert [one.tag for one in listed] == ["1.1", "1.0"]
    newest = seen.rules[0].newest
    assert newest is not None
    assert newest.tag == "1.1"
    assert seen.repositories[0].last_use_at == NOW
    assert [one.tag for one in seen.last] == ["1.1", "1.0"]


def test_a_replica_goes_on_after_the_ids_of_another(
    replicas: tuple[Ledger, Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = replicas
    write(one, at(AHEAD, lambda tx: pushed(tx, "1.0")))
    monkeypatch.setattr(ids, "_last", 0)  # as in another process

    write(other, at(NOW, lambda tx: pushed(tx, "1.1")))

    listed = one.read_sync(lambda tx: list_deliveries(tx, Filter()))
    assert [row.tag for row in listed] == ["1.1", "1.0"]


def test_a_use_in_the_future_does_not_hide_that_a_link_is_dead(corrected: Ledger) -> None:
    write(corrected, at(AHEAD, lambda tx: adopt_keys(tx, [{"salt": "one"}])))
    write(corrected, at(AHEAD, lambda tx: use_links(tx, [(REPOSITORY, "one")])))
    write(corrected, at(NOW, lambda tx: adopt_keys(tx, [{"salt": "two"}])))

    def dead(tx: Tx) -> list[str]:
        return [link.repository for link in dead_links(tx, [REPOSITORY])]

    assert corrected.read_sync(dead) == [REPOSITORY]
    write(corrected, at(NOW + 1, lambda tx: use_links(tx, [(REPOSITORY, "two")])))
    assert corrected.read_sync(dead) == []


def test_a_push_in_the_future_does_not_hide_a_refused_link(corrected: Ledger) -> None:
    write(corrected, at(NOW, lambda tx: count_refused_links(tx, ONE)))

    assert len(corrected.read_sync(at(NOW, refused_links))) == 1
    write(corrected, at(NOW + 1, lambda tx: pushed(tx, "1.1")))
    assert corrected.read_sync(at(NOW + 1, refused_links)) == []


def test_a_refused_link_of_the_future_is_resolved_by_a_push(corrected: Ledger) -> None:
    write(corrected, at(AHEAD + HOUR, lambda tx: count_refused_links(tx, ONE)))

    write(corrected, at(NOW, lambda tx: pushed(tx, "1.1")))

    assert corrected.read_sync(at(NOW, refused_links)) == []


def test_a_webhook_of_the_future_does_not_hide_that_none_arrives(corrected: Ledger) -> None:
    def counted(minute: int) -> bool:
        then = NOW + minute * MINUTE
        return write(corrected, at(then, lambda tx: count_unreported(tx, REPOSITORY, 1)))

    assert [counted(1), counted(2)] == [False, True]


def test_history_is_purged_by_its_own_time_though_its_ids_are_ahead(corrected: Ledger) -> None:
    """What came after a clock was ahead was kept longer, by the time it had been ahead."""
    write(corrected, at(NOW, lambda tx: pushed(tx, "1.1")))
    write(corrected, at(NOW, lambda tx: tx.run("UPDATE registrations SET state = 'done'").rowcount))
    then = NOW + 90 * DAY

    assert write(corrected, at(then, lambda tx: purge_deliveries(tx, NOW))) == (0, None)
    write(
        corrected, at(then, lambda tx: tx.run("UPDATE registrations SET finished_at = 1").rowcount)
    )
    assert write(corrected, at(then, lambda tx: purge_deliveries(tx, NOW + 1))) == (1, None)


@pytest.mark.parametrize(
    "identity", [None, "", "d", "d1", "retired", "d" + "!" * 18, ids.last_id("d")]
)
def test_what_is_no_id_moves_no_id(identity: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_last", 7)

    ids.continue_after([identity])

    assert ids._last == 7

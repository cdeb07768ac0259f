"""Registrations keep the same promises on both engines: claimed, settled, pushed again."""

import asyncio
from functools import partial

import pytest
from msgspec.structs import replace

from receiver.edgegap.responses import Answer
from receiver.errors import LedgerError
from receiver.ledger.claims import claim, next_due, reclaim_expired, release_lease, renew
from receiver.ledger.deliveries import NewDelivery, record
from receiver.ledger.gates import pause
from receiver.ledger.ledger import Ledger
from receiver.ledger.queries import Filter, delivery_detail, list_deliveries
from receiver.ledger.results import record_request
from receiver.ledger.targets import NotCopied, not_copied
from receiver.ledger.transaction import Tx
from receiver.reasons import Reason, Verdict
from receiver.rules.rule import Decision, Match, Mode
from receiver.upkeep.replay import read_rules_again
from tests.support.ledger_work import (
    MINUTE,
    OWNER,
    at,
    done,
    finish,
    one_claim,
    parked,
    pushed,
    settled,
    waits,
    write,
)
from tests.support.receiver_process import APP, REPOSITORY

DAY = 24 * 60 * MINUTE


def test_one_bad_write_fails_alone_and_leaves_nothing_of_itself(ledger: Ledger) -> None:
    def bad(tx: Tx) -> None:
        pushed(tx, "of the bad one")
        raise ZeroDivisionError

    def twice(tx: Tx) -> None:
        pushed(tx, "of the doubled one")
        for _ in range(2):
            tx.run("INSERT INTO meta (key, value) VALUES ('k', 'v')")

    async def mixed() -> list[object]:
        works = [lambda tx: pushed(tx, "1"), bad, twice, lambda tx: pushed(tx, "2")]
        tasks = [asyncio.create_task(ledger.write(work)) for work in works]
        return await asyncio.gather(*tasks, return_exceptions=True)

    before, fault, doubled, after = asyncio.run(mixed())

    assert isinstance(fault, ZeroDivisionError)
    assert isinstance(doubled, LedgerError)
    listed = ledger.read_sync(lambda tx: list_deliveries(tx, Filter()))
    assert {one.id for one in listed} == {before, after}


def test_many_reports_of_a_push_are_many_deliveries_and_one_registration(ledger: Ledger) -> None:
    async def six() -> list[str]:
        writes = [ledger.write(lambda tx: pushed(tx, "1.0")) for _ in range(6)]
        return list(await asyncio.gather(*writes))

    deliveries = asyncio.run(six())

    assert deliveries == sorted(set(deliveries))
    details = [ledger.read_sync(partial(delivery_detail, identity=one)) for one in deliveries]
    registrations = {one.registrations[0].id for one in details if one is not None}
    assert len(registrations) == 1


def test_what_is_claimed_is_worked_once_and_one_for_each_target(ledger: Ledger) -> None:
    for tag in ("1.0", "1.1", "1.2"):
        write(ledger, lambda tx, tag=tag: pushed(tx, tag, version="stable"))  # type: ignore[misc]
    write(ledger, lambda tx: pushed(tx, "2.0"))

    first = write(ledger, lambda tx: claim(tx, owner="one", most=9))
    second = write(ledger, lambda tx: claim(tx, owner="two", most=9))

    assert [one.image.tag for one in first] == ["1.0", "2.0"]
    assert second == []


@pytest.mark.parametrize("most", [1, 2, 7])
def test_never_more_is_claimed_than_was_asked(ledger: Ledger, most: int) -> None:
    write(ledger, lambda tx: [pushed(tx, f"1.{number}") for number in range(20)])

    assert len(write(ledger, lambda tx: claim(tx, owner="w", most=most))) == most


@pytest.mark.parametrize("dead", [True, False])
def test_work_of_a_dead_or_leaving_worker_comes_before_later_pushes(
    ledger: Ledger, *, dead: bool
) -> None:
    began = write(ledger, lambda tx: tx.now) - MINUTE
    write(ledger, at(began, lambda tx: pushed(tx, "1.0")))
    left = write(ledger, at(began, lambda tx: claim(tx, owner="gone", most=1)))
    for number in range(3):
        write(ledger, at(began + 1 + number, lambda tx, n=number: pushed(tx, f"2.{n}")))  # type: ignore[misc]

    def free(tx: Tx) -> None:
        if dead:
            assert reclaim_expired(tx, all_of_them=False)
        else:
            assert release_lease(tx, "gone") == len(left)

    write(ledger, free)

    assert one_claim(ledger).image.tag == "1.0"


def test_what_crashes_again_goes_behind_what_came_since(ledger: Ledger) -> None:
    began = write(ledger, lambda tx: tx.now) - 10 * MINUTE
    write(ledger, at(began, lambda tx: pushed(tx, "1.0")))
    write(ledger, at(began + 1, lambda tx: pushed(tx, "2.0")))
    for crash in (1, 2):
        write(ledger, at(began + crash * MINUTE, lambda tx: claim(tx, owner="gone", most=1)))
        write(ledger, at(began + (crash + 1) * MINUTE, partial(reclaim_expired, all_of_them=False)))

    assert one_claim(ledger).image.tag == "2.0"


def test_a_push_reported_again_during_work_is_looked_at_once_more(ledger: Ledger) -> None:
    write(ledger, lambda tx: pushed(tx, "1.0"))
    claimed = one_claim(ledger)
    again = write(ledger, lambda tx: pushed(tx, "1.0"))

    assert settled(ledger, claimed, done())

    found = ledger.read_sync(lambda tx: delivery_detail(tx, again))
    assert found is not None
    assert [one.state for one in found.registrations] == ["queued"]
    assert one_claim(ledger).id == claimed.id


def test_a_push_reported_again_when_done_opens_a_new_registration(ledger: Ledger) -> None:
    write(ledger, lambda tx: pushed(tx, "1.0"))
    first = finish(ledger)
    write(ledger, lambda tx: pushed(tx, "1.0"))

    assert one_claim(ledger).id != first.id


def test_a_push_reported_again_queues_a_parked_one_and_not_a_waiting_one(
    ledger: Ledger,
) -> None:
    write(ledger, lambda tx: pushed(tx, "parked"))
    settled(ledger, one_claim(ledger), parked(Reason.APP_MISSING))
    write(ledger, lambda tx: pushed(tx, "waits"))
    settled(ledger, one_claim(ledger), waits(10 * MINUTE))

    for tag in ("parked", "waits"):
        write(ledger, lambda tx, tag=tag: pushed(tx, tag))  # type: ignore[misc]

    claimed = write(ledger, lambda tx: claim(tx, owner="w", most=9))
    assert [one.image.tag for one in claimed] == ["parked"]


def test_a_claim_that_its_own_worker_claimed_again_writes_nothing_more(ledger: Ledger) -> None:
    """The owner is the same, and the lease runs: only the fence identifies the old claim."""
    write(ledger, lambda tx: pushed(tx, "1.0"))
    old = one_claim(ledger)
    write(ledger, partial(reclaim_expired, all_of_them=True))
    new = one_claim(ledger)
    send = partial(record_request, owner=OWNER, step=0, method="POST", path="/v1/x")

    assert (new.id, new.fence) == (old.id, old.fence + 1)
    assert write(ledger, lambda tx: renew(tx, [old], OWNER)) == [old.id]
    assert not write(ledger, partial(send, claimed=old))
    assert not settled(ledger, old, done())

    assert write(ledger, lambda tx: renew(tx, [new], OWNER)) == []
    assert write(ledger, partial(send, claimed=new))
    assert settled(ledger, new, done())


def test_a_claim_that_another_worker_has_by_now_writes_nothing_more(ledger: Ledger) -> None:
    write(ledger, lambda tx: pushed(tx, "1.0"))
    claimed = one_claim(ledger)

    assert write(ledger, lambda tx: renew(tx, [claimed], "another")) == [claimed.id]
    assert not settled(ledger, claimed, done(), owner="another")
    assert settled(ledger, claimed, done())


def test_a_newer_programs_words_stop_nobodys_queue(ledger: Ledger) -> None:
    """An upgrade rolls, or is taken back: one such row kept every other push waiting for ever."""
    for tag in ("mode", "reason", "plain"):
        write(ledger, lambda tx, tag=tag: pushed(tx, tag))  # type: ignore[misc]

    def of_a_newer_program(tx: Tx) -> None:
        tx.run("UPDATE registrations SET mode = 'mirror' WHERE tag = 'mode'")
        tx.run("UPDATE registrations SET waiting_reason = 'tides' WHERE tag = 'reason'")

    write(ledger, of_a_newer_program)

    claimed = write(ledger, lambda tx: claim(tx, owner=OWNER, most=9))

    assert [one.image.tag for one in claimed] == ["reason", "plain"]
    assert claimed[0].waited.reason is Reason.FAULT
    assert write(ledger, next_due) is None  # nor is the other looked for again and again
    assert write(ledger, lambda tx: read_rules_again(tx, [])) == []


def test_a_paused_repository_does_not_hold_anothers_push_to_the_same_target(
    ledger: Ledger,
) -> None:
    write(ledger, lambda tx: pushed(tx, "1.0", version="stable"))
    write(ledger, lambda tx: pushed(tx, "2.0", version="stable"))
    elsewhere = "UPDATE registrations SET repository = 'a/b' WHERE tag = '1.0'"
    write(ledger, lambda tx: tx.run(elsewhere))
    write(ledger, lambda tx: pause(tx, "a/b"))

    assert one_claim(ledger).image.tag == "2.0"


def test_a_push_from_the_future_does_not_keep_later_ones_from_its_target(ledger: Ledger) -> None:
    """It held a moving target until the year it claimed; not even a rollback could free it."""
    now = write(ledger, lambda tx: tx.now)
    write(ledger, lambda tx: pushed(tx, "future", pushed_at=now + 1000 * DAY))

    assert one_claim(ledger).push_time < now + 11 * MINUTE


def test_settings_are_copied_neither_from_channels_nor_from_what_is_not_proven(
    ledger: Ledger,
) -> None:
    def channel(tx: Tx) -> None:
        match = Match(rule="r", app=APP, version="staging", mode=Mode.CHANNEL)
        ruling = Decision(Verdict.ACCEPTED, matches=(match,))
        record(tx, NewDelivery(source="webhook", repository=REPOSITORY, tag="1.0"), ruling)

    def excluded() -> NotCopied:
        return ledger.read_sync(lambda tx: not_copied(tx, APP))

    write(ledger, channel)
    finish(ledger)
    write(ledger, partial(pushed, tag="1.1"))
    finish(ledger)
    for tag, status in (("1.2", 200), ("1.3", None), ("1.4", 409), ("1.5", 500)):
        write(ledger, partial(pushed, tag=tag))
        calls = (Answer("POST", "/v1/app/my-game/version", status),)
        differs = replace(parked(Reason.STORED_DIFFERENTLY), calls=calls)
        settled(ledger, one_claim(ledger), differs)

    assert excluded() == NotCopied(frozenset({"staging"}), frozenset({"1.2", "1.3", "1.5"}))
    write(ledger, lambda tx: tx.run("UPDATE registrations SET state = 'done'").rowcount)
    assert excluded() == NotCopied(frozenset({"staging"}), frozenset())

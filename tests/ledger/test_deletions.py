"""Deletions in the ledger, on both engines: a target is either deleted or worked on, never both."""

import asyncio
import time

import pytest
from sqlalchemy.engine import URL

from receiver.ledger import deletions
from receiver.ledger.claims import claim
from receiver.ledger.deletions import (
    Deletion,
    begin_deletion,
    end_deletion,
    is_in_use,
    last_deletions,
    leave_open,
    next_overdue,
    take_overdue,
)
from receiver.ledger.ledger import Ledger
from receiver.ledger.queries import delivery_detail
from receiver.ledger.targets import read_target
from receiver.ledger.transaction import Tx
from tests.support.ledger_work import MINUTE, at, done, finish, one_claim, pushed, settled, write
from tests.support.receiver_process import APP, REPOSITORY


def begun(tx: Tx, version: str = "1.0") -> Deletion | None:
    """Begin one as pruning does: only if nothing uses the version."""
    if is_in_use(tx, APP, version, repository=REPOSITORY, tag=version):
        return None
    return begin_deletion(tx, APP, version, why="beyond keep = 2")


def begun_surely(tx: Tx) -> Deletion:
    deletion = begun(tx)
    assert deletion is not None
    return deletion


def test_while_a_version_is_being_deleted_its_target_is_not_claimed(ledger: Ledger) -> None:
    deletion = write(ledger, begun_surely)
    delivery = write(ledger, lambda tx: pushed(tx, "1.0"))
    write(ledger, lambda tx: pushed(tx, "2.0"))

    first = write(ledger, lambda tx: claim(tx, owner="w", most=9))
    found = ledger.read_sync(lambda tx: delivery_detail(tx, delivery))
    write(ledger, lambda tx: end_deletion(tx, deletion, deleted=True, why="beyond keep = 2"))
    second = write(ledger, lambda tx: claim(tx, owner="w", most=9))

    assert [one.image.tag for one in first] == ["2.0"]
    assert found is not None
    assert [one.by for one in found.registrations[0].held_back] == ["deletion"]
    assert [one.image.tag for one in second] == ["1.0"]


@pytest.mark.parametrize("state", ["queued", "working", "waiting", "parked"])
def test_a_version_with_an_open_registration_of_it_or_its_image_is_in_use(
    ledger: Ledger, state: str
) -> None:
    write(ledger, lambda tx: pushed(tx, "1.0", version="staging"))
    to_state = "UPDATE registrations SET state = :state"
    write(ledger, lambda tx: tx.run(to_state, state=state).rowcount)

    assert write(ledger, begun) is None
    assert write(ledger, lambda tx: begun(tx, "staging")) is None
    assert write(ledger, lambda tx: begun(tx, "1.1")) is not None
    assert write(ledger, lambda tx: begun(tx, "1.1")) is None  # it is under way already


def test_only_a_confirmed_deletion_is_noted_at_its_target(ledger: Ledger) -> None:
    delivery = write(ledger, lambda tx: pushed(tx, "1.0"))
    finish(ledger)
    kept = write(ledger, begun_surely)
    write(ledger, lambda tx: end_deletion(tx, kept, deleted=False, why="refused"))
    before = ledger.read_sync(lambda tx: read_target(tx, APP, "1.0"))
    gone = write(ledger, begun_surely)
    write(ledger, lambda tx: end_deletion(tx, gone, deleted=True, why="beyond keep = 2"))

    after = ledger.read_sync(lambda tx: read_target(tx, APP, "1.0"))
    found = ledger.read_sync(lambda tx: delivery_detail(tx, delivery))
    assert (before is not None, after is not None, found is not None) == (True, True, True)
    assert before.deleted_at is None  # type: ignore[union-attr]
    assert after.deleted_at is not None  # type: ignore[union-attr]
    assert found.registrations[0].deleted_why == "beyond keep = 2"  # type: ignore[union-attr]
    listed = ledger.read_sync(lambda tx: last_deletions(tx, APP))
    assert [(one.deleted, one.why) for one in listed] == [
        (True, "beyond keep = 2"),
        (False, "refused"),
    ]


def test_an_unanswered_one_is_taken_up_once_it_can_no_longer_take_effect(ledger: Ledger) -> None:
    now = write(ledger, lambda tx: tx.now)
    deletion = write(ledger, at(now, begun_surely))
    longest = deletions.CALL_MS + deletions.EFFECT_MS

    assert write(ledger, at(now, next_overdue)) == now + longest
    assert write(ledger, at(now + longest - 1, take_overdue)) == []
    assert write(ledger, at(now + longest, take_overdue)) == [deletion]
    assert write(ledger, at(now + longest, take_overdue)) == []  # another has it
    write(ledger, at(now + longest, lambda tx: leave_open(tx, deletion)))
    assert write(ledger, at(now + 2 * longest, take_overdue)) == [deletion]


def test_one_that_began_while_the_clock_was_ahead_is_taken_up_at_once(ledger: Ledger) -> None:
    now = write(ledger, lambda tx: tx.now)
    deletion = write(ledger, at(now + 100 * 24 * 60 * MINUTE, begun_surely))

    assert write(ledger, at(now, next_overdue)) == 0
    assert write(ledger, at(now, take_overdue)) == [deletion]


def test_one_confirmed_after_it_was_given_up_queues_again_what_ended_well_since(
    ledger: Ledger,
) -> None:
    deletion = write(ledger, begun_surely)
    write(ledger, lambda tx: end_deletion(tx, deletion, deleted=False, why="still there"))
    write(ledger, lambda tx: pushed(tx, "1.0"))
    unchanged = finish(ledger)
    write(ledger, lambda tx: pushed(tx, "2.0"))
    other = finish(ledger)

    again = write(ledger, lambda tx: end_deletion(tx, deletion, deleted=True, why="old"))

    assert again is not None
    assert again == [unchanged.id]
    assert other.id not in again
    assert one_claim(ledger).id == unchanged.id


def test_what_is_worked_on_meanwhile_is_looked_at_once_more(ledger: Ledger) -> None:
    deletion = write(ledger, begun_surely)
    write(ledger, lambda tx: end_deletion(tx, deletion, deleted=False, why="still there"))
    write(ledger, lambda tx: pushed(tx, "1.0"))
    working = one_claim(ledger)

    write(ledger, lambda tx: end_deletion(tx, deletion, deleted=True, why="old"))
    assert settled(ledger, working, done())

    assert one_claim(ledger).id == working.id


def test_of_a_claim_and_a_deletion_at_once_only_one_gets_the_target(postgres_url: URL) -> None:
    """Neither saw what the other had not committed yet."""
    worker, pruner = Ledger(postgres_url), Ledger(postgres_url)
    for one in (worker, pruner):
        one.open_to_write()
    tags = [f"1.{number}" for number in range(40)]

    def claimed(tx: Tx, tag: str) -> bool:
        locked = "SELECT pg_try_advisory_xact_lock(hashtext('receiver claim'))"
        if not tx.run(locked).scalar():  # as replicas claim
            return False
        got = [one.image.tag for one in claim(tx, owner="w", most=9)]
        time.sleep(0.002)
        return tag in got

    def deleting(tx: Tx, tag: str) -> bool:
        # The registration is queued after pruning has looked.
        free = not is_in_use(tx, APP, tag, repository=REPOSITORY, tag="another")
        time.sleep(0.002)
        if free:
            begin_deletion(tx, APP, tag, why="old")
        return free

    async def race() -> list[tuple[bool, bool]]:
        results = []
        for tag in tags:
            writes = (
                pruner.write(lambda tx, tag=tag: deleting(tx, tag)),  # type: ignore[misc]
                worker.write(lambda tx, tag=tag: pushed(tx, tag)),  # type: ignore[misc]
                worker.write(lambda tx, tag=tag: claimed(tx, tag)),  # type: ignore[misc]
            )
            deleted, _, got = await asyncio.gather(*writes)
            results.append((bool(deleted), bool(got)))
        return results

    results = asyncio.run(race())
    for one in (worker, pruner):
        one.close()

    assert (True, True) not in results

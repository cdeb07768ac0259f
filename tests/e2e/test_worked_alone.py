"""What was interrupted by five crashes in a row is worked on alone once more, then parked."""

from collections.abc import Iterator

import pytest

from receiver.config.settings import Settings
from receiver.ledger.claims import (
    CRASHES_TO_ALONE,
    MAX_CRASHES,
    claim,
    reclaim_expired,
    waits_alone,
)
from receiver.ledger.gates import pause
from receiver.ledger.ledger import Ledger
from receiver.ledger.queries import delivery_detail
from receiver.pipeline.worker import ClaimResult, claim_due
from receiver.sandbox.edgegap import EdgegapSandbox
from tests.support.ledger_work import OWNER, done, one_claim, pushed, settled, write
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import APP, REPOSITORY


def crashed(ledger: Ledger, *tags: str, times: int = CRASHES_TO_ALONE) -> None:
    """Push these, and let as many workers die over them."""
    for tag in tags:
        write(ledger, lambda tx, tag=tag: pushed(tx, tag))  # type: ignore[misc]
    for _ in range(times):
        write(ledger, lambda tx: claim(tx, owner="dying", most=9))
        write(ledger, lambda tx: reclaim_expired(tx, all_of_them=True))


def turn(ledger: Ledger, *in_progress: str, free: int = 4) -> ClaimResult:
    settings = Settings(concurrency=4)
    return write(
        ledger,
        lambda tx: claim_due(
            tx, settings, owner=OWNER, in_progress=in_progress, free=free, shared=ledger.shared
        ),
    )


def tags(found: ClaimResult) -> list[str]:
    return [one.image.tag for one in found.claimed]


def test_after_five_crashes_each_is_worked_on_with_nothing_beside_it(ledger: Ledger) -> None:
    crashed(ledger, "1.0", "1.1")
    write(ledger, lambda tx: pushed(tx, "2.0"))

    first = turn(ledger)
    assert tags(first) == ["1.0"]
    assert first.claimed[0].alone
    assert tags(turn(ledger, first.claimed[0].id)) == []
    assert settled(ledger, first.claimed[0], done())
    second = turn(ledger)
    assert tags(second) == ["1.1"]
    assert settled(ledger, second.claimed[0], done())
    third = turn(ledger)

    assert tags(third) == ["2.0"]
    assert not third.claimed[0].alone


def test_it_waits_until_the_worker_works_on_nothing_else(ledger: Ledger) -> None:
    write(ledger, lambda tx: pushed(tx, "0.9"))
    busy = one_claim(ledger)
    crashed(ledger, "1.0", times=0)
    write(
        ledger,
        lambda tx: tx.run("UPDATE registrations SET crashes = 5 WHERE tag = '1.0'").rowcount,
    )
    write(ledger, lambda tx: pushed(tx, "2.0"))

    assert tags(turn(ledger, busy.id)) == []
    assert settled(ledger, busy, done())
    assert tags(turn(ledger)) == ["1.0"]


def test_a_sixth_crash_parks_it(ledger: Ledger) -> None:
    delivery = write(ledger, lambda tx: pushed(tx, "1.0"))
    crashed(ledger)
    assert write(ledger, waits_alone)
    write(ledger, lambda tx: claim(tx, owner="dying", most=1, alone=True))

    (reclaimed,) = write(ledger, lambda tx: reclaim_expired(tx, all_of_them=True))

    assert reclaimed.state == "parked"
    found = ledger.read_sync(lambda tx: delivery_detail(tx, delivery))
    assert found is not None
    assert found.registrations[0].reason == "crashes_the_worker"
    assert found.registrations[0].tries == MAX_CRASHES


def test_one_that_is_paused_holds_up_no_other(ledger: Ledger) -> None:
    crashed(ledger, "1.0")
    write(ledger, lambda tx: pause(tx, REPOSITORY))
    other = "UPDATE registrations SET repository = 'studio/another' WHERE tag = '2.0'"
    write(ledger, lambda tx: pushed(tx, "2.0"))
    write(ledger, lambda tx: tx.run(other).rowcount)

    assert tags(turn(ledger)) == ["2.0"]


@pytest.fixture
def here(edgegap: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverHere]:
    folder = tmp_path_factory.mktemp("alone")
    with receiver_here(folder, edgegap) as receiver:
        yield receiver


def test_the_innocent_of_a_process_that_was_killed_five_times_are_done_by_themselves(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    """They were parked, and a person had to replay them."""
    here.inside(lambda: here.ledger.write(lambda tx: pause(tx, REPOSITORY)))
    deliveries = [here.push(f"1.{number}") for number in range(4)]
    five = f"UPDATE registrations SET crashes = {CRASHES_TO_ALONE}"
    here.inside(lambda: here.ledger.write(lambda tx: tx.run(five).rowcount))
    at_once: list[int] = []
    really = here.service.client.create

    async def counted(app: str, body: object) -> object:
        at_once.append(len(here.service.worker._running))
        return await really(app, body)  # type: ignore[arg-type]

    here.service.client.create = counted  # type: ignore[method-assign, assignment]
    here.wait_for_commits()
    here.run("resume", REPOSITORY, PORT=here.url.rpartition(":")[2])

    assert [here.ended(one)["outcome"] for one in deliveries] == ["created"] * 4
    assert at_once == [1, 1, 1, 1]
    assert len(sandbox.versions) == 4
    assert (APP, "1.0") in sandbox.versions

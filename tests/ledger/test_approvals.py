"""Approvals in the ledger, on both databases: once, and never missed by an attempt."""

import asyncio

import pytest
from msgspec.structs import replace

from receiver.backoff import WaitState
from receiver.images import ImageReference
from receiver.ledger.approvals import (
    approvable,
    approval_of,
    approval_of_registration,
    approve,
    waiting_for_approval,
    waiting_moves,
)
from receiver.ledger.claims import Claimed, claim, next_due
from receiver.ledger.deliveries import NewDelivery, record, set_digest
from receiver.ledger.ledger import Ledger
from receiver.ledger.results import Result, settle
from receiver.ledger.stats import count_held
from receiver.reasons import Reason, Verdict
from receiver.rules.rule import Decision, Match, Mode
from receiver.signing import Approvable

IMAGE = ImageReference("studio/game-server", "1.0")
PUSHED = 1_700_000_000_000
MOVE = Approvable("my-game", "prod", IMAGE, None, PUSHED)
HALF_AN_HOUR = 30 * 60 * 1000


async def claimed(ledger: Ledger) -> Claimed:
    (one,) = await ledger.write(lambda tx: claim(tx, owner="w", most=1))
    return one


async def waits(
    ledger: Ledger,
    one: Claimed,
    reason: Reason = Reason.NEEDS_APPROVAL,
    digest: str | None = None,
) -> None:
    """Settle it as an attempt does that found no approval."""

    def write(tx):  # type: ignore[no-untyped-def]
        waited = WaitState(reason, tx.now, 1, tx.now)
        due = tx.now + HALF_AN_HOUR
        result = Result.waiting(reason, "waits", due, waited)
        return settle(tx, one, "w", replace(result, digest=digest))

    assert await ledger.write(write)


async def soon(ledger: Ledger) -> bool:
    """Whether it is tried at once."""
    due, now = await ledger.write(lambda tx: (next_due(tx), tx.now))
    return due is not None and due <= now


def test_an_approval_is_seen_by_the_attempt_that_is_under_way(ledger: Ledger) -> None:
    """The attempt has read that there is none, and would wait for half an hour."""

    async def scenario() -> list[bool]:
        match = Match("r", "my-game", "prod", Mode.CHANNEL)
        delivery = NewDelivery("webhook", "studio/game-server", "1.0", pushed_at=PUSHED)
        ruling = Decision(Verdict.ACCEPTED, matches=(match,))
        recorded = await ledger.write(lambda tx: record(tx, delivery, ruling))
        (registration,) = recorded.registrations
        await waits(ledger, await claimed(ledger))
        assert await ledger.read(count_held) == 0  # by nothing but the person who is asked
        found = [await soon(ledger)]
        await ledger.write(lambda tx: tx.run("UPDATE registrations SET due_at = 0").rowcount)
        one = await claimed(ledger)
        asked = await ledger.read(lambda tx: approvable(tx, registration))
        assert asked == MOVE
        assert await ledger.write(
            lambda tx: waiting_for_approval(tx, MOVE, to_approve=True)
        ) == registration  # fmt: skip
        for _ in range(2):
            given = await ledger.write(lambda tx: approve(tx, MOVE, approver="link", address=""))
            found += [given]
        await waits(ledger, one)
        found.append(await soon(ledger))
        assert (await claimed(ledger)).evidence.approved
        return found

    assert asyncio.run(scenario()) == [False, True, False, True]
    approval = ledger.read_sync(lambda tx: approval_of(tx, MOVE))
    assert approval is not None
    assert approval.approver == "link"


def test_a_digest_that_is_learned_during_an_attempt_is_a_new_wait(ledger: Ledger) -> None:
    """The attempt wrote the digest back that it had begun with, and asked for nothing again."""

    async def scenario() -> Claimed:
        match = Match("r", "my-game", "prod", Mode.CHANNEL)
        delivery = NewDelivery("webhook", "studio/game-server", "1.0")
        ruling = Decision(Verdict.ACCEPTED, matches=(match,))
        recorded = await ledger.write(lambda tx: record(tx, delivery, ruling))
        (registration,) = recorded.registrations
        await ledger.write(lambda tx: set_digest(tx, registration, "sha256:a", overwritten=False))
        await waits(ledger, await claimed(ledger), digest="sha256:a")
        await ledger.write(lambda tx: tx.run("UPDATE registrations SET due_at = 0").rowcount)
        one = await claimed(ledger)
        assert one.waited.reason is Reason.NEEDS_APPROVAL
        await ledger.write(lambda tx: set_digest(tx, registration, "sha256:b", overwritten=True))
        await waits(ledger, one, digest="sha256:a")
        assert await soon(ledger)
        return await claimed(ledger)

    again = asyncio.run(scenario())
    assert (again.digest, again.waited.reason) == ("sha256:b", None)


@pytest.mark.parametrize("when", ["before the attempt", "during the attempt"])
def test_an_approval_without_a_digest_ends_with_the_next_push(ledger: Ledger, when: str) -> None:
    """The tag was pushed again while the first push waited: nobody approved that image."""
    ruling = Decision(Verdict.ACCEPTED, matches=(Match("r", "my-game", "prod", Mode.CHANNEL),))

    async def push(at: int) -> str:
        delivery = NewDelivery("webhook", "studio/game-server", "1.0", pushed_at=at)
        recorded = await ledger.write(lambda tx: record(tx, delivery, ruling))
        return recorded.registrations[0]

    async def scenario() -> Claimed:
        registration = await push(PUSHED)
        await waits(ledger, await claimed(ledger))
        assert await ledger.write(lambda tx: approve(tx, MOVE, approver="link", address=""))
        assert await push(PUSHED) == registration  # reported again: it stays approved
        assert ledger.read_sync(lambda tx: approval_of_registration(tx, registration))
        if when == "before the attempt":
            await push(PUSHED + 1)
            return await claimed(ledger)
        one = await claimed(ledger)
        assert one.evidence.approved
        await push(PUSHED + 1)
        await waits(ledger, one)
        assert await soon(ledger)
        return await claimed(ledger)

    again = asyncio.run(scenario())
    assert not again.evidence.approved
    assert again.waited.reason is None  # a new wait, which is notified of
    assert ledger.read_sync(lambda tx: approval_of_registration(tx, again.id)) is None
    assert ledger.read_sync(lambda tx: waiting_for_approval(tx, MOVE)) is None


def test_moves_that_wait_are_listed_also_while_they_are_tried_again(ledger: Ledger) -> None:
    async def scenario() -> None:
        for channel, reason in (
            ("live", Reason.NEEDS_TRIAL),
            ("prod", Reason.NEEDS_APPROVAL),
            ("late", Reason.EDGEGAP_BUSY),
        ):
            match = Match("r", "my-game", channel, Mode.CHANNEL)
            delivery = NewDelivery("webhook", "studio/game-server", "1.0")
            ruling = Decision(Verdict.ACCEPTED, matches=(match,))
            await ledger.write(lambda tx, one=delivery, on=ruling: record(tx, one, on))  # type: ignore[misc]
            await waits(ledger, await claimed(ledger), reason)
        await ledger.write(lambda tx: tx.run("UPDATE registrations SET due_at = 0").rowcount)
        await ledger.write(lambda tx: claim(tx, owner="w", most=9))

    asyncio.run(scenario())

    found = ledger.read_sync(waiting_moves)
    assert [(one.channel, one.reason, one.tag, one.sentence) for one in found] == [
        ("live", "needs_trial", "1.0", "waits"),
        ("prod", "needs_approval", "1.0", "waits"),
    ]
    assert ledger.read_sync(lambda tx: waiting_moves(tx, "my-game", "prod")) == found[1:]
    assert ledger.read_sync(lambda tx: waiting_moves(tx, "another")) == ()

"""What the ledger keeps of channels, on both engines: order, holds, reports, moves, checks."""

from functools import partial
from typing import Any

import pytest

from receiver.backoff import MAX_CALL
from receiver.edgegap.responses import Answer
from receiver.ledger.channels import before, list_channels, moves_of, read_channel_state
from receiver.ledger.claims import Claimed, claim
from receiver.ledger.comparisons import next_check, to_compare
from receiver.ledger.deliveries import NewDelivery, record
from receiver.ledger.ledger import Ledger
from receiver.ledger.parked import dismiss_parked
from receiver.ledger.purge import purge_deliveries, purge_registrations
from receiver.ledger.results import compare_again, record_request
from receiver.ledger.targets import read_target
from receiver.ledger.transaction import Tx
from receiver.pipeline.intake import CATCH_UP
from receiver.reasons import Outcome, Reason, Verdict
from receiver.rules.channel_order import Channel, ManualAction, why_not, with_image_at_edgegap
from receiver.rules.rule import Decision, Match, Mode, Rule, TargetKey
from receiver.upkeep.channels import ChannelNotMoved, promote, release, rollback_channel
from tests.support.ledger_work import (
    MINUTE,
    OWNER,
    at,
    done,
    one_claim,
    parked,
    pushed,
    settled,
    waits,
    write,
)
from tests.support.receiver_process import APP, REPOSITORY

DAY = 24 * 60 * MINUTE
NAME = "staging"
RULES = (Rule(REPOSITORY, APP, f"{REPOSITORY} → {APP}", channels=(NAME, "prod")),)
PLACE = TargetKey(APP, NAME)
PATCH = {"step": 1, "method": "PATCH", "path": "/v1/x"}


def push(ledger: Ledger, tag: str, pushed_at: int | None = None, *, now: int | None = None) -> str:
    """Record a push that moves the channel and nothing else."""
    work = partial(pushed, tag=tag, version=NAME, pushed_at=pushed_at, mode=Mode.CHANNEL)
    return write(ledger, work if now is None else at(now, work))


def moved(
    ledger: Ledger, tag: str, pushed_at: int | None = None, *, now: int | None = None, **more: Any
) -> Claimed:
    """Let a push move the channel."""
    push(ledger, tag, pushed_at, now=now)
    take = partial(claim, owner=OWNER, most=1)
    (claimed,) = write(ledger, take if now is None else at(now, take))
    assert claimed.image.tag == tag
    assert settled(ledger, claimed, done(Outcome.UPDATED, **more))
    return claimed


def may_move(claimed: Claimed) -> bool:
    return why_not(Channel(APP, NAME), claimed.pushed, claimed.channel_state) is None


def back(ledger: Ledger, to: str | None = None) -> None:
    write(ledger, lambda tx: rollback_channel(tx, RULES, *PLACE, to, source="page"))


def carried_out(ledger: Ledger) -> Claimed:
    """Let the worker do what a person ordered."""
    claimed = one_claim(ledger)
    assert may_move(claimed)
    assert settled(ledger, claimed, done(Outcome.UPDATED))
    return claimed


def tag_of(ledger: Ledger) -> str:
    return ledger.read_sync(lambda tx: read_channel_state(tx, *PLACE)).tag


# When a push counts as pushed


def test_with_our_clock_behind_a_newer_push_still_moves_the_channel(ledger: Ledger) -> None:
    """A resumed machine's clock was a day behind: the push ended superseded for good."""
    now = write(ledger, lambda tx: tx.now)
    moved(ledger, "nightly-1", now - MINUTE)
    push(ledger, "nightly-2", now, now=now - DAY)
    behind = one_claim(ledger)
    settled(ledger, behind, done(Outcome.UPDATED))
    push(ledger, "nightly-3", now + MINUTE)  # the clock is right again

    assert may_move(behind)
    assert may_move(one_claim(ledger))


@pytest.mark.parametrize("ahead", [DAY, 1000 * DAY])
def test_a_push_time_far_ahead_keeps_no_later_push_from_the_channel(
    ledger: Ledger, ahead: int
) -> None:
    now = write(ledger, lambda tx: tx.now)
    moved(ledger, "nightly-1", now - MINUTE)
    moved(ledger, "nightly-2", now + ahead)
    push(ledger, "nightly-3", now)

    assert may_move(one_claim(ledger))


def test_with_our_clock_ahead_a_push_of_unknown_time_is_just_the_newest(ledger: Ledger) -> None:
    now = write(ledger, lambda tx: tx.now)
    moved(ledger, "nightly-1", now - MINUTE)
    moved(ledger, "nightly-2", None, now=now + DAY)
    push(ledger, "nightly-3", now)

    assert may_move(one_claim(ledger))


def test_a_push_that_is_reported_late_is_as_old_as_it_is(ledger: Ledger) -> None:
    now = write(ledger, lambda tx: tx.now)
    moved(ledger, "nightly-2", now - MINUTE)
    push(ledger, "nightly-1", now - 2 * MINUTE)

    assert not may_move(one_claim(ledger))


def test_of_what_is_queued_the_newest_push_is_first(ledger: Ledger) -> None:
    """The others then end superseded, whatever their order, without a call to Edgegap."""
    for tag, pushed_at in (("a", 1), ("c", 3), ("b", 2)):
        push(ledger, tag, pushed_at)

    order = []
    for _ in range(3):
        claimed = one_claim(ledger)
        order.append(claimed.image.tag)
        settled(ledger, claimed, done(Outcome.UPDATED))

    assert order == ["c", "b", "a"]


# Moves by hand


def test_a_rollback_holds_the_channel_from_the_moment_it_is_asked_for(ledger: Ledger) -> None:
    moved(ledger, "1.0")
    moved(ledger, "1.1")
    push(ledger, "1.2")
    back(ledger)

    ordered = carried_out(ledger)
    queued = one_claim(ledger)

    assert (ordered.image.tag, queued.image.tag) == ("1.0", "1.2")
    assert not may_move(queued)
    row = ledger.read_sync(lambda tx: list_channels(tx, [PLACE]))[0]
    assert row.held is not None
    assert (row.held.tag, row.held.lifted_above) == ("1.0", "1.1")


def test_what_a_person_asked_for_last_is_what_is_done(ledger: Ledger) -> None:
    for tag in ("1.0", "1.1", "1.2"):
        moved(ledger, tag)
    back(ledger, "1.0")
    back(ledger, "1.1")

    claimed = write(ledger, lambda tx: claim(tx, owner=OWNER, most=1))
    settled(ledger, claimed[0], done(Outcome.UPDATED))
    claimed += write(ledger, lambda tx: claim(tx, owner=OWNER, most=1))

    assert {one.image.tag: may_move(one) for one in claimed} == {"1.0": False, "1.1": True}


def test_rolled_back_twice_it_goes_two_back_and_not_forth_again(ledger: Ledger) -> None:
    for tag in ("1.0", "1.1", "1.2"):
        moved(ledger, tag)
    back(ledger)
    carried_out(ledger)
    back(ledger)
    carried_out(ledger)

    assert tag_of(ledger) == "1.0"
    with pytest.raises(ChannelNotMoved, match=r"held nothing before 1\.0"):
        back(ledger)
    push(ledger, "1.2.1")
    assert may_move(one_claim(ledger))


def test_a_push_above_what_it_was_rolled_back_from_ends_the_hold(ledger: Ledger) -> None:
    moved(ledger, "1.0")
    moved(ledger, "2.0")
    back(ledger)
    carried_out(ledger)

    moved(ledger, "2.1")

    assert ledger.read_sync(lambda tx: read_channel_state(tx, *PLACE)).hold is None
    push(ledger, "2.2")
    assert may_move(one_claim(ledger))


def test_a_push_before_the_hold_that_a_catch_up_finds_after_it_does_not_end_it(
    ledger: Ledger,
) -> None:
    """Its webhook was lost. A person rolled back, and minutes later players got another build."""
    now = write(ledger, lambda tx: tx.now)
    moved(ledger, "1.0", now - 9 * MINUTE)
    moved(ledger, "1.1", now - 8 * MINUTE)
    back(ledger)
    carried_out(ledger)
    found = NewDelivery(CATCH_UP, REPOSITORY, "1.2", pushed_at=now - 7 * MINUTE)
    match = Match(RULES[0].name, APP, NAME, Mode.CHANNEL)

    def catch_up(tx: Tx) -> None:
        record(tx, found, Decision(Verdict.ACCEPTED, matches=(match,)))

    write(ledger, catch_up)

    claimed = one_claim(ledger)
    assert not may_move(claimed)
    settled(ledger, claimed, done(Outcome.SUPERSEDED))
    push(ledger, "1.3", now - 7 * MINUTE)  # Docker Hub's clock may be behind
    assert may_move(one_claim(ledger))


def test_a_hold_asked_for_while_a_push_moves_the_channel_stays_and_is_lifted_above_it(
    ledger: Ledger,
) -> None:
    moved(ledger, "1.0")
    moved(ledger, "1.1")
    push(ledger, "1.2")
    under_way = one_claim(ledger)
    back(ledger)
    settled(ledger, under_way, done(Outcome.UPDATED))
    carried_out(ledger)

    hold = ledger.read_sync(lambda tx: read_channel_state(tx, *PLACE)).hold
    assert hold is not None
    assert (hold.tag, hold.lifted_above) == ("1.0", "1.2")


def test_released_the_next_push_above_what_it_has_moves_it(ledger: Ledger) -> None:
    moved(ledger, "1.0")
    moved(ledger, "2.0")
    back(ledger)
    carried_out(ledger)
    push(ledger, "1.1")
    held = one_claim(ledger)
    settled(ledger, held, done(Outcome.SUPERSEDED))

    write(ledger, lambda tx: release(tx, RULES, *PLACE))

    push(ledger, "1.2")
    assert (may_move(held), may_move(one_claim(ledger))) == (False, True)
    with pytest.raises(ChannelNotMoved, match="is not held"):
        write(ledger, lambda tx: release(tx, RULES, *PLACE))


def test_a_channel_is_promoted_to_what_another_has_and_held(ledger: Ledger) -> None:
    moved(ledger, "1.0")
    moved(ledger, "1.1")
    other = TargetKey(APP, "prod")
    ask = partial(promote, rules=RULES, app=APP, channel="prod", source="api")
    write(ledger, lambda tx: ask(tx, to=None, from_channel=NAME))
    settled(ledger, one_claim(ledger), done(Outcome.CREATED))

    row = ledger.read_sync(lambda tx: list_channels(tx, [other]))[0]
    assert row.held is not None
    assert (row.tag, row.held.action, row.held.lifted_above) == (
        "1.1",
        "promote",
        "1.1",
    )
    assert [(one.action, one.source) for one in row.moves] == [("promote", "api")]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"to": None, "from_channel": None}, "name either"),
        ({"to": None, "from_channel": "prod"}, "was never moved"),
        ({"to": None, "from_channel": "none"}, "moves no version none"),
        ({"to": "9.9", "from_channel": None}, "knows no version 9.9"),
        ({"to": "1.0", "from_channel": None, "channel": "none"}, "it moves: prod, staging"),
        ({"to": "1.0", "from_channel": None, "rules": ()}, "moves no version prod"),
    ],
)
def test_what_cannot_be_promoted_is_refused_in_a_sentence(
    ledger: Ledger, asked: dict[str, Any], words: str
) -> None:
    moved(ledger, "1.0")
    whole: dict[str, Any] = {"rules": RULES, "app": APP, "channel": "prod", "source": "api"}

    with pytest.raises(ChannelNotMoved, match=words):
        write(ledger, lambda tx: promote(tx, **{**whole, **asked}))


# History and reports


def test_the_history_holds_each_move_once_by_whom_and_from_what(ledger: Ledger) -> None:
    moved(ledger, "1.0", digest="sha256:1")
    claimed = moved(ledger, "1.1")
    push(ledger, "1.1")
    settled(ledger, one_claim(ledger), done(Outcome.UNCHANGED))
    push(ledger, "0.9")
    settled(ledger, one_claim(ledger), done(Outcome.SUPERSEDED))
    back(ledger)
    carried_out(ledger)

    moves = ledger.read_sync(lambda tx: moves_of(tx, *PLACE))

    assert [(one.from_tag, one.tag, one.action, one.source) for one in moves] == [
        ("1.1", "1.0", "rollback", "page"),
        ("1.0", "1.1", "push", "webhook"),
        (None, "1.0", "push", "webhook"),
    ]
    assert (moves[2].digest, moves[1].rule) == ("sha256:1", claimed.rule)


def test_a_channel_that_two_repositories_move_remembers_whose_tag_it_was(ledger: Ledger) -> None:
    """Of the same tag: a rollback passed over it, and its digest was confused with the other's."""

    def of(tx: Tx, repository: str, tag: str) -> None:
        answer = NewDelivery(source="webhook", repository=repository, tag=tag)
        match = Match("rule", APP, NAME, Mode.CHANNEL)
        record(tx, answer, Decision(Verdict.ACCEPTED, matches=(match,)))

    known = []
    for repository, tag in (("group/a", "0.9"), ("group/a", "1.0"), ("group/b", "1.0")):
        write(ledger, partial(of, repository=repository, tag=tag))
        claimed = one_claim(ledger)
        known.append(claimed.known)
        settled(ledger, claimed, done(Outcome.UPDATED, digest=f"sha256:{repository}"))

    held = ledger.read_sync(lambda tx: read_target(tx, APP, NAME))
    assert held is not None
    earlier = ledger.read_sync(lambda tx: before(tx, APP, NAME, held.image))

    assert earlier is not None
    assert (held.repository, str(earlier.image)) == ("group/b", "docker.io/group/a:1.0")
    assert known == [None, None, None]


def test_what_was_reported_is_known_when_its_delivery_is_purged(ledger: Ledger) -> None:
    moved(ledger, "nightly-1", digest="sha256:1")
    moved(ledger, "nightly-2")
    later = write(ledger, lambda tx: tx.now) + DAY
    write(ledger, lambda tx: purge_deliveries(tx, later))
    write(ledger, lambda tx: purge_registrations(tx, later, ""))
    push(ledger, "nightly-1")

    known = one_claim(ledger).known

    assert known is not None
    assert known.digest == "sha256:1"


def test_a_registration_does_not_know_itself_however_often_it_is_tried(ledger: Ledger) -> None:
    push(ledger, "1.0")
    claimed = one_claim(ledger)
    push(ledger, "1.0")  # while it is worked on: it is looked at once more
    settled(ledger, claimed, done(Outcome.UPDATED, digest="sha256:1"))

    assert one_claim(ledger).known is None


# PATCHes without an answer


def patch(ledger: Ledger, claimed: Claimed) -> None:
    assert write(ledger, lambda tx: record_request(tx, claimed, OWNER, **PATCH))  # type: ignore[arg-type]


def check(ledger: Ledger) -> int | None:
    return ledger.read_sync(next_check)


def answer(status: int | None) -> tuple[Answer, ...]:
    body = {"success": status == 200}
    return (Answer("GET", "/v1/x", 200, body={}), Answer("PATCH", "/v1/x", status, body=body))


@pytest.mark.parametrize("status", [None, 408, 500, 504])
def test_a_channel_is_to_be_compared_after_a_patch_that_was_not_answered(
    ledger: Ledger, status: int | None
) -> None:
    moved(ledger, "1.0")
    push(ledger, "1.1")
    claimed = one_claim(ledger)
    patch(ledger, claimed)
    noted = check(ledger)
    settled(ledger, claimed, waits(0, calls=answer(status)))

    now = write(ledger, lambda tx: tx.now)
    due = check(ledger)

    assert noted is not None  # before it was sent: no kill loses it
    assert due is not None
    assert noted <= due <= now + MAX_CALL
    at_once = ledger.read_sync(lambda tx: to_compare(tx, [PLACE], None))
    later = ledger.read_sync(at(due, lambda tx: to_compare(tx, [PLACE], None)))
    assert (list(at_once), list(later)) == ([], [PLACE])


@pytest.mark.parametrize("status", [200, 400, 404, 429])
def test_an_answer_leaves_nothing_to_compare_unless_another_is_outstanding(
    ledger: Ledger, status: int
) -> None:
    moved(ledger, "1.0")
    push(ledger, "1.1")
    first = one_claim(ledger)
    patch(ledger, first)
    settled(ledger, first, waits(0, calls=answer(status), moved=status == 200))
    assert check(ledger) is None

    second = one_claim(ledger)
    patch(ledger, second)
    settled(ledger, second, waits(0, calls=answer(None)))
    third = one_claim(ledger)
    patch(ledger, third)
    settled(ledger, third, done(Outcome.UPDATED, calls=answer(200)))

    assert check(ledger) is not None


def test_a_move_that_edgegap_confirmed_and_does_not_show_is_compared(ledger: Ledger) -> None:
    moved(ledger, "1.0")
    push(ledger, "1.1")
    claimed = one_claim(ledger)
    patch(ledger, claimed)

    settled(ledger, claimed, parked(Reason.STORED_DIFFERENTLY, calls=answer(200)))

    assert check(ledger) is not None
    assert tag_of(ledger) == "1.0"


def test_what_a_parked_move_was_confirmed_to_have_moved_is_what_the_channel_has(
    ledger: Ledger,
) -> None:
    moved(ledger, "1.0")
    push(ledger, "1.1")
    claimed = one_claim(ledger)
    patch(ledger, claimed)

    settled(ledger, claimed, parked(Reason.STORED_DIFFERENTLY, calls=answer(200), moved=True))

    assert check(ledger) is None
    assert tag_of(ledger) == "1.1"


def test_what_a_request_asked_for_is_known_until_its_registration_ends(ledger: Ledger) -> None:
    def asked() -> list[str]:
        return [
            one.tag for one in ledger.read_sync(lambda tx: read_channel_state(tx, *PLACE)).asked
        ]

    moved(ledger, "1.0")
    push(ledger, "1.1")
    first = one_claim(ledger)
    settled(ledger, first, parked(Reason.GAVE_UP))
    assert asked() == []  # nothing was sent

    push(ledger, "1.2")
    second = one_claim(ledger)
    patch(ledger, second)
    assert asked() == ["1.2"]  # it may be sent, and never be answered
    settled(ledger, second, parked(Reason.GAVE_UP, calls=answer(500)))
    assert asked() == ["1.2"]
    write(ledger, lambda tx: len(dismiss_parked(tx, [second.id], "page").registrations))
    assert asked() == ["1.2"]

    moved(ledger, "1.3")
    assert asked() == []


def test_an_image_that_edgegap_refused_is_not_ours_when_it_is_there(ledger: Ledger) -> None:
    """Somebody set it in the dashboard, and it was recorded as a move of the receiver's."""
    moved(ledger, "1.0")
    push(ledger, "1.1")
    claimed = one_claim(ledger)
    patch(ledger, claimed)
    settled(ledger, claimed, parked(Reason.REFUSED_BY_EDGEGAP, calls=answer(400)))

    state = ledger.read_sync(lambda tx: read_channel_state(tx, *PLACE))

    assert with_image_at_edgegap(Channel(APP, NAME), state, REPOSITORY, "1.1") is state


def test_what_a_superseded_move_asked_for_is_ours_when_it_comes_late(ledger: Ledger) -> None:
    """`restore = true` put the channel back from it to an older version."""
    moved(ledger, "1.0")
    push(ledger, "1.1")
    claimed = one_claim(ledger)
    patch(ledger, claimed)
    settled(ledger, claimed, waits(0, calls=answer(None)))
    settled(ledger, one_claim(ledger), done(Outcome.SUPERSEDED))

    channel_state = ledger.read_sync(lambda tx: read_channel_state(tx, *PLACE))

    assert with_image_at_edgegap(Channel(APP, NAME), channel_state, REPOSITORY, "1.1").tag == "1.1"


def test_a_lost_lease_has_its_channel_compared_only_if_it_sent_a_patch(ledger: Ledger) -> None:
    moved(ledger, "1.0")
    push(ledger, "1.1")
    claimed = one_claim(ledger)
    write(ledger, lambda tx: compare_again(tx, claimed))
    assert check(ledger) is None

    patch(ledger, claimed)
    write(ledger, lambda tx: tx.run("UPDATE channels SET check_at = NULL").rowcount)
    write(ledger, lambda tx: compare_again(tx, claimed))

    assert check(ledger) is not None


def test_channels_are_compared_once_in_a_period(ledger: Ledger) -> None:
    moved(ledger, "1.0")
    now = write(ledger, lambda tx: tx.now)

    found = [
        list(ledger.read_sync(at(now + later, lambda tx: to_compare(tx, [PLACE], MINUTE))))
        for later in (0, MINUTE + 1, -DAY)
    ]

    assert found == [[], [PLACE], [PLACE]]
    assert ledger.read_sync(lambda tx: to_compare(tx, [TargetKey(APP, "never-moved")], 0)) == {}


def test_a_person_is_asked_for_by_name(ledger: Ledger) -> None:
    moved(ledger, "1.0")
    back(ledger, "1.0")

    channel_state = ledger.read_sync(lambda tx: read_channel_state(tx, *PLACE))
    assert (channel_state.action, channel_state.hold and channel_state.hold.tag) == (
        ManualAction.ROLLBACK,
        "1.0",
    )

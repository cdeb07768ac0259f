"""At a start and a reload what the configuration fixed goes on, and nothing else of a push."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from receiver.backoff import WaitState
from receiver.dockerhub.webhook import Push
from receiver.ledger.approvals import waiting_moves
from receiver.ledger.claims import claim
from receiver.ledger.deliveries import NewDelivery, record
from receiver.ledger.ledger import Ledger
from receiver.ledger.queries import registrations_of
from receiver.ledger.results import Result, settle
from receiver.ledger.transaction import Tx
from receiver.reasons import Outcome, Reason, State, Verdict
from receiver.rules.rule import Decision, Match, Mode, OnOverwrite, Rule, rule_on
from receiver.upkeep.replay import read_rules_again
from tests.support.ledger_work import write

REPOSITORY = "studio/game"
ONE = Rule(REPOSITORY, "one", "first", on_overwrite=OnOverwrite.PARK)
OTHER = Rule(REPOSITORY, "other", "second")
DIGEST = "sha256:" + "b" * 64


def came_to(ledger: Ledger, **by_app: Result) -> str:
    """A push that both rules matched, with its result for each app."""
    ruling = rule_on(Push(REPOSITORY, "1.0"), [ONE, OTHER])
    answer = NewDelivery(source="webhook", repository=REPOSITORY, tag="1.0")
    delivery = write(ledger, lambda tx: record(tx, answer, ruling)).delivery

    def end(tx: Tx) -> None:
        for claimed in claim(tx, owner="w", most=9):
            assert settle(tx, claimed, "w", by_app[claimed.app])

    write(ledger, end)
    return delivery


def stand(ledger: Ledger, delivery: str) -> list[tuple[str, str, str | None]]:
    led = ledger.read_sync(lambda tx: registrations_of(tx, [delivery]))
    return sorted((one.app, one.state.value, one.reason) for one in led[delivery])


def read_again(ledger: Ledger, rules: Sequence[Rule]) -> None:
    asyncio.run(ledger.write(lambda tx: read_rules_again(tx, rules)))


CREATED = Result(State.DONE, outcome=Outcome.CREATED)
FIXABLE = Result(State.PARKED, reason=Reason.APP_MISSING)


def test_what_is_done_stays_done_whatever_the_result_of_its_sibling(ledger: Ledger) -> None:
    """Each start made it again: a version that a person had deleted came back."""
    delivery = came_to(ledger, one=CREATED, other=FIXABLE)

    for _ in range(2):
        read_again(ledger, [ONE, OTHER])

    assert stand(ledger, delivery) == [("one", "done", None), ("other", "queued", None)]


def test_what_a_person_must_look_at_stays_parked_beside_what_is_fixed(ledger: Ledger) -> None:
    """A start counted as a person's look: the tag that was pushed over passed."""
    over = Result(State.PARKED, reason=Reason.TAG_OVERWRITTEN, digest=DIGEST, overwritten=True)
    delivery = came_to(ledger, one=over, other=FIXABLE)

    read_again(ledger, [ONE, OTHER])

    assert stand(ledger, delivery) == [
        ("one", "parked", "tag_overwritten"), ("other", "queued", None)
    ]  # fmt: skip


@pytest.mark.parametrize("mode", [Mode.CHANNEL, Mode.TRIAL])
@pytest.mark.parametrize("state", [State.WAITING, State.WORKING, State.PARKED])
def test_a_move_and_a_trial_of_a_renamed_rule_go_on(
    ledger: Ledger, mode: Mode, state: State
) -> None:
    """Parked, or asked for a second time: the rule has another name, and all else is the same."""
    rule = Rule(REPOSITORY, "one", "first", channels=("staging",))
    other = Rule("studio/lobby", "lobby", "first", channels=("staging",))
    ruling = Decision(Verdict.ACCEPTED, matches=(Match("first", "one", "staging", mode),))
    answer = NewDelivery(source="webhook", repository=REPOSITORY, tag="1.0")
    delivery = write(ledger, lambda tx: record(tx, answer, ruling)).delivery
    (claimed,) = write(ledger, lambda tx: claim(tx, owner="w", most=1))
    if state is not State.WORKING:
        reason = Reason.RULE_GONE if state is State.PARKED else Reason.NEEDS_APPROVAL
        result = Result(state, reason=reason, due_at=9 * 10**12, waited=WaitState(reason))
        assert write(ledger, lambda tx: settle(tx, claimed, "w", result))

    read_again(ledger, [other, replace(rule, name="renamed")])

    (found,) = ledger.read_sync(lambda tx: registrations_of(tx, [delivery]))[delivery]
    assert (found.id, found.rule) == (claimed.id, "renamed")
    assert found.state is (State.QUEUED if state is State.PARKED else state)
    moves = ledger.read_sync(waiting_moves)
    assert [one.reason for one in moves] == (
        ["needs_approval"] if mode is Mode.CHANNEL and state is State.WAITING else []
    )


@pytest.mark.parametrize("reason", [Reason.APP_MISSING, Reason.VERSION_NAME_INVALID])
def test_what_the_rule_leads_elsewhere_goes_there_alone(ledger: Ledger, reason: Reason) -> None:
    delivery = came_to(ledger, one=CREATED, other=Result(State.PARKED, reason=reason))
    elsewhere = Rule(REPOSITORY, "third", "second")

    read_again(ledger, [ONE, elsewhere])

    assert stand(ledger, delivery) == [
        ("one", "done", None), ("other", "done", None), ("third", "queued", None)
    ]  # fmt: skip

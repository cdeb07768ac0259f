"""Catch-up among replicas: one lists for all in a period, and what failed is tried by the next."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from receiver.sandbox.calls import Fault
from receiver.sandbox.dockerhub import DockerHubSandbox
from receiver.upkeep import catch_up
from tests.support.dockerhub import hub_beside, listings
from tests.support.postgres import plain, rows
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import REPOSITORY, RULE, until

MINUTE = 60_000
PERIOD = 15 * MINUTE
BY_HAND = '\n[catch_up]\nevery = "off"\n'

Begin = Callable[..., AbstractContextManager[ReceiverHere]]


@pytest.fixture
def hub() -> DockerHubSandbox:
    hub = DockerHubSandbox(api_limit=None)
    hub.add_repository(REPOSITORY)
    return hub


@pytest.fixture
def begin(
    hub: DockerHubSandbox, tmp_path: Path, edgegap: str, postgres_url: URL
) -> Iterator[Begin]:
    """Begins one more replica, beside Docker Hub."""
    with hub_beside(hub) as variables:
        given = {**variables, "DATABASE_URL": plain(postgres_url)}

        def begin(config: str = RULE) -> AbstractContextManager[ReceiverHere]:
            own = tmp_path / f"replica-{len(list(tmp_path.iterdir()))}"
            own.mkdir()
            return receiver_here(own, edgegap, config=config, environment=given)

        yield begin


@pytest.fixture
def pair(begin: Begin) -> Iterator[tuple[ReceiverHere, ReceiverHere]]:
    """Two that catch up when the test says so."""
    with begin(RULE + BY_HAND) as one, begin(RULE + BY_HAND) as other:
        yield one, other


def in_turn(receiver: ReceiverHere) -> float:
    """Let a replica do what it does when its period is over."""
    return receiver.inside(lambda: receiver.service.catch_up.run(PERIOD))


def let_pass(receiver: ReceiverHere, milliseconds: int) -> None:
    """As if the last run were so much longer ago."""
    earlier = "UPDATE cursors SET ran_at = ran_at - :passed"
    receiver.inside(
        lambda: receiver.ledger.write(lambda tx: tx.run(earlier, passed=milliseconds).rowcount)
    )


def last_run(url: URL) -> tuple[bool, str]:
    """Whether there was one, and what its problem was."""
    ((ran, problem),) = rows(url, "SELECT ran_at IS NOT NULL, problem FROM cursors")
    return ran, problem


def its_first_turn_is_over(receiver: ReceiverHere) -> None:
    """Wait until it has begun, and has released the lock that its first turn held."""
    until(lambda: not receiver.service.catch_up._asked)

    async def nobody_is_at_it() -> bool:
        async with receiver.ledger.try_lock("catch-up") as free:
            return free

    until(lambda: receiver.inside(nobody_is_at_it))


def test_in_a_period_one_lists_for_all(
    pair: tuple[ReceiverHere, ReceiverHere], hub: DockerHubSandbox
) -> None:
    one, other = pair

    for replica in (one, other, one):
        in_turn(replica)
    assert len(listings(hub)) == 1

    let_pass(one, PERIOD)
    for replica in (other, one, other):
        in_turn(replica)
    assert len(listings(hub)) == 2


def test_a_failed_turn_is_tried_again_by_the_next_replica(
    pair: tuple[ReceiverHere, ReceiverHere], hub: DockerHubSandbox, postgres_url: URL
) -> None:
    one, other = pair
    hub.misbehave(Fault("status", status=503, times=None))
    in_turn(one)
    assert last_run(postgres_url)[1]

    hub.behave()
    hub.push_image(REPOSITORY, "1.0.0")
    before = len(listings(hub))
    in_turn(other)

    assert len(listings(hub)) == before + 1
    assert last_run(postgres_url) == (True, "")
    assert rows(postgres_url, "SELECT source, tag FROM deliveries") == [("catch-up", "1.0.0")]


def test_a_clock_that_was_put_back_does_not_end_it(
    pair: tuple[ReceiverHere, ReceiverHere], hub: DockerHubSandbox
) -> None:
    in_turn(pair[0])
    let_pass(pair[0], -100 * PERIOD)

    in_turn(pair[1])

    assert len(listings(hub)) == 2


def test_of_many_that_start_the_first_lists_and_after_an_outage_of_all_the_next(
    begin: Begin, hub: DockerHubSandbox, postgres_url: URL
) -> None:
    with begin() as first:
        until(lambda: last_run(postgres_url) == (True, ""))
        with begin() as second, begin() as third:
            for replica in (second, third):
                its_first_turn_is_over(replica)
            assert len(listings(hub)) == 1
            let_pass(first, 2 * MINUTE)  # less than a period

    hub.push_image(REPOSITORY, "1.0.0")
    with begin():
        until(lambda: len(listings(hub)) == 2)
        until(lambda: rows(postgres_url, "SELECT tag FROM deliveries") == [("1.0.0",)])


def test_what_another_had_begun_and_did_not_end_is_looked_at_soon(
    begin: Begin, hub: DockerHubSandbox, postgres_url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catch_up, "ANOTHERS_TURN_SECONDS", 0.1)
    with begin(RULE + BY_HAND) as at_it:
        turn = at_it.service.ledger.try_lock("catch-up")
        assert at_it.inside(turn.__aenter__)
        with begin() as other:
            until(lambda: not other.service.catch_up._asked)
            hub.push_image(REPOSITORY, "1.0.0")
            at_it.inside(lambda: turn.__aexit__(None, None, None))

            until(lambda: rows(postgres_url, "SELECT tag FROM deliveries") == [("1.0.0",)])

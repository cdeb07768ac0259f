"""A replay of many deliveries does not create again what retention deleted."""

import pytest

from receiver.ledger.deletions import begin_deletion, end_deletion
from receiver.ledger.ledger import Ledger
from receiver.ledger.transaction import Tx
from receiver.rules.rule import Rule
from receiver.upkeep.replay import Replayed, replay_selected, selected
from tests.support.ledger_work import finish, pushed, write
from tests.support.receiver_process import APP, REPOSITORY

RULE = Rule(REPOSITORY, APP, f"{REPOSITORY} → {APP}")


@pytest.fixture
def deliveries(ledger: Ledger) -> dict[str, str]:
    """Two pushes, both created; the version of the first was deleted since."""
    found = {}
    for tag in ("1.0", "1.1"):
        found[tag] = write(ledger, lambda tx, tag=tag: pushed(tx, tag))  # type: ignore[misc]
        finish(ledger)

    def delete(tx: Tx) -> None:
        deletion = begin_deletion(tx, APP, "1.0", why="beyond keep = 1")
        end_deletion(tx, deletion, deleted=True, why=deletion.why)

    write(ledger, delete)
    return found


def replayed(ledger: Ledger, *ids: str, since: int | None = None) -> dict[str, Replayed]:
    def replay(tx: Tx) -> dict[str, Replayed | None]:
        chosen, _ = selected(tx, ids, parked=False, since=since, after="", most=100)
        return replay_selected(tx, [RULE], chosen)

    return {one.delivery: one for one in write(ledger, replay).values() if one is not None}


def test_replaying_all_since_a_time_leaves_what_was_deleted(
    ledger: Ledger, deliveries: dict[str, str]
) -> None:
    """It was created again, and deleted a second later."""
    found = replayed(ledger, since=0)

    one = found[deliveries["1.0"]]
    assert one.registrations == ()
    assert one.sentence == (
        f"{APP}/1.0 was deleted since (beyond keep = 1) and is not created again; to create it, "
        "replay this delivery by its id."
    )
    assert len(found[deliveries["1.1"]].registrations) == 1


def test_a_delivery_named_by_its_id_is_created_again(
    ledger: Ledger, deliveries: dict[str, str]
) -> None:
    found = replayed(ledger, deliveries["1.0"], since=0)

    assert len(found[deliveries["1.0"]].registrations) == 1

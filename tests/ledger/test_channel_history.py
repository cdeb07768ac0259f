"""Which image a rollback without a version puts back, on both engines."""

import pytest
from sqlalchemy import event

from receiver.images import ImageReference
from receiver.ledger.channels import Earlier, before, read_channel_state
from receiver.ledger.claims import claim
from receiver.ledger.ledger import Ledger
from receiver.ledger.transaction import Tx
from receiver.ledger.trials import TRIAL
from receiver.reasons import Outcome
from receiver.rules.rule import Mode, Rule
from receiver.upkeep.channels import promote, rollback_channel
from receiver.web.versions import known_versions
from tests.support.ledger_work import OWNER, done, one_claim, pushed, settled, write
from tests.support.receiver_process import APP, REPOSITORY

NAME = "open"
RULES = (Rule(REPOSITORY, APP, f"{REPOSITORY} → {APP}", channels=(NAME,)),)


def tried(ledger: Ledger, tag: str, *, passed: bool, digest: str | None = None) -> None:
    """Note the verdict of a trial."""

    def insert(tx: Tx) -> None:
        tx.run(
            "INSERT INTO trials (id, registration_id, app, version, repository, tag, digest, at,"
            " passed) VALUES (:id, 'r', :app, :tag, :repository, :tag, :digest, '', :passed)",
            id=tx.new_id(TRIAL), app=APP, repository=REPOSITORY, tag=tag, digest=digest,
            passed=passed,
        )  # fmt: skip

    write(ledger, insert)


def moved(ledger: Ledger, tag: str, digest: str | None = None) -> None:
    """Let a push move the channel."""
    write(ledger, lambda tx: pushed(tx, tag, version=NAME, mode=Mode.CHANNEL))
    assert settled(ledger, one_claim(ledger), done(Outcome.UPDATED, digest=digest))


def promoted(ledger: Ledger, to: str) -> None:
    """Move the channel by hand."""
    write(
        ledger,
        lambda tx: promote(tx, RULES, APP, NAME, to=to, from_channel=None, source="command"),
    )
    assert settled(ledger, one_claim(ledger), done(Outcome.UPDATED))


def rolled_back(ledger: Ledger) -> str:
    """Roll the channel back; return the tag that it gets."""
    shown = write(ledger, lambda tx: known_versions(tx, APP, ())).before[NAME]
    write(ledger, lambda tx: rollback_channel(tx, RULES, APP, NAME, None, source="command"))
    (one,) = write(ledger, lambda tx: claim(tx, owner=OWNER, most=1))
    assert settled(ledger, one, done(Outcome.UPDATED))
    assert shown is not None
    assert shown.image == one.image  # what the page says that a rollback puts back
    return one.image.tag


@pytest.mark.parametrize("promoted_to", [None, "4.1.0"])
def test_a_rollback_finds_the_last_image_that_passed(
    ledger: Ledger, promoted_to: str | None
) -> None:
    for tag in ("3.9.0", "4.0.0", "4.1.0", "4.2.0"):
        tried(ledger, tag, passed=tag < "4.1")
        moved(ledger, tag)
    if promoted_to is not None:
        promoted(ledger, promoted_to)

    assert [rolled_back(ledger) for _ in range(2)] == ["4.0.0", "3.9.0"]


def test_it_is_the_previous_image_if_none_passed(ledger: Ledger) -> None:
    for tag in ("4.0.0", "4.1.0", "4.2.0"):
        tried(ledger, tag, passed=False)
        moved(ledger, tag)
    promoted(ledger, "4.1.0")

    assert rolled_back(ledger) == "4.2.0"


def test_what_it_was_rolled_back_from_is_not_put_back(ledger: Ledger) -> None:
    for tag in ("4.0.0", "4.1.0", "4.2.0"):
        tried(ledger, tag, passed=True)
        moved(ledger, tag)

    assert [rolled_back(ledger) for _ in range(2)] == ["4.1.0", "4.0.0"]
    assert write(ledger, lambda tx: read_channel_state(tx, APP, NAME)).tag == "4.0.0"


def test_an_image_that_failed_its_last_trial_is_not_put_back(ledger: Ledger) -> None:
    """It had passed one before, under another tag: players got what was known to crash."""
    tried(ledger, "3.9.0", passed=True, digest="sha256:c")
    tried(ledger, "4.0.0", passed=True, digest="sha256:a")
    tried(ledger, "nightly", passed=False, digest="sha256:a")
    for tag in ("3.9.0", "4.0.0", "4.1.0"):
        moved(ledger, tag)

    assert rolled_back(ledger) == "3.9.0"


def test_a_move_may_go_only_to_digests_whose_last_trial_passed(ledger: Ledger) -> None:
    for digest, verdicts in {"a": (True, False), "b": (False, True), "c": (True,)}.items():
        for passed in verdicts:
            tried(ledger, "4.0.0", passed=passed, digest=f"sha256:{digest}")
    tried(ledger, "nightly", passed=False, digest="sha256:c")
    write(ledger, lambda tx: pushed(tx, "4.0.0", version=NAME, mode=Mode.CHANNEL))

    assert one_claim(ledger).evidence.proven == {"sha256:b"}


def test_a_long_history_without_trials_costs_as_little_as_a_short_one(ledger: Ledger) -> None:
    for number in range(30):
        moved(ledger, f"1.{number}.0")
    asked = []

    def reads(tx: Tx) -> Earlier | None:
        engine = tx.connection.engine
        event.listen(engine, "before_cursor_execute", lambda *call: asked.append(call[2]))
        image = ImageReference(repository=REPOSITORY, tag="1.29.0")
        return before(tx, APP, NAME, image)

    found = write(ledger, reads)

    assert found is not None
    assert found.image.tag == "1.28.0"
    assert len(asked) == 2

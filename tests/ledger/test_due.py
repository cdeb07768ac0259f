"""What is worked on next, on both engines: what costs money, then pushes, then other trials."""

from msgspec.structs import replace

from receiver.backoff import WaitState
from receiver.config.settings import Settings
from receiver.ledger.claims import claim, next_due
from receiver.ledger.ledger import Ledger
from receiver.ledger.outbox import enqueue, lease_due
from receiver.ledger.results import Result, record_request
from receiver.ledger.transaction import Tx
from receiver.notifications.destinations import Notice, NotificationEvent
from receiver.pipeline.worker import ClaimResult, claim_due
from receiver.reasons import Reason
from receiver.rules.rule import Mode
from receiver.rules.trial import TrialRun
from receiver.secret import Secret
from tests.support.ledger_work import OWNER, one_claim, pushed, settled, write

TEAM = Notice("team", Secret("json://nowhere"))
WAITING = Result.waiting(Reason.TRIAL_RUNNING, "", 1, WaitState())


def deploy(ledger: Ledger, tag: str) -> None:
    """Leave a trial whose deployment runs, and is due to be looked at."""
    write(ledger, lambda tx: pushed(tx, tag, mode=Mode.TRIAL))
    one = one_claim(ledger)
    call = {"step": 0, "method": "POST", "path": "/v2/deployments"}
    assert write(ledger, lambda tx: record_request(tx, one, OWNER, **call))  # type: ignore[arg-type]
    run = TrialRun(request_id=tag, requested_at=1)
    assert settled(ledger, one, replace(WAITING, trial=run))


def queue(ledger: Ledger, *tags: str, mode: Mode = Mode.CREATE, due_at: int) -> None:
    """Queue one for each tag; a smaller `due_at` is longer overdue."""
    due = "UPDATE registrations SET due_at = :at WHERE tag = :tag AND mode = :mode"

    def work(tx: Tx) -> None:
        for number, tag in enumerate(tags):
            pushed(tx, tag, mode=mode)
            tx.run(due, at=due_at + number, tag=tag, mode=mode.value)

    write(ledger, work)


def taken(ledger: Ledger, most: int = 1) -> list[tuple[str, str]]:
    """Claim at most that many; return the kind and the tag of each."""
    claimed = write(ledger, lambda tx: claim(tx, owner=OWNER, most=most))
    return sorted((one.mode.value, one.image.tag) for one in claimed)


def test_a_push_comes_before_the_trials_that_wait_and_after_one_that_runs(ledger: Ledger) -> None:
    """With a thousand that waited for room, a version was created after 18 seconds."""
    deploy(ledger, "0.9")
    queue(ledger, "1.0", "1.1", mode=Mode.TRIAL, due_at=10)
    queue(ledger, "staging", mode=Mode.CHANNEL, due_at=30)
    queue(ledger, "2.0", due_at=20)
    write(ledger, lambda tx: tx.run("UPDATE registrations SET due_at = 40 WHERE tag = '0.9'"))

    found = [taken(ledger) for _ in range(6)]

    order = [("trial", "0.9"), ("create", "2.0"), ("channel", "staging")]
    assert found == [*([one] for one in order), [("trial", "1.0")], [("trial", "1.1")], []]


def test_trials_take_what_nothing_else_needs(ledger: Ledger) -> None:
    queue(ledger, "1.0", "1.1", "1.2", mode=Mode.TRIAL, due_at=10)
    queue(ledger, "2.0", due_at=20)

    assert taken(ledger, 3) == [("create", "2.0"), ("trial", "1.0"), ("trial", "1.1")]


def test_within_a_target_too_what_runs_comes_first_and_what_waits_last(ledger: Ledger) -> None:
    for tag in ("1.0", "1.1"):
        deploy(ledger, tag)
        queue(ledger, tag, due_at=3)
    over = """UPDATE trials SET stopped_at = 1 WHERE registration_id = (
     SELECT id FROM registrations WHERE tag = '1.1' AND mode = 'trial')"""
    write(ledger, lambda tx: tx.run(over))
    late = "tag = '1.0' AND mode = 'trial'"
    write(ledger, lambda tx: tx.run(f"UPDATE registrations SET due_at = 5 WHERE {late}"))

    assert taken(ledger, 9) == [("create", "1.1"), ("trial", "1.0")]


def test_the_next_is_due_when_a_push_or_a_trial_is(ledger: Ledger) -> None:
    queue(ledger, "2.0", due_at=20)
    assert write(ledger, next_due) == 20
    queue(ledger, "1.0", mode=Mode.TRIAL, due_at=10)
    assert write(ledger, next_due) == 10
    assert len(taken(ledger, 9)) == 2
    assert write(ledger, next_due) is None


def test_only_what_changes_something_counts_as_a_commit_of_a_page(ledger: Ledger) -> None:
    """Each turn of an idle worker had every open tab rendered again."""

    def turn(tx: Tx) -> ClaimResult:
        return claim_due(tx, Settings(), owner=OWNER, in_progress=(), free=5, shared=ledger.shared)

    write(ledger, turn)
    before = ledger.commits
    write(ledger, turn)
    write(ledger, lease_due)
    assert ledger.commits == before

    queue(ledger, "1.0", due_at=1)
    write(ledger, lambda tx: enqueue(tx, [TEAM], NotificationEvent.PARKED, "a text"))
    before = ledger.commits
    assert write(ledger, turn).claimed
    assert ledger.commits == before + 1
    assert write(ledger, lease_due)
    assert ledger.commits == before + 2

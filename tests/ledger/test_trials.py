"""Trials in the ledger, on both engines: runs, verdicts, what is left running."""

from functools import partial
from typing import Any

import pytest
from msgspec.structs import replace

from receiver.backoff import WaitState
from receiver.edgegap.deployment_answers import read_logs
from receiver.images import ImageReference
from receiver.ledger.channels import note_move
from receiver.ledger.claims import CRASHES_TO_ALONE, Claimed, claim, next_due, waits_alone
from receiver.ledger.clock import Reading, keep_time
from receiver.ledger.deliveries import set_digest
from receiver.ledger.gates import ALL, pause
from receiver.ledger.ledger import Ledger
from receiver.ledger.purge import purge_trials
from receiver.ledger.results import Result, record_request
from receiver.ledger.transaction import Tx
from receiver.ledger.trials import (
    STOPPED_UNWATCHED,
    begin_run,
    has_passed,
    is_ours,
    is_wanted,
    last_run,
    note_run,
    note_stop,
    note_stopped,
    orphaned_runs,
    plan_run,
    trial_time,
    wake_channels,
)
from receiver.reasons import Outcome, Reason, State
from receiver.rules.channel_order import Report
from receiver.rules.rule import Mode
from receiver.rules.trial import Phase, TrialRun
from tests.support.ledger_work import MINUTE, OWNER, at, one_claim, pushed, settled, write
from tests.support.receiver_process import APP, REPOSITORY

NOW = 1_790_000_000_000
DIGESTS = ("tried", "other")
IMAGE = ImageReference(repository=REPOSITORY, tag="1.0")
RUN = TrialRun(
    request_id="abc",
    requested_at=NOW,
    ready_at=NOW + 1,
    left_at=NOW + 1,
    unread_at=NOW + 2,
    decided_at=NOW + 2,
    passed=False,
    why="it crashed",
    exit_code=139,
    log=("line 1", "ünïcode"),
    notes=("CPU at most 1",),
    stop_at=NOW + 3,
)


def claimed(ledger: Ledger) -> Claimed:
    """A trial that is worked on, and whose deployment is about to be requested."""
    write(ledger, at(NOW, lambda tx: pushed(tx, "1.0", mode=Mode.TRIAL)))
    one = one_claim(ledger)
    asked = at(
        NOW,
        lambda tx: record_request(tx, one, OWNER, step=0, method="POST", path="/v2/deployments"),
    )
    assert write(ledger, asked)
    return one


def noted(ledger: Ledger, one: Claimed, run: TrialRun, **result: Any) -> None:
    ended = {"outcome": Outcome.PASSED if run.passed else None, **result}
    state = State.DONE if ended["outcome"] else State.PARKED
    reason = None if ended["outcome"] else Reason.TRIAL_FAILED
    assert settled(ledger, one, Result(state, reason=reason, trial=run, **ended))


def read(ledger: Ledger, look: Any) -> Any:
    return ledger.read_sync(look)


def test_the_intent_is_there_before_the_request_and_a_run_comes_back_whole(ledger: Ledger) -> None:
    one = claimed(ledger)

    begun = read(ledger, lambda tx: last_run(tx, one.id))
    assert begun == TrialRun(requested_at=NOW)
    assert begun.phase is Phase.REQUESTED
    noted(ledger, one, RUN)
    assert read(ledger, lambda tx: last_run(tx, one.id)) == RUN


def test_a_verdict_is_of_the_digest_that_was_found_right_before_the_run(ledger: Ledger) -> None:
    """The version was created without one, and so the verdict counted for any digest."""
    one = claimed(ledger)
    noted(ledger, one, replace(RUN, passed=True), digest="sha256:tried")

    verdicts = read(
        ledger, lambda tx: [has_passed(tx, APP, IMAGE, f"sha256:{one}") for one in DIGESTS]
    )

    assert verdicts == [True, None]


def test_a_planned_run_begins_with_its_location(ledger: Ledger) -> None:
    write(ledger, lambda tx: pushed(tx, "1.0", mode=Mode.TRIAL))
    one = one_claim(ledger)
    write(ledger, lambda tx: plan_run(tx, one.id, near="1,2", keep=MINUTE))
    assert read(ledger, lambda tx: last_run(tx, one.id)).phase is Phase.PLANNED

    write(
        ledger,
        at(NOW, lambda tx: record_request(tx, one, OWNER, step=0, method="POST", path="/v2/d")),
    )

    assert read(ledger, lambda tx: last_run(tx, one.id)) == TrialRun(
        near="1,2", keep=MINUTE, requested_at=NOW
    )


def test_a_planned_run_is_of_the_digest_that_is_known_when_it_begins(ledger: Ledger) -> None:
    write(ledger, lambda tx: pushed(tx, "1.0", mode=Mode.TRIAL))
    one = one_claim(ledger)
    write(ledger, lambda tx: set_digest(tx, one.id, "sha256:other", overwritten=False))
    write(ledger, lambda tx: plan_run(tx, one.id, near="1,2", keep=None))
    write(ledger, lambda tx: set_digest(tx, one.id, "sha256:tried", overwritten=True))

    assert write(
        ledger, lambda tx: record_request(tx, one, OWNER, step=0, method="POST", path="/v2/d")
    )

    of = "SELECT digest FROM trials"
    assert read(ledger, lambda tx: tx.run(of).scalar_one()) == "sha256:tried"


def test_a_trial_is_taken_up_with_the_digest_of_its_version(ledger: Ledger) -> None:
    write(ledger, lambda tx: pushed(tx, "1.0"))
    created = Result.done(Outcome.CREATED)
    assert settled(ledger, one_claim(ledger), replace(created, digest="sha256:new"))
    write(ledger, lambda tx: pushed(tx, "1.0", mode=Mode.TRIAL))

    assert one_claim(ledger).known_digest == "sha256:new"


@pytest.mark.parametrize("passed", [True, None])
def test_without_a_verdict_the_next_run_is_the_same_trial(
    ledger: Ledger, passed: bool | None
) -> None:
    write(ledger, lambda tx: pushed(tx, "1.0", mode=Mode.TRIAL))
    one = one_claim(ledger)
    write(ledger, lambda tx: plan_run(tx, one.id, near="1,2", keep=MINUTE))
    ended = TrialRun("1,2", MINUTE, requested_at=NOW, passed=passed, stopped_at=NOW)
    waiting = Result.waiting(Reason.NO_CAPACITY, "", 1, WaitState())
    assert settled(ledger, one, replace(waiting, trial=ended))
    one = one_claim(ledger)

    assert write(
        ledger, lambda tx: record_request(tx, one, OWNER, step=0, method="POST", path="/v2/d")
    )

    run = read(ledger, lambda tx: last_run(tx, one.id))
    assert (run.near, run.keep) == (("", None) if passed else ("1,2", MINUTE))


@pytest.mark.parametrize("passed", [True, False])
def test_the_last_verdict_counts_for_the_digest(ledger: Ledger, passed: bool) -> None:
    one = claimed(ledger)
    write(ledger, lambda tx: tx.run("UPDATE trials SET digest = :one", one="sha256:a").rowcount)
    noted(ledger, one, TrialRun(requested_at=NOW, passed=passed, stopped_at=NOW))

    def verdict(digest: str | None) -> bool | None:
        found: bool | None = read(ledger, lambda tx: has_passed(tx, APP, IMAGE, digest))
        return found

    assert (verdict("sha256:a"), verdict(None)) == (passed, passed)
    assert verdict("sha256:b") is None
    again = replace(IMAGE, tag="2.0")
    assert read(ledger, lambda tx: has_passed(tx, APP, again, "sha256:a")) is passed
    assert read(ledger, lambda tx: has_passed(tx, APP, again, None)) is None
    other = replace(IMAGE, repository="studio/other")
    assert read(ledger, lambda tx: has_passed(tx, APP, other, "sha256:a")) is None
    assert read(ledger, lambda tx: has_passed(tx, "lobby", IMAGE, None)) is None


def test_a_verdict_without_a_digest_is_only_of_the_tag(ledger: Ledger) -> None:
    noted(ledger, claimed(ledger), replace(RUN, passed=True))

    verdicts = read(
        ledger, lambda tx: [has_passed(tx, APP, IMAGE, digest) for digest in (None, "sha256:a")]
    )

    assert verdicts == [True, None]


def test_a_verdict_wakes_the_moves_of_its_digest(ledger: Ledger) -> None:
    for tag in ("1.0", "2.0", "3.0"):
        write(ledger, partial(pushed, tag=tag, version=f"for-{tag}", mode=Mode.CHANNEL))
    digests = {"a": "sha256:a", "b": "sha256:b"}
    sql = """UPDATE registrations SET state = 'waiting', due_at = :later,
     digest = CASE WHEN tag = '3.0' THEN :b ELSE :a END"""
    write(ledger, lambda tx: tx.run(sql, later=NOW + MINUTE, **digests).rowcount)

    write(ledger, at(NOW, lambda tx: wake_channels(tx, APP, IMAGE, "sha256:a")))

    woken = "SELECT tag FROM registrations WHERE due_at = :now ORDER BY tag"
    assert read(ledger, lambda tx: tx.run(woken, now=NOW).scalars().all()) == ["1.0", "2.0"]


@pytest.mark.parametrize("passed", [True, False, None])
def test_a_deployment_that_is_stopped_makes_room_for_the_newest_trial_that_waits(
    ledger: Ledger, passed: bool | None
) -> None:
    """They waited for up to ten minutes more: on the free plan, with its one deployment, each."""
    one = claimed(ledger)
    for tag in ("2.0", "3.0", "4.0"):
        repository = "studio/paused" if tag == "4.0" else REPOSITORY
        write(ledger, partial(pushed, tag=tag, mode=Mode.TRIAL, repository=repository))
    sql = """UPDATE registrations SET state = 'waiting', waiting_reason = 'no_capacity',
     due_at = :later WHERE tag <> '1.0'"""
    write(ledger, lambda tx: tx.run(sql, later=NOW + MINUTE).rowcount)
    write(ledger, lambda tx: pause(tx, "studio/paused", source="command"))

    run = replace(RUN, passed=passed, stopped_at=NOW)  # without a verdict: it was refused itself
    write(ledger, at(NOW, lambda tx: note_run(tx, one.id, run)))

    woken = "SELECT tag FROM registrations WHERE state = 'waiting' AND due_at = :now"
    found = read(ledger, lambda tx: tx.run(woken, now=NOW).scalars().all())
    assert found == ([] if passed is None else ["3.0"])


def test_a_trial_is_taken_up_with_the_verdict_of_its_image(ledger: Ledger) -> None:
    one = claimed(ledger)
    assert one.evidence.passed is None
    noted(ledger, one, replace(RUN, passed=True, stopped_at=NOW), outcome=None)
    write(ledger, lambda tx: tx.run("UPDATE registrations SET state = 'queued'").rowcount)

    assert one_claim(ledger).evidence.passed is True


def test_what_nobody_works_on_any_more_is_left_until_it_is_gone(ledger: Ledger) -> None:
    one = claimed(ledger)
    assert read(ledger, orphaned_runs) == []  # it is worked on
    assert read(ledger, lambda tx: is_wanted(tx, one.id, "any"))  # its id is not known yet
    running = TrialRun(request_id="abc", requested_at=NOW)
    noted(ledger, one, running)

    (left,) = read(ledger, orphaned_runs)
    assert (left.registration, left.request_id, left.version) == (one.id, "abc", "1.0")
    assert read(ledger, lambda tx: is_wanted(tx, one.id, "abc"))
    assert not read(ledger, lambda tx: is_wanted(tx, one.id, "second"))
    assert read(ledger, lambda tx: is_ours(tx, one.id))
    assert not read(ledger, lambda tx: is_ours(tx, "r01another"))

    write(ledger, at(NOW + MINUTE, lambda tx: note_stopped(tx, left.id)))
    assert read(ledger, orphaned_runs) == []
    assert read(ledger, trial_time) == {APP: MINUTE}
    assert not read(ledger, lambda tx: is_wanted(tx, one.id, "abc"))


@pytest.mark.parametrize("passed", [None, True])
@pytest.mark.parametrize("request_id", [None, "abc"])
def test_what_the_sweep_stops_is_noted_and_proves_nothing_without_a_verdict(
    ledger: Ledger, passed: bool | None, request_id: str | None
) -> None:
    one = claimed(ledger)
    noted(ledger, one, TrialRun(request_id=request_id, requested_at=NOW, passed=passed))
    (left,) = read(ledger, at(NOW + 10 * MINUTE, orphaned_runs))

    assert write(ledger, at(NOW + 5, lambda tx: note_stop(tx, left, "abc")))

    run = read(ledger, lambda tx: last_run(tx, one.id))
    assert (run.request_id, run.stop_at, run.phase) == ("abc", NOW + 5, Phase.STOPPING)
    assert run.why == ("" if passed else STOPPED_UNWATCHED)


@pytest.mark.parametrize("state", [State.QUEUED, State.WORKING, State.WAITING])
def test_what_is_worked_on_again_is_not_stopped(ledger: Ledger, state: State) -> None:
    """A reload queued it again after the sweep had found it."""
    one = claimed(ledger)
    noted(ledger, one, replace(RUN, passed=None, why="", stop_at=None))
    (left,) = read(ledger, orphaned_runs)
    sql = "UPDATE registrations SET state = :state"
    write(ledger, lambda tx: tx.run(sql, state=state.value).rowcount)

    assert not write(ledger, lambda tx: note_stop(tx, left, "abc"))
    assert read(ledger, lambda tx: last_run(tx, one.id)).stop_at is None


def test_the_runs_before_it_that_proved_nothing_are_counted(ledger: Ledger) -> None:
    one = claimed(ledger)
    for why in ("its logs cannot be read", "", "its logs cannot be read"):  # "": no capacity
        write(ledger, lambda tx: begin_run(tx, one.id))
        ended = TrialRun(request_id="abc", requested_at=NOW, stopped_at=NOW, why=why)
        write(ledger, partial(note_run, registration=one.id, run=ended))
    write(ledger, lambda tx: begin_run(tx, one.id))

    run = read(ledger, lambda tx: last_run(tx, one.id))

    assert (run.repeats, run.phase) == (2, Phase.REQUESTED)


def test_what_is_kept_is_left_once_its_time_is_over(ledger: Ledger) -> None:
    one = claimed(ledger)
    noted(ledger, one, replace(RUN, passed=True, stop_at=NOW + MINUTE))

    assert read(ledger, at(NOW + MINUTE - 1, orphaned_runs)) == []
    (left,) = read(ledger, at(NOW + MINUTE, orphaned_runs))
    assert left.is_kept


@pytest.mark.parametrize("what", [REPOSITORY, ALL])
@pytest.mark.parametrize("crashes", [0, CRASHES_TO_ALONE])
def test_a_pause_does_not_hold_back_what_is_deployed(
    ledger: Ledger, what: str, crashes: int
) -> None:
    """Its deployment is watched and stopped; what was not requested yet stays where it is."""
    one = claimed(ledger)
    waiting = Result.waiting(Reason.TRIAL_RUNNING, "", NOW, WaitState())
    assert settled(ledger, one, replace(waiting, trial=RUN))
    write(ledger, lambda tx: pushed(tx, "1.1", mode=Mode.TRIAL))
    write(ledger, lambda tx: pushed(tx, "1.0"))  # the same target, and first in the queue
    write(ledger, lambda tx: tx.run("UPDATE registrations SET crashes = :n", n=crashes).rowcount)
    write(ledger, lambda tx: tx.run("UPDATE registrations SET due_at = 1").rowcount)
    write(ledger, lambda tx: pause(tx, what))

    assert read(ledger, next_due) == 1
    assert read(ledger, waits_alone) is bool(crashes)
    work = write(ledger, lambda tx: claim(tx, owner="w", most=9, alone=bool(crashes)))
    assert [again.id for again in work] == [one.id]
    assert settled(ledger, work[0], replace(waiting, trial=replace(RUN, stopped_at=NOW)), owner="w")
    assert read(ledger, next_due) is None
    assert not read(ledger, waits_alone)
    assert write(ledger, lambda tx: claim(tx, owner="w", most=9, alone=bool(crashes))) == []


@pytest.mark.parametrize("step", [-3_600_000, 3_600_000])
def test_its_times_go_along_when_the_clock_is_set(ledger: Ledger, step: int) -> None:
    """Else a trial that had just begun was not Ready in time."""
    one = claimed(ledger)
    before, after = Reading(NOW, 100.0), Reading(NOW + 3_000 + step, 103.0)

    write(ledger, lambda tx: keep_time(tx, before, after, shared=tx.postgresql))

    assert read(ledger, lambda tx: last_run(tx, one.id)).requested_at == NOW + step


def test_a_verdict_is_kept_as_long_as_its_version(ledger: Ledger) -> None:
    one = claimed(ledger)
    noted(ledger, one, TrialRun(requested_at=NOW, passed=True, stopped_at=NOW))

    def purge(tx: Tx) -> int:
        return purge_trials(tx, NOW + 1)[0]

    write(ledger, lambda tx: tx.run("UPDATE trials SET id = 'x0'").rowcount)
    assert write(ledger, purge) == 0  # its registration is there
    write(ledger, lambda tx: tx.run("DELETE FROM registrations").rowcount)
    by: dict[str, Any] = {"before": None, "action": "push", "rule": "r", "registration": "r1"}
    write(ledger, lambda tx: note_move(tx, APP, "prod", IMAGE, Report(None, NOW), **by))
    assert write(ledger, purge) == 0  # a rollback looks for what passed
    write(ledger, lambda tx: tx.run("DELETE FROM channel_moves").rowcount)
    assert write(ledger, purge) == 1


def test_a_verdict_is_kept_as_long_as_any_version_has_its_digest(ledger: Ledger) -> None:
    """The version that was tried is deleted; one of another tag passed by its digest."""
    one = claimed(ledger)
    noted(ledger, one, TrialRun(requested_at=NOW, passed=True, stopped_at=NOW))
    write(ledger, lambda tx: tx.run("UPDATE trials SET id = 'x0', digest = 'tried'").rowcount)
    write(ledger, lambda tx: pushed(tx, "stable"))
    assert settled(ledger, one_claim(ledger), replace(Result.done(Outcome.CREATED), digest="tried"))
    write(ledger, lambda tx: tx.run("DELETE FROM registrations").rowcount)

    def purge(tx: Tx) -> int:
        return purge_trials(tx, NOW + 1)[0]

    assert write(ledger, purge) == 0
    write(ledger, lambda tx: tx.run("UPDATE targets SET deleted_at = :now", now=NOW).rowcount)
    stable = ImageReference(repository=REPOSITORY, tag="stable")
    by: dict[str, Any] = {"before": None, "action": "push", "rule": "r", "registration": "r1"}
    write(ledger, lambda tx: note_move(tx, APP, "prod", stable, Report("tried", NOW), **by))
    assert write(ledger, purge) == 0  # a rollback looks for what passed
    write(ledger, lambda tx: tx.run("DELETE FROM channel_moves").rowcount)
    assert write(ledger, purge) == 1


@pytest.mark.parametrize("code", [3_221_225_477, 10**30, -(10**30)])
def test_every_exit_code_can_be_kept(ledger: Ledger, code: int) -> None:
    """A result that the ledger refuses would be written again and again."""
    crash = read_logs({"crash_data": {"exit_code": code}}, ()).crash
    assert crash is not None
    one = claimed(ledger)

    noted(ledger, one, replace(RUN, exit_code=crash.exit_code))

    assert read(ledger, lambda tx: last_run(tx, one.id)).exit_code == crash.exit_code


def test_a_verdict_of_a_tag_ends_with_its_next_push_also_once_its_trial_is_purged(
    ledger: Ledger,
) -> None:
    """Without preflight no digest is known, and the new image moved its channels untried."""
    write(ledger, at(NOW, lambda tx: pushed(tx, "1.0", pushed_at=NOW)))
    assert settled(ledger, one_claim(ledger), Result.done(Outcome.CREATED))
    write(ledger, at(NOW, lambda tx: pushed(tx, "1.0", mode=Mode.TRIAL, pushed_at=NOW)))
    one = one_claim(ledger)
    assert write(
        ledger,
        at(NOW, lambda tx: record_request(tx, one, OWNER, step=0, method="POST", path="/v2/d")),
    )
    noted(ledger, one, TrialRun(requested_at=NOW, passed=True, stopped_at=NOW))
    write(ledger, lambda tx: tx.run("DELETE FROM registrations WHERE mode = 'trial'").rowcount)
    assert read(ledger, lambda tx: has_passed(tx, APP, IMAGE, None)) is True

    later = NOW + MINUTE
    write(ledger, at(later, lambda tx: pushed(tx, "1.0", pushed_at=later)))
    assert settled(ledger, one_claim(ledger), Result.done(Outcome.UNCHANGED))

    assert read(ledger, lambda tx: has_passed(tx, APP, IMAGE, None)) is None

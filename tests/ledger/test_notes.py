"""What the ledger notes beside the work, on both engines: gates, pauses, cursors, notices."""

from functools import partial

from receiver.dockerhub.webhook import Push
from receiver.ledger import gates
from receiver.ledger.claims import claim
from receiver.ledger.cursors import (
    begin_cursors,
    count_unreported,
    failing,
    is_known,
    move_cursor,
    note_problem,
    read_cursors,
)
from receiver.ledger.deliveries import NewDelivery, record
from receiver.ledger.gates import ALL, pause, paused, resume
from receiver.ledger.ledger import Ledger
from receiver.ledger.outbox import enqueue, forget, lease_due, reschedule
from receiver.notifications.destinations import EVERYTHING, Notice, NotificationEvent
from receiver.reasons import Reason, Verdict
from receiver.rules.rule import Decision
from receiver.secret import Secret
from tests.support.ledger_work import (
    MINUTE,
    at,
    done,
    one_claim,
    pushed,
    settled,
    write,
)

DAY = 24 * 60 * MINUTE


def test_a_busy_gate_is_never_shortened_and_ends_by_itself(ledger: Ledger) -> None:
    now = write(ledger, lambda tx: tx.now)
    write(ledger, lambda tx: gates.slow_down(tx, now + 2 * MINUTE, "busy"))
    write(ledger, lambda tx: gates.slow_down(tx, now + MINUTE, "busy too"))

    (closed,) = write(ledger, at(now + MINUTE, gates.closed_gates))
    assert closed.until == now + 2 * MINUTE
    assert write(ledger, at(now + 3 * MINUTE, gates.closed_gates)) == []


def test_a_refused_token_closes_once_and_each_probe_is_taken_by_one(ledger: Ledger) -> None:
    now = write(ledger, lambda tx: tx.now)
    close = partial(gates.close_token_gate, sentence="refused")
    assert write(ledger, at(now, close))
    assert not write(ledger, at(now, close))
    assert not write(ledger, at(now, gates.take_probe))

    late = at(now + MINUTE, gates.take_probe)
    assert [write(ledger, late), write(ledger, late)] == [True, False]

    write(ledger, gates.open_token_gate)
    assert ledger.read_sync(gates.closed_gates) == []


def test_a_token_whose_gate_a_person_opened_is_unproven(ledger: Ledger) -> None:
    now = write(ledger, lambda tx: tx.now)
    close = partial(gates.close_token_gate, sentence="refused")
    assert write(ledger, at(now, close))
    assert not ledger.read_sync(gates.is_token_unproven)

    assert write(ledger, at(now, partial(gates.open_gate, name="token")))
    assert ledger.read_sync(gates.is_token_unproven)
    assert not write(ledger, at(now, close))  # as before: no news
    assert write(ledger, at(now, partial(gates.open_gate, name="token")))
    accepted = [write(ledger, at(now, gates.open_token_gate)) for _ in range(2)]

    assert accepted == [True, False]
    assert not ledger.read_sync(gates.is_token_unproven)
    assert not write(ledger, at(now, partial(gates.open_gate, name="token")))


def test_pauses_hold_back_what_is_claimed(ledger: Ledger) -> None:
    write(ledger, lambda tx: pushed(tx, "1.0"))
    write(ledger, lambda tx: pause(tx, "studio/game-server"))
    write(ledger, lambda tx: pause(tx, ALL))
    assert set(ledger.read_sync(paused)) == {"studio/game-server", ALL}
    assert write(ledger, lambda tx: claim(tx, owner="w", most=1)) == []

    assert write(ledger, lambda tx: resume(tx, "studio/game-server"))
    assert not write(ledger, lambda tx: resume(tx, "studio/game-server"))
    assert write(ledger, lambda tx: claim(tx, owner="w", most=1)) == []

    assert write(ledger, lambda tx: resume(tx, ALL))
    assert one_claim(ledger).image.tag == "1.0"


def test_a_gate_that_closes_again_has_its_new_start(ledger: Ledger) -> None:
    for now, until in ((DAY, DAY + MINUTE), (2 * DAY, 2 * DAY + 10), (2 * DAY + 5, 2 * DAY + 20)):
        write(ledger, at(now, lambda tx, until=until: gates.slow_down(tx, until, "slow down")))  # type: ignore[misc]

    (gate,) = write(ledger, at(2 * DAY + 6, gates.closed_gates))

    assert (gate.since, gate.until) == (2 * DAY, 2 * DAY + 20)


def test_cursors_begin_once_and_never_go_back(ledger: Ledger) -> None:
    write(ledger, lambda tx: begin_cursors(tx, ["studio/game-server", "studio/lobby"]))
    begun = {one.repository: one.since for one in ledger.read_sync(read_cursors)}
    since = begun["studio/lobby"]

    write(ledger, lambda tx: begin_cursors(tx, ["studio/lobby"]))
    write(ledger, lambda tx: move_cursor(tx, "studio/lobby", since + MINUTE))
    write(ledger, lambda tx: move_cursor(tx, "studio/lobby", since))
    write(ledger, lambda tx: note_problem(tx, "studio/game-server", "it is out"))

    game, lobby = ledger.read_sync(read_cursors)
    assert (lobby.since, lobby.problem) == (since + MINUTE, "")
    assert (game.since, game.problem) == (begun["studio/game-server"], "it is out")


def test_a_cursor_remembers_its_last_success_whatever_fails_afterwards(ledger: Ledger) -> None:
    write(ledger, at(DAY, lambda tx: begin_cursors(tx, ["studio/lobby"])))
    (begun,) = ledger.read_sync(read_cursors)
    write(ledger, at(2 * DAY, lambda tx: move_cursor(tx, "studio/lobby", 2 * DAY)))
    write(ledger, at(3 * DAY, lambda tx: note_problem(tx, "studio/lobby", "HTTP 401")))
    (failed,) = ledger.read_sync(read_cursors)

    assert (begun.succeeded_at, begun.last_success_at) == (None, DAY)
    assert (failed.succeeded_at, failed.last_success_at, failed.ran_at) == (
        2 * DAY,
        2 * DAY,
        3 * DAY,
    )
    found = failing([failed], {"studio/lobby"})
    assert found is not None
    assert found.since == 2 * DAY
    assert "studio/lobby failed: HTTP 401" in found.sentence
    assert failing([failed], {"studio/game-server"}) is None
    assert failing([begun], {"studio/lobby"}) is None


def test_two_pushes_in_a_row_without_a_webhook_are_news_until_one_arrives(ledger: Ledger) -> None:
    repository, start = "studio/game-server", write(ledger, lambda tx: tx.now)

    def counted(minutes: int, pushes: int = 1) -> bool:
        moment = start + minutes * MINUTE
        return write(ledger, at(moment, lambda tx: count_unreported(tx, repository, pushes)))

    def webhook(minutes: int, verdict: Verdict = Verdict.IGNORED) -> None:
        answer = NewDelivery(source="webhook", repository=repository)
        ruling = Decision(verdict, Reason.NO_TAG)
        write(ledger, at(start + minutes * MINUTE, lambda tx: record(tx, answer, ruling)))

    assert not counted(0)  # it was never served here
    write(ledger, at(start, lambda tx: begin_cursors(tx, [repository])))
    assert [counted(1), counted(2), counted(3)] == [False, True, False]
    webhook(4, Verdict.REFUSED)  # a stranger's, perhaps
    assert not counted(5)
    webhook(6)
    assert [counted(7), counted(8)] == [False, True]
    webhook(9)
    assert [counted(10, pushes=3), counted(11)] == [True, False]
    webhook(12)
    assert not counted(13)
    webhook(14)
    assert not counted(15)


def test_a_cursor_from_a_clock_that_was_ahead_is_set_right(ledger: Ledger) -> None:
    write(ledger, at(10 * DAY, lambda tx: begin_cursors(tx, ["studio/lobby"])))
    write(ledger, at(20 * DAY, lambda tx: move_cursor(tx, "studio/lobby", 20 * DAY)))

    (answer,) = write(ledger, at(11 * DAY, read_cursors))
    write(ledger, at(11 * DAY, lambda tx: move_cursor(tx, "studio/lobby", 11 * DAY)))

    (moved,) = write(ledger, at(11 * DAY + MINUTE, read_cursors))
    assert (answer.since, moved.since) == (11 * DAY, 11 * DAY)


def test_a_cursor_begun_by_a_clock_that_was_ahead_begins_again(ledger: Ledger) -> None:
    write(ledger, at(20 * DAY, lambda tx: begin_cursors(tx, ["studio/lobby"])))

    (answer,) = write(ledger, at(11 * DAY, read_cursors))

    assert answer.looks_back_to == 11 * DAY


def test_a_push_is_known_by_its_digest_or_its_second(ledger: Ledger) -> None:
    write(ledger, lambda tx: pushed(tx, "1.0", pushed_at=1_700_000_000_000))
    digest = "sha256:" + "b" * 64

    def asked(digest: str | None, pushed_at: int | None) -> bool:
        push = Push("studio/game-server", "1.0", digest=digest, pushed_at=pushed_at)
        return ledger.read_sync(lambda tx: is_known(tx, push))

    assert asked(digest, 1_700_000_000_999)
    assert not asked(digest, 1_700_000_001_000)
    settled(ledger, one_claim(ledger), done(digest=digest))
    assert asked(digest, None)
    assert not asked("sha256:" + "c" * 64, 1_700_000_000_999)


def test_notices_are_taken_by_one_and_come_again_when_put_off(ledger: Ledger) -> None:
    team = Notice(name="team", url=Secret("json://nowhere"), on=EVERYTHING)
    write(ledger, lambda tx: enqueue(tx, [team], NotificationEvent.CREATED, "made"))

    (taken,) = write(ledger, lease_due)
    assert (taken.text, taken.event, taken.tries) == ("made", NotificationEvent.CREATED, 0)
    assert write(ledger, lease_due) == []

    write(ledger, lambda tx: reschedule(tx, [taken.id], tx.now, tries=3))
    (again,) = write(ledger, lease_due)
    assert (again.id, again.tries) == (taken.id, 3)
    write(ledger, lambda tx: forget(tx, [taken.id]))
    assert write(ledger, at(2**50, lease_due)) == []


def test_a_token_refused_and_accepted_by_turns_is_news_once_and_probed_ever_less(
    ledger: Ledger,
) -> None:
    """A proxy that refuses one body is no lost token: it shut all work for 10 s without end."""
    now, news, waits = write(ledger, lambda tx: tx.now), [], []
    for _ in range(4):
        news.append(write(ledger, at(now, partial(gates.close_token_gate, sentence="refused"))))
        (gate,) = write(ledger, at(now, gates.closed_gates))
        waits.append(gate.until - now)
        now = gate.until
        assert write(ledger, at(now, gates.take_probe))
        write(ledger, at(now, gates.open_token_gate))

    assert news == [True, False, False, False]
    assert waits == [10_000, 20_000, 40_000, 80_000]
    later = now + 20 * MINUTE
    assert write(ledger, at(later, partial(gates.close_token_gate, sentence="refused")))


def test_notices_of_a_newer_program_are_left_to_it(ledger: Ledger) -> None:
    team = Notice(name="team", url=Secret("json://nowhere"), on=EVERYTHING)
    for _ in range(2):
        write(ledger, lambda tx: enqueue(tx, [team], NotificationEvent.CREATED, "made"))
    unknown = "UPDATE outbox SET event = 'eclipse' WHERE id = (SELECT min(id) FROM outbox)"
    write(ledger, lambda tx: tx.run(unknown))

    assert [one.event for one in write(ledger, lease_due)] == [NotificationEvent.CREATED]

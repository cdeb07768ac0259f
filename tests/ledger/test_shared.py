"""Replicas on one PostgreSQL, looked at through the ledger: who may do what, and who waits."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from types import SimpleNamespace
from typing import Any, TypeVar

import psycopg
import pytest
from sqlalchemy import Connection, event
from sqlalchemy.engine import URL

from receiver.config.settings import Settings
from receiver.errors import LedgerError
from receiver.ledger import claims, results, writer
from receiver.ledger import engine as engines
from receiver.ledger import transaction as transactions
from receiver.ledger.claims import LEASE_MS, MAX_CRASHES, Reclaimed, claim, reclaim_expired, renew
from receiver.ledger.deliveries import NewDelivery, record
from receiver.ledger.gates import close_token_gate, take_probe
from receiver.ledger.ledger import Ledger
from receiver.ledger.queries import delivery_detail
from receiver.ledger.replicas import heartbeat, leave, try_lock_claims
from receiver.ledger.results import record_request
from receiver.ledger.transaction import Tx
from receiver.pipeline.worker import ClaimResult, claim_due
from receiver.reasons import State, Verdict
from receiver.rules.rule import Decision, Match
from tests.support.ledger_work import MINUTE, alone, done, finish, one_claim, pushed, settled, write
from tests.support.postgres import Postgres, plain, rows
from tests.support.receiver_process import APP, REPOSITORY, until

T = TypeVar("T")


CUT_ALL = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE pid <> pg_backend_pid() AND datname = current_database()"""


class Held:
    """A transaction of one replica that is under way until `go` is called."""

    def __init__(self, ledger: Ledger, before: Callable[[Tx], T], after: Callable[[Tx], T]) -> None:
        self._going = threading.Event()
        self._begun = threading.Event()
        self._pool = ThreadPoolExecutor(1)

        def work(tx: Tx) -> tuple[T, T]:
            first = before(tx)
            self._begun.set()
            assert self._going.wait(10)
            return first, after(tx)

        self._done = self._pool.submit(write, ledger, work)
        assert self._begun.wait(10)

    def go(self) -> tuple[Any, Any]:
        self._going.set()
        self._pool.shutdown()
        return self._done.result()


def nothing(tx: Tx) -> None:
    """Do nothing more."""


def test_the_time_is_the_databases_whatever_a_replicas_own_clock_says(
    replicas: tuple[Ledger, Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = write(replicas[0], lambda tx: tx.now)
    ahead = SimpleNamespace(time_ns=lambda: (right + 60 * MINUTE) * 1_000_000)
    monkeypatch.setattr(transactions, "time", ahead)

    assert abs(write(replicas[1], lambda tx: tx.now) - right) < MINUTE


def test_replicas_that_start_together_make_one_schema(postgres_url: URL) -> None:
    ledgers = [Ledger(postgres_url) for _ in range(4)]
    with ThreadPoolExecutor(4) as starting:
        for begun in [starting.submit(ledger.open_to_write) for ledger in ledgers]:
            begun.result()

    assert write(ledgers[3], lambda tx: pushed(tx, "1.0"))
    for ledger in ledgers:
        ledger.close()


def test_fsync_or_commits_that_do_not_wait_are_refused(postgres_url: URL) -> None:
    with psycopg.connect(plain(postgres_url), autocommit=True) as connection:
        name = str(postgres_url.database).encode()
        connection.execute(b"ALTER DATABASE " + name + b" SET synchronous_commit = off")
    ledger = Ledger(postgres_url)

    with pytest.raises(LedgerError, match="synchronous_commit = off"):
        ledger.open_to_write()
    ledger.close()


def test_an_unreachable_server_is_reported_without_the_password() -> None:
    url = engines.read_database_url("postgresql://me:canary-secret@127.0.0.1:9/none")
    ledger = Ledger(url)

    with pytest.raises(LedgerError, match="cannot be opened") as answer:
        ledger.open_to_write()
    assert "canary-secret" not in str(answer.value)
    ledger.close()


def test_what_one_is_claiming_another_passes_over(replicas: tuple[Ledger, Ledger]) -> None:
    one, other = replicas
    write(one, lambda tx: [pushed(tx, f"1.{number}") for number in range(3)])
    claiming = Held(one, lambda tx: claim(tx, owner="one", most=2), nothing)

    others = write(other, lambda tx: claim(tx, owner="other", most=9))
    claimed, _ = claiming.go()

    assert [one.image.tag for one in claimed] == ["1.0", "1.1"]
    assert [one.image.tag for one in others] == ["1.2"]


def test_two_that_claim_one_target_at_once_have_no_trouble(replicas: tuple[Ledger, Ledger]) -> None:
    one, other = replicas
    now = write(one, lambda tx: tx.now)

    def early(tx: Tx) -> None:
        pushed(tx, "1.0", version="stable")
        tx._now = now - MINUTE
        pushed(tx, "2.0", version="stable")

    write(one, early)

    def claim_the_later(tx: Tx) -> object:
        # As a replica sees it that looked before the other was due.
        tx._now = now - 1
        return claim(tx, owner="one", most=1)

    write(one, lambda tx: tx.run("UPDATE registrations SET due_at = :d WHERE tag = '1.0'", d=now))
    claiming = Held(one, claim_the_later, nothing)
    with ThreadPoolExecutor(1) as waiting:
        second = waiting.submit(write, other, _claim_first_due(now))
        _until_somebody_waits(other)
        ours, _ = claiming.go()

    assert [one.image.tag for one in ours] == ["2.0"]
    assert second.result() == []


def _claim_first_due(now: int) -> Callable[[Tx], list[claims.Claimed]]:
    def work(tx: Tx) -> list[claims.Claimed]:
        # The one that is claimed elsewhere is passed over; its target has another.
        tx.run("UPDATE registrations SET due_at = :d WHERE tag = '1.0'", d=now - 2 * MINUTE)
        tx._now = now
        return claim(tx, owner="other", most=1)

    return work


def _until_somebody_waits(ledger: Ledger) -> None:
    waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    until(lambda: rows(ledger._url, waiting))


def test_a_push_reported_to_two_replicas_at_once_is_one_registration(
    replicas: tuple[Ledger, Ledger],
) -> None:
    one, other = replicas
    recording = Held(one, lambda tx: pushed(tx, "1.0"), nothing)
    with ThreadPoolExecutor(1) as waiting:
        second = waiting.submit(write, other, lambda tx: pushed(tx, "1.0"))
        _until_somebody_waits(other)
        first, _ = recording.go()

    answer = [one.read_sync(partial(delivery_detail, identity=d)) for d in (first, second.result())]
    led = [found.registrations[0].id for found in answer if found is not None]
    assert len(led) == 2
    assert led[0] == led[1]


def lose_next_commits_answer(ledger: Ledger) -> None:
    """The server commits, and is gone before it says so."""
    left = [ledger]

    @event.listens_for(ledger._write_engine, "commit")
    def commit(connection: Connection) -> None:
        if left:
            left.clear()
            driver = connection.connection.driver_connection
            assert isinstance(driver, psycopg.Connection)
            driver.commit()
            rows(ledger._url, f"SELECT pg_terminate_backend({driver.info.backend_pid})")
            connection.exec_driver_sql("SELECT 1")


def test_what_was_claimed_by_a_commit_whose_answer_was_lost_is_worked_on_at_once(
    replicas: tuple[Ledger, Ledger],
) -> None:
    """It lay in nobody's hands until its lease ran out, and then counted as a crash."""
    one, _ = replicas
    write(one, lambda tx: pushed(tx, "1.0"))
    lose_next_commits_answer(one)

    def turn(tx: Tx) -> ClaimResult:
        return claim_due(tx, Settings(), owner="worker", in_progress=(), free=5, shared=True)

    (claimed,) = write(one, turn).claimed

    assert settled(one, claimed, done())
    assert rows(one._url, "SELECT state, crashes FROM registrations") == [("done", 0)]


def test_what_was_settled_by_a_commit_whose_answer_was_lost_is_known_as_settled(
    replicas: tuple[Ledger, Ledger],
) -> None:
    one, other = replicas
    write(one, lambda tx: [pushed(tx, "1.0"), pushed(tx, "2.0")])
    first, second = one_claim(one), one_claim(one)
    lose_next_commits_answer(one)

    assert not settled(one, first, done())
    assert write(one, lambda tx: results.already_finished(tx, first, done()))
    assert not write(one, lambda tx: results.already_finished(tx, second, done()))
    write(other, lambda tx: tx.run("UPDATE registrations SET fence = fence + 1").rowcount)
    assert not write(one, lambda tx: results.already_finished(tx, first, done()))


def test_a_push_reported_while_another_settles_it_opens_a_new_registration(
    replicas: tuple[Ledger, Ledger],
) -> None:
    one, other = replicas
    write(one, lambda tx: pushed(tx, "1.0"))
    claimed = one_claim(one)
    settling = Held(one, lambda tx: results.settle(tx, claimed, "worker", done()), nothing)
    with ThreadPoolExecutor(1) as waiting:
        again = waiting.submit(write, other, lambda tx: pushed(tx, "1.0"))
        _until_somebody_waits(other)
        settling.go()

    found = one.read_sync(lambda tx: delivery_detail(tx, again.result()))
    assert found is not None
    assert [one.state for one in found.registrations] == ["queued"]


def test_two_that_wait_for_each_other_both_come_through(replicas: tuple[Ledger, Ledger]) -> None:
    one, other = replicas
    crossing = threading.Barrier(2)

    def both(ledger: Ledger, first: str, second: str) -> None:
        def work(tx: Tx) -> None:
            pushed(tx, first)
            if not crossing.broken:
                with suppress(threading.BrokenBarrierError):
                    crossing.wait(2)
                crossing.abort()
            pushed(tx, second)

        write(ledger, work)

    with ThreadPoolExecutor(2) as crossed:
        for done_ in [crossed.submit(both, one, "1", "2"), crossed.submit(both, other, "2", "1")]:
            done_.result()

    assert rows(one._url, "SELECT count(*) FROM deliveries") == [(4,)]
    assert rows(one._url, "SELECT count(*) FROM registrations") == [(2,)]


def test_a_dead_ones_work_is_taken_over_when_its_lease_ends_and_not_before(
    replicas: tuple[Ledger, Ledger],
) -> None:
    one, other = replicas
    write(one, lambda tx: pushed(tx, "1.0"))
    lost = one_claim(one, "dead")

    def look(later: int) -> list[Reclaimed]:
        def work(tx: Tx) -> list[Reclaimed]:
            tx._now = tx.now + later
            return reclaim_expired(tx, all_of_them=False)

        return write(other, work)

    assert look(LEASE_MS - 5000) == []
    assert look(LEASE_MS + 5000) == [Reclaimed(lost.id, State.QUEUED)]
    write(other, lambda tx: tx.run("UPDATE registrations SET due_at = 0").rowcount)
    assert one_claim(other, "heir").id == lost.id

    # The dead one was only asleep: it may write nothing, and send nothing, any more.
    assert not settled(one, lost, done(), "dead")
    assert write(one, lambda tx: renew(tx, [lost], "dead")) == [lost.id]
    posting = {"step": 0, "method": "POST", "path": "/v1/x"}
    assert not write(one, lambda tx: record_request(tx, lost, "dead", **posting))  # type: ignore[arg-type]
    assert rows(one._url, "SELECT count(*) FROM requests") == [(0,)]


def test_a_renewed_lease_is_not_taken_over(replicas: tuple[Ledger, Ledger]) -> None:
    one, other = replicas
    write(one, lambda tx: pushed(tx, "1.0"))
    claimed = one_claim(one)

    def later(tx: Tx) -> list[str]:
        tx._now = tx.now + LEASE_MS - 1000
        return renew(tx, [claimed], "worker")

    assert write(one, later) == []

    def much_later(tx: Tx) -> list[Reclaimed]:
        tx._now = tx.now + LEASE_MS + 5000
        return reclaim_expired(tx, all_of_them=False)

    assert write(other, much_later) == []


def test_work_that_kills_one_replica_after_another_is_parked(
    replicas: tuple[Ledger, Ledger],
) -> None:
    one, other = replicas
    write(one, lambda tx: pushed(tx, "1.0"))
    states = []
    for turn in range(MAX_CRASHES):
        one_claim(replicas[turn % 2], f"dies {turn}")

        def die(tx: Tx) -> list[Reclaimed]:
            tx.run("UPDATE registrations SET lease_until = 0, due_at = 0")
            return reclaim_expired(tx, all_of_them=False)

        states += [one.state for one in write(other, die)]
        write(other, lambda tx: tx.run("UPDATE registrations SET due_at = 0").rowcount)

    assert states == ["queued"] * (MAX_CRASHES - 1) + ["parked"]


def test_a_gate_and_its_probe_are_one_for_all(replicas: tuple[Ledger, Ledger]) -> None:
    one, other = replicas
    assert write(one, lambda tx: close_token_gate(tx, "refused"))
    assert not write(other, lambda tx: close_token_gate(tx, "refused"))

    def probe(tx: Tx) -> bool:
        tx._now = tx.now + MINUTE
        return take_probe(tx)

    assert [write(one, probe), write(other, probe)] == [True, False]


def test_replicas_are_counted_while_they_show_themselves(
    replicas: tuple[Ledger, Ledger],
) -> None:
    one, other = replicas
    assert write(one, lambda tx: heartbeat(tx, "one")) == 1
    assert write(other, lambda tx: heartbeat(tx, "other")) == 2

    def later(tx: Tx) -> int:
        tx._now = tx.now + 11_000
        return heartbeat(tx, "one")

    assert write(one, later) == 1
    write(other, lambda tx: leave(tx, "one"))
    assert write(other, lambda tx: heartbeat(tx, "other")) == 1


def test_what_a_dead_replica_held_keeps_no_other_idle(replicas: tuple[Ledger, Ledger]) -> None:
    """Killed at work, it stopped all others until its leases expired, for 30 s."""
    one, other = replicas
    write(one, lambda tx: pushed(tx, "1.0"))
    write(one, lambda tx: pushed(tx, "1.1"))
    write(one, lambda tx: heartbeat(tx, "one"))
    assert len(write(one, lambda tx: claim(tx, owner="one", most=2))) == 2
    write(other, lambda tx: pushed(tx, "2.0"))

    def turn(tx: Tx) -> ClaimResult:
        return claim_due(
            tx, Settings(concurrency=2), owner="other", in_progress=(), free=2, shared=True
        )

    assert write(other, turn).claimed == ()
    (claimed,) = write(other, at_later(11_000, turn)).claimed
    assert claimed.image.tag == "2.0"


def at_later(by: int, work: Callable[[Tx], T]) -> Callable[[Tx], T]:
    """The same work, done `by` ms later."""

    def then(tx: Tx) -> T:
        tx._now = tx.now + by
        return work(tx)

    return then


def test_one_claims_at_a_time_so_that_the_cap_is_kept(replicas: tuple[Ledger, Ledger]) -> None:
    one, other = replicas
    claiming = Held(one, try_lock_claims, nothing)

    assert not write(other, try_lock_claims)
    assert claiming.go() == (True, None)
    assert write(other, try_lock_claims)


def test_a_replica_stopped_during_a_write_does_not_hold_the_others_up(
    postgres_url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "IDLE_IN_TRANSACTION_MS", 300)
    one, other = Ledger(postgres_url), Ledger(postgres_url)
    one.open_to_write()
    other.open_to_write()
    stopped = Held(one, lambda tx: pushed(tx, "1.0"), lambda tx: pushed(tx, "2.0"))

    assert write(other, lambda tx: pushed(tx, "1.0"))  # the same row: it would wait for ever

    assert stopped.go()  # resumed, it finds its connection cut, and does it all again
    counted = rows(postgres_url, "SELECT tag, count(*) FROM deliveries GROUP BY tag ORDER BY tag")
    assert counted == [("1.0", 2), ("2.0", 1)]
    one.close()
    other.close()


def test_a_database_restarted_is_used_again_by_writer_reader_and_locks(
    postgres: Postgres, replicas: tuple[Ledger, Ledger]
) -> None:
    one, _ = replicas
    before = write(one, lambda tx: pushed(tx, "1.0"))
    assert one.read_sync(lambda tx: delivery_detail(tx, before))

    postgres.crash()
    with pytest.raises(LedgerError):
        write(one, lambda tx: pushed(tx, "not accepted"))
    with pytest.raises(LedgerError):
        one.read_sync(lambda tx: delivery_detail(tx, before))
    with pytest.raises(LedgerError):
        asyncio.run(alone(one))
    postgres.start()

    assert one.read_sync(lambda tx: delivery_detail(tx, before))
    finish(one)
    assert rows(one._url, CUT_ALL)  # as by a restart while nobody asked anything
    after = write(one, lambda tx: pushed(tx, "2.0"))
    assert one.read_sync(lambda tx: delivery_detail(tx, after))
    assert asyncio.run(alone(one))
    assert rows(one._url, "SELECT tag FROM deliveries ORDER BY id") == [("1.0",), ("2.0",)]


def test_an_older_replica_works_on_while_a_newer_one_adds_to_the_schema(
    replicas: tuple[Ledger, Ledger],
) -> None:
    one, _ = replicas
    for number in range(8):  # so that its statements are prepared by now
        write(one, lambda tx, n=number: pushed(tx, f"1.{n}"))  # type: ignore[misc]
        finish(one)

    with psycopg.connect(plain(one._url)) as newer:
        newer.execute("ALTER TABLE registrations ADD COLUMN colour text NOT NULL DEFAULT ''")
        newer.execute("ALTER TABLE deliveries ADD COLUMN colour text")
        newer.execute("UPDATE alembic_version SET version_num = '9999'")

    delivery = write(one, lambda tx: pushed(tx, "2.0"))
    finish(one)
    found = one.read_sync(lambda tx: delivery_detail(tx, delivery))
    assert found is not None
    assert found.registrations[0].outcome == "created"


def test_a_push_ruled_on_by_two_rules_makes_both_registrations(
    replicas: tuple[Ledger, Ledger],
) -> None:
    one, other = replicas
    matches = tuple(Match(rule=app, app=app, version="1.0") for app in (APP, "lobby"))
    answer = NewDelivery(source="webhook", repository=REPOSITORY, tag="1.0")

    recorded = write(
        one, lambda tx: record(tx, answer, Decision(Verdict.ACCEPTED, matches=matches))
    )

    claimed = [*write(other, lambda tx: claim(tx, owner="w", most=9))]
    assert sorted(one.id for one in claimed) == sorted(recorded.registrations)


def test_a_database_that_sorts_as_a_language_does_is_refused(postgres: Postgres) -> None:
    """In Danish aa comes after z: purging, which goes by ids, took what was young."""
    url = postgres.new_database()
    name = f"{url.database}_danish"
    make = f"CREATE DATABASE {name} LOCALE_PROVIDER icu ICU_LOCALE 'da-DK' TEMPLATE template0"
    with psycopg.connect(plain(url), autocommit=True) as connection:
        connection.execute(make.encode())
    ledger = Ledger(url.set(database=name))

    with pytest.raises(LedgerError, match="LC_COLLATE 'C'"):
        ledger.open_to_write()
    ledger.close()


def test_a_writer_that_waits_for_a_lock_does_not_keep_the_receiver_from_ending(
    postgres_url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "CLOSING_SECONDS", 0.2)
    ledger = Ledger(postgres_url)
    ledger.open_to_write()
    with psycopg.connect(plain(postgres_url)) as stranger, ThreadPoolExecutor(1) as pool:
        assert ledger._writer is not None
        thread = ledger._writer._thread
        stranger.execute("LOCK TABLE deliveries")
        held = pool.submit(write, ledger, lambda tx: pushed(tx, "1.0"))
        until(lambda: stranger.execute(WAITING_FOR_IT).fetchone() == (True,))

        ledger.close()

        stranger.rollback()
        assert held.result()  # it was only waiting, and nobody had got an answer yet
    thread.join()


WAITING_FOR_IT = "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted)"

"""The ledger keeps the same promises on SQLite and on PostgreSQL: the same words, run on both."""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine
from sqlalchemy.engine import URL
from sqlalchemy.pool import NullPool

from receiver.edgegap.answers import Answer
from receiver.errors import BadBody, LedgerError, LedgerSchemaError
from receiver.intake import refuse
from receiver.ledger import gates, ids
from receiver.ledger.cursors import begin_cursors, is_known, move_cursor, note_problem, read_cursors
from receiver.ledger.leases import hand_back, void_leases
from receiver.ledger.ledger import Ledger
from receiver.ledger.migrate import SERVES
from receiver.ledger.notices import forget, put_off, take_due, tell
from receiver.ledger.overviews import overview
from receiver.ledger.pauses import ALL, pause, paused, resume
from receiver.ledger.recording import NewDelivery, record
from receiver.ledger.registrations import claim, settle
from receiver.ledger.schema import metadata
from receiver.ledger.standing import read_standing
from receiver.ledger.stories import Filter, list_deliveries, story
from receiver.ledger.targets import last_retirements, note_retirement, target
from receiver.ledger.transactions import Tx
from receiver.notices import EVERYTHING, Happening, Notice
from receiver.purge import Purge
from receiver.reasons import Outcome, Reason, State, Verdict
from receiver.rules import Match, Rule, Ruling
from receiver.secret import Secret
from receiver.settings import Current, Settings
from tests.at_work import MINUTE, done, finish, one_claim, parked, pushed, settled, waits

T = TypeVar("T")

Write = Callable[[Callable[[Tx], T]], T]
DAY = 24 * 60 * MINUTE


def write(ledger: Ledger, work: Callable[[Tx], T]) -> T:
    return asyncio.run(ledger.write(work))


def at(now: int, work: Callable[[Tx], T]) -> Callable[[Tx], T]:
    """The same work, done at another time."""

    def then(tx: Tx) -> T:
        tx._now = now
        return work(tx)

    return then


def test_the_migrations_lead_exactly_to_the_schema(ledger: Ledger, either: URL) -> None:
    engine = create_engine(either, poolclass=NullPool)
    defaults = either.drivername != "sqlite"  # Alembic cannot compare them there
    options = {"compare_type": True, "compare_server_default": defaults}
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        assert compare_metadata(context, metadata) == []


def test_a_newer_schema_that_says_it_serves_this_program_is_worked_on(either: URL) -> None:
    """So an upgrade may roll: who restarts in the midst of it starts, and it may be taken back."""
    newer = Ledger(either)
    newer.open_to_write(wait_seconds=0)
    write(newer, _as_a_newer_program_leaves_it)
    newer.close()

    again = Ledger(either)
    again.open_to_write(wait_seconds=0)
    assert write(again, lambda tx: pushed(tx, "1.0"))
    again.close()
    reading = Ledger(either)
    reading.open_to_read()
    reading.close()


def _as_a_newer_program_leaves_it(tx: Tx) -> None:
    tx.run("ALTER TABLE pauses ADD COLUMN why TEXT")
    tx.run("UPDATE alembic_version SET version_num = '0002'")
    tx.run("INSERT INTO meta (key, value) VALUES (:key, '0001')", key=SERVES)


def test_a_schema_of_a_newer_program_is_refused(either: URL) -> None:
    newer = Ledger(either)
    newer.open_to_write(wait_seconds=0)
    write(newer, lambda tx: tx.run("UPDATE alembic_version SET version_num = '9999'").rowcount)
    newer.close()
    again = Ledger(either)

    with pytest.raises(LedgerSchemaError, match="9999 is newer"):
        again.open_to_write(wait_seconds=0)
    with pytest.raises(LedgerSchemaError, match="9999"):
        again.open_to_read()
    again.close()


def test_a_ledger_that_was_never_made_is_not_read(either: URL) -> None:
    stranger = Ledger(either)

    with pytest.raises(LedgerError, match="receiver serve"):
        stranger.open_to_read()
    stranger.close()


def test_one_bad_write_fails_alone_and_leaves_nothing_of_itself(ledger: Ledger) -> None:
    def bad(tx: Tx) -> None:
        pushed(tx, "of the bad one")
        raise ZeroDivisionError

    def twice(tx: Tx) -> None:
        pushed(tx, "of the doubled one")
        for _ in range(2):
            tx.run("INSERT INTO meta (key, value) VALUES ('k', 'v')")

    async def mixed() -> list[object]:
        works = [lambda tx: pushed(tx, "1"), bad, twice, lambda tx: pushed(tx, "2")]
        tasks = [asyncio.create_task(ledger.write(work)) for work in works]
        return await asyncio.gather(*tasks, return_exceptions=True)

    before, fault, doubled, after = asyncio.run(mixed())

    assert isinstance(fault, ZeroDivisionError)
    assert isinstance(doubled, LedgerError)
    listed = ledger.read_now(lambda tx: list_deliveries(tx, Filter()))
    assert {one["id"] for one in listed} == {before, after}


def test_many_threads_may_look_at_once(ledger: Ledger) -> None:
    """They shared the one connection: whoever came second was told that it was in use."""
    write(ledger, lambda tx: pushed(tx, "1.0"))

    def slowly(tx: Tx) -> int:
        time.sleep(0.01)
        return len(list_deliveries(tx, Filter()))

    async def beside_each_other() -> list[int]:
        threads = [asyncio.to_thread(ledger.read_now, slowly) for _ in range(8)]
        return await asyncio.gather(*threads, *(ledger.read(slowly) for _ in range(8)))

    assert asyncio.run(beside_each_other()) == [1] * 16


def test_a_delivery_is_told_as_it_was_recorded(ledger: Ledger) -> None:
    told = NewDelivery(
        source="webhook",
        repository="studio/game-server",
        tag="1.0",
        media_type="application/vnd.oci.image.index.v1+json",
        pusher="ünïcode \u202e 100% :name",
        pushed_at=1_700_000_000_123,
        body_hash="0" * 64,
        body_bytes=2048,
    )
    ruling = Ruling(Verdict.IGNORED, Reason.NO_RULE, "No rule; 100% :sure")

    recorded = write(ledger, lambda tx: record(tx, told, ruling))

    found = ledger.read_now(lambda tx: story(tx, recorded.delivery))
    assert found is not None
    assert (found["pusher"], found["pushed_at"]) == (told.pusher, told.pushed_at)
    assert (found["verdict"], found["reason"]) == ("ignored", "no_rule")
    assert (found["sentence"], found["registrations"]) == ("No rule; 100% :sure", [])


def test_many_tellings_are_many_deliveries_and_one_registration(ledger: Ledger) -> None:
    async def six() -> list[str]:
        tellings = [ledger.write(lambda tx: pushed(tx, "1.0")) for _ in range(6)]
        return list(await asyncio.gather(*tellings))

    deliveries = asyncio.run(six())

    assert deliveries == sorted(set(deliveries))
    stories = [ledger.read_now(partial(story, identity=one)) for one in deliveries]
    registrations = {one["registrations"][0]["id"] for one in stories if one is not None}
    assert len(registrations) == 1


def test_what_is_claimed_is_worked_once_and_one_for_each_target(ledger: Ledger) -> None:
    for tag in ("1.0", "1.1", "1.2"):
        write(ledger, lambda tx, tag=tag: pushed(tx, tag, version="stable"))  # type: ignore[misc]
    write(ledger, lambda tx: pushed(tx, "2.0"))

    first = write(ledger, lambda tx: claim(tx, owner="one", most=9))
    second = write(ledger, lambda tx: claim(tx, owner="two", most=9))

    assert [one.image.tag for one in first] == ["1.0", "2.0"]
    assert second == []


@pytest.mark.parametrize("most", [1, 2, 7])
def test_never_more_is_claimed_than_was_asked(ledger: Ledger, most: int) -> None:
    write(ledger, lambda tx: [pushed(tx, f"1.{number}") for number in range(20)])

    assert len(write(ledger, lambda tx: claim(tx, owner="w", most=most))) == most


@pytest.mark.parametrize("dead", [True, False])
def test_what_a_dead_or_leaving_worker_had_in_hand_comes_before_what_came_since(
    ledger: Ledger, *, dead: bool
) -> None:
    began = write(ledger, lambda tx: tx.now) - MINUTE
    write(ledger, at(began, lambda tx: pushed(tx, "1.0")))
    left = write(ledger, at(began, lambda tx: claim(tx, owner="gone", most=1)))
    for number in range(3):
        write(ledger, at(began + 1 + number, lambda tx, n=number: pushed(tx, f"2.{n}")))  # type: ignore[misc]

    def free(tx: Tx) -> None:
        if dead:
            assert void_leases(tx, all_of_them=False)
        else:
            hand_back(tx, left, "gone")

    write(ledger, free)

    assert one_claim(ledger).image.tag == "1.0"


def test_what_crashes_again_goes_behind_what_came_since(ledger: Ledger) -> None:
    began = write(ledger, lambda tx: tx.now) - 10 * MINUTE
    write(ledger, at(began, lambda tx: pushed(tx, "1.0")))
    write(ledger, at(began + 1, lambda tx: pushed(tx, "2.0")))
    for crash in (1, 2):
        write(ledger, at(began + crash * MINUTE, lambda tx: claim(tx, owner="gone", most=1)))
        write(ledger, at(began + (crash + 1) * MINUTE, partial(void_leases, all_of_them=False)))

    assert one_claim(ledger).image.tag == "2.0"


def test_told_again_while_worked_it_is_looked_at_once_more(ledger: Ledger) -> None:
    write(ledger, lambda tx: pushed(tx, "1.0"))
    claimed = one_claim(ledger)
    again = write(ledger, lambda tx: pushed(tx, "1.0"))

    assert settled(ledger, claimed, done())

    found = ledger.read_now(lambda tx: story(tx, again))
    assert found is not None
    assert [one["state"] for one in found["registrations"]] == ["queued"]
    assert one_claim(ledger).id == claimed.id


def test_told_again_when_done_a_new_one_is_opened(ledger: Ledger) -> None:
    write(ledger, lambda tx: pushed(tx, "1.0"))
    first = finish(ledger)
    write(ledger, lambda tx: pushed(tx, "1.0"))

    assert one_claim(ledger).id != first.id


def test_told_again_a_parked_one_is_queued_and_a_waiting_one_keeps_its_time(
    ledger: Ledger,
) -> None:
    write(ledger, lambda tx: pushed(tx, "parked"))
    settled(ledger, one_claim(ledger), parked(Reason.APP_MISSING))
    write(ledger, lambda tx: pushed(tx, "waits"))
    settled(ledger, one_claim(ledger), waits(10 * MINUTE))

    for tag in ("parked", "waits"):
        write(ledger, lambda tx, tag=tag: pushed(tx, tag))  # type: ignore[misc]

    claimed = write(ledger, lambda tx: claim(tx, owner="w", most=9))
    assert [one.image.tag for one in claimed] == ["parked"]


def test_the_story_tells_each_call_and_the_target_holds_what_was_made(ledger: Ledger) -> None:
    delivery = write(ledger, lambda tx: pushed(tx, "1.0"))
    claimed = one_claim(ledger)
    calls = (Answer("GET", "/v1/x", 404, message="gone"), Answer("POST", "/v1/x", 200))

    settled(ledger, claimed, done(Outcome.CREATED, digest="sha256:" + "a" * 64, calls=calls))

    found = ledger.read_now(lambda tx: story(tx, delivery))
    assert found is not None
    (one,) = found["registrations"]
    assert (one["state"], one["outcome"], one["tries"]) == ("done", "created", 1)
    assert [(call["method"], call["status"]) for call in one["attempts"]] == [
        ("GET", 404),
        ("POST", 200),
    ]
    held = ledger.read_now(lambda tx: target(tx, "my-game", "1.0"))
    assert held is not None
    assert (held.tag, held.created_here, held.digest) == ("1.0", True, "sha256:" + "a" * 64)
    standing = ledger.read_now(read_standing)
    assert (standing.open, standing.oldest_unfinished) == ({}, None)
    assert standing.last_success is not None


def test_a_moved_target_remembers_what_it_held_before(ledger: Ledger) -> None:
    for tag in ("1.0", "2.0"):
        write(ledger, lambda tx, tag=tag: pushed(tx, tag, version="stable"))  # type: ignore[misc]
        settled(ledger, one_claim(ledger), done(Outcome.UPDATED))

    held = ledger.read_now(lambda tx: target(tx, "my-game", "stable"))

    assert held is not None
    assert held.before is not None
    assert (held.tag, held.before.tag) == ("2.0", "1.0")
    assert (held.created_here, held.made_at) == (False, None)


def test_a_retired_version_is_noted(ledger: Ledger) -> None:
    write(ledger, lambda tx: pushed(tx, "1.0"))
    finish(ledger)
    write(ledger, lambda tx: note_retirement(tx, "my-game", "1.0", retired=True, why="old"))

    found = ledger.read_now(lambda tx: target(tx, "my-game", "1.0"))
    assert found is not None
    assert found.retired_at is not None


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
    assert ledger.read_now(gates.closed_gates) == []


def test_pauses_hold_back_what_is_claimed(ledger: Ledger) -> None:
    write(ledger, lambda tx: pushed(tx, "1.0"))
    write(ledger, lambda tx: pause(tx, "studio/game-server"))
    write(ledger, lambda tx: pause(tx, ALL))
    assert set(ledger.read_now(paused)) == {"studio/game-server", ALL}
    assert write(ledger, lambda tx: claim(tx, owner="w", most=1)) == []

    assert write(ledger, lambda tx: resume(tx, "studio/game-server"))
    assert not write(ledger, lambda tx: resume(tx, "studio/game-server"))
    assert write(ledger, lambda tx: claim(tx, owner="w", most=1)) == []

    assert write(ledger, lambda tx: resume(tx, ALL))
    assert one_claim(ledger).image.tag == "1.0"


def test_a_hold_that_ended_and_comes_again_tells_since_when_it_holds_now(ledger: Ledger) -> None:
    for now, until in ((DAY, DAY + MINUTE), (2 * DAY, 2 * DAY + 10), (2 * DAY + 5, 2 * DAY + 20)):
        write(ledger, at(now, lambda tx, until=until: gates.slow_down(tx, until, "slow down")))  # type: ignore[misc]

    (gate,) = write(ledger, at(2 * DAY + 6, gates.closed_gates))

    assert (gate.since, gate.until) == (2 * DAY, 2 * DAY + 20)


def test_a_refused_body_is_recorded_whatever_length_its_sender_told(ledger: Ledger) -> None:
    error = BadBody(Reason.BODY_TOO_LARGE, "too large")

    recorded = asyncio.run(refuse(ledger, "studio/game", error, 10**12 - 1))

    told = ledger.read_now(lambda tx: story(tx, recorded.delivery))
    assert told is not None
    assert told["body_bytes"] >= 2**31 - 1


def test_what_is_told_of_retired_versions_goes_with_its_age(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ids, "_last", 0)  # ids of this process never go back, these must
    days = {"0.1": 200, "0.2": 150, "0.3": 1}
    for version, ago in days.items():
        note = partial(note_retirement, app="my-game", version=version, retired=True, why="old")
        write(ledger, at(time.time_ns() // 1_000_000 - ago * DAY, note))

    asyncio.run(Purge(ledger, Current(Settings())).run())

    left = ledger.read_now(lambda tx: last_retirements(tx, "my-game"))
    assert [one["version"] for one in left] == ["0.3"]


def test_cursors_begin_once_and_never_go_back(ledger: Ledger) -> None:
    write(ledger, lambda tx: begin_cursors(tx, ["studio/game-server", "studio/lobby"]))
    begun = {one.repository: one.since for one in ledger.read_now(read_cursors)}
    since = begun["studio/lobby"]

    write(ledger, lambda tx: begin_cursors(tx, ["studio/lobby"]))
    write(ledger, lambda tx: move_cursor(tx, "studio/lobby", since + MINUTE))
    write(ledger, lambda tx: move_cursor(tx, "studio/lobby", since))
    write(ledger, lambda tx: note_problem(tx, "studio/game-server", "it is out"))

    game, lobby = ledger.read_now(read_cursors)
    assert (lobby.since, lobby.problem) == (since + MINUTE, "")
    assert (game.since, game.problem) == (begun["studio/game-server"], "it is out")


def test_a_cursor_from_a_clock_that_was_ahead_is_set_right(ledger: Ledger) -> None:
    write(ledger, at(10 * DAY, lambda tx: begin_cursors(tx, ["studio/lobby"])))
    write(ledger, at(20 * DAY, lambda tx: move_cursor(tx, "studio/lobby", 20 * DAY)))

    (told,) = write(ledger, at(11 * DAY, read_cursors))
    write(ledger, at(11 * DAY, lambda tx: move_cursor(tx, "studio/lobby", 11 * DAY)))

    (moved,) = write(ledger, at(11 * DAY + MINUTE, read_cursors))
    assert (told.since, moved.since) == (11 * DAY, 11 * DAY)


def test_a_cursor_begun_by_a_clock_that_was_ahead_begins_again(ledger: Ledger) -> None:
    write(ledger, at(20 * DAY, lambda tx: begin_cursors(tx, ["studio/lobby"])))

    (told,) = write(ledger, at(11 * DAY, read_cursors))

    assert told.looks_back_to == 11 * DAY


def test_a_push_is_known_by_its_digest_or_its_second(ledger: Ledger) -> None:
    write(ledger, lambda tx: pushed(tx, "1.0", pushed_at=1_700_000_000_000))
    known = partial(is_known, repository="studio/game-server", tag="1.0")
    digest = "sha256:" + "b" * 64

    def asked(digest: str | None, pushed_at: int | None) -> bool:
        return ledger.read_now(partial(known, digest=digest, pushed_at=pushed_at))

    assert asked(digest, 1_700_000_000_999)
    assert not asked(digest, 1_700_000_001_000)
    settled(ledger, one_claim(ledger), done(digest=digest))
    assert asked(digest, None)
    assert not asked("sha256:" + "c" * 64, 1_700_000_000_999)


def test_notices_are_taken_by_one_and_come_again_when_put_off(ledger: Ledger) -> None:
    team = Notice(name="team", url=Secret("json://nowhere"), on=EVERYTHING)
    write(ledger, lambda tx: tell(tx, [team], Happening.CREATED, "made"))

    (taken,) = write(ledger, take_due)
    assert (taken.text, taken.happening, taken.tries) == ("made", Happening.CREATED, 0)
    assert write(ledger, take_due) == []

    write(ledger, lambda tx: put_off(tx, [taken.id], tx.now, tries=3))
    (again,) = write(ledger, take_due)
    assert (again.id, again.tries) == (taken.id, 3)
    write(ledger, lambda tx: forget(tx, [taken.id]))
    assert write(ledger, at(2**50, take_due)) == []


def test_deliveries_are_listed_newest_first_and_narrowed(ledger: Ledger) -> None:
    made = [write(ledger, partial(pushed, tag=f"1.{number}")) for number in range(5)]
    finish(ledger)

    def listed(**wanted: object) -> list[str]:
        found = Filter(**wanted)  # type: ignore[arg-type]
        return [one["id"] for one in ledger.read_now(lambda tx: list_deliveries(tx, found))]

    assert listed() == made[::-1]
    assert listed(limit=2, before=made[3]) == [made[2], made[1]]
    assert listed(tag="1.2") == [made[2]]
    assert listed(state="done") == [made[0]]
    assert listed(text="1.4") == [made[4]]
    assert listed(text="100%") == []
    assert listed(text="WEBHOOK") == listed(verdict="refused") == []
    assert listed(depth=2, state="queued") == [made[4], made[3]]


def test_the_overview_tells_of_each_rule_and_what_is_parked(ledger: Ledger) -> None:
    delivery = write(ledger, lambda tx: pushed(tx, "1.0"))
    settled(ledger, one_claim(ledger), parked(Reason.APP_MISSING))
    known = Rule(
        name="studio/game-server → my-game", repository="studio/game-server", app="my-game"
    )

    told = ledger.read_now(lambda tx: overview(tx, [known]))

    assert [(one["delivery"], one["reason"]) for one in told["parked"]] == [
        (delivery, "app_missing")
    ]
    assert told["parked_count"] == 1
    assert told["rules"][0]["newest"]["delivery"] == delivery


def test_what_is_old_is_purged_and_what_is_open_or_held_stays(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ids, "_last", 0)  # or these would come after the ids of other tests
    now = write(ledger, lambda tx: tx.now)

    def old(tx: Tx) -> None:
        for number in range(600):
            pushed(tx, f"1.{number}", version=f"v{number % 500}", rising=number)
        for _ in range(2):
            for claimed in claim(tx, owner="w", most=600):
                assert settle(tx, claimed, "w", done(calls=(Answer("GET", "/v1/x", 200),)))

    write(ledger, at(now - 100 * DAY, old))
    kept = write(ledger, at(now - 100 * DAY + 1, lambda tx: pushed(tx, "still-open")))
    young = write(ledger, lambda tx: pushed(tx, "young"))

    gone = asyncio.run(Purge(ledger, Current(Settings())).run())

    assert gone == 600
    listed = ledger.read_now(lambda tx: list_deliveries(tx, Filter()))
    assert [one["id"] for one in listed] == [young, kept]
    counts = ledger.read_now(_counts)
    assert counts == {"attempts": 0, "targets": 500, "registrations": 502, "led_to": 2}


def _counts(tx: Tx) -> dict[str, int]:
    tables = ("attempts", "targets", "registrations", "led_to")
    return {name: tx.run(f"SELECT count(*) FROM {name}").scalar_one() for name in tables}


@pytest.mark.parametrize("text", ["a\x00b", "a\ud800b"])
def test_text_that_no_database_takes_is_kept_without_it(ledger: Ledger, text: str) -> None:
    delivery = write(ledger, lambda tx: pushed(tx, "1.0"))
    calls = (Answer("GET", "/v1/x", 500, message=text),)

    assert settled(ledger, one_claim(ledger), waits(0, sentence=text, calls=calls))

    found = ledger.read_now(lambda tx: story(tx, delivery))
    assert found is not None
    (one,) = found["registrations"]
    assert one["state"] == State.WAITING
    assert one["sentence"].startswith("a")
    assert one["attempts"][0]["message"].endswith("b")


def test_matches_that_cannot_be_named_are_parked_at_once(ledger: Ledger) -> None:
    told = NewDelivery(source="webhook", repository="studio/game-server", tag="_1")
    match = Match(rule="r", app="my-game", version="_1", invalid="_1 is no version's name")
    recorded = write(
        ledger, lambda tx: record(tx, told, Ruling(Verdict.ACCEPTED, matches=(match,)))
    )

    found = ledger.read_now(lambda tx: story(tx, recorded.delivery))
    assert found is not None
    assert found["registrations"][0]["reason"] == "version_name_invalid"

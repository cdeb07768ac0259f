"""What the ledger returns of deliveries, and what it purges, on both engines."""

import asyncio
import time
from functools import partial

import pytest

from receiver.config.settings import LiveSettings, Settings
from receiver.edgegap.responses import Answer
from receiver.errors import BadBody
from receiver.ledger import ids
from receiver.ledger.claims import claim
from receiver.ledger.deletions import last_deletions, note_deletion
from receiver.ledger.deliveries import NewDelivery, record
from receiver.ledger.ledger import Ledger
from receiver.ledger.queries import (
    Filter,
    delivery_detail,
    list_deliveries,
    newest_of_image,
    overview,
)
from receiver.ledger.results import settle
from receiver.ledger.stats import read_stats
from receiver.ledger.targets import read_target
from receiver.ledger.transaction import Tx
from receiver.pipeline.intake import refuse
from receiver.reasons import Outcome, Reason, State, Verdict
from receiver.rules.rule import Decision, Match, Rule
from receiver.upkeep.purge import Purge
from receiver.web.serialization import encode
from tests.support.ledger_work import (
    MINUTE,
    at,
    done,
    finish,
    one_claim,
    parked,
    pushed,
    settled,
    waits,
    write,
)

DAY = 24 * 60 * MINUTE


def test_many_threads_may_look_at_once(ledger: Ledger) -> None:
    """They shared the one connection: the second thread was refused, as it was in use."""
    write(ledger, lambda tx: pushed(tx, "1.0"))

    def slowly(tx: Tx) -> int:
        time.sleep(0.01)
        return len(list_deliveries(tx, Filter()))

    async def beside_each_other() -> list[int]:
        threads = [asyncio.to_thread(ledger.read_sync, slowly) for _ in range(8)]
        return await asyncio.gather(*threads, *(ledger.read(slowly) for _ in range(8)))

    assert asyncio.run(beside_each_other()) == [1] * 16


def test_a_delivery_is_returned_as_it_was_recorded(ledger: Ledger) -> None:
    answer = NewDelivery(
        source="webhook",
        repository="studio/game-server",
        tag="1.0",
        media_type="application/vnd.oci.image.index.v1+json",
        pusher="ünïcode \u202e 100% :name",
        pushed_at=1_700_000_000_123,
        body_bytes=2048,
    )
    ruling = Decision(Verdict.IGNORED, Reason.NO_RULE, "No rule; 100% :sure")

    recorded = write(ledger, lambda tx: record(tx, answer, ruling))

    found = ledger.read_sync(lambda tx: delivery_detail(tx, recorded.delivery))
    assert found is not None
    assert (found.pusher, found.pushed_at) == (answer.pusher, answer.pushed_at)
    assert (found.verdict, found.reason) == ("ignored", "no_rule")
    assert (found.sentence, found.registrations) == ("No rule; 100% :sure", ())


def test_the_details_list_each_call_and_the_target_holds_what_was_made(ledger: Ledger) -> None:
    delivery = write(ledger, lambda tx: pushed(tx, "1.0"))
    claimed = one_claim(ledger)
    calls = (Answer("GET", "/v1/x", 404, message="gone"), Answer("POST", "/v1/x", 200))

    settled(ledger, claimed, done(Outcome.CREATED, digest="sha256:" + "a" * 64, calls=calls))

    found = ledger.read_sync(lambda tx: delivery_detail(tx, delivery))
    assert found is not None
    (one,) = found.registrations
    assert (one.state, one.outcome, one.tries) == ("done", "created", 1)
    assert [(call.method, call.status) for call in one.requests] == [
        ("GET", 404),
        ("POST", 200),
    ]
    held = ledger.read_sync(lambda tx: read_target(tx, "my-game", "1.0"))
    assert held is not None
    assert (held.tag, held.created_here, held.digest) == ("1.0", True, "sha256:" + "a" * 64)
    standing = ledger.read_sync(read_stats)
    assert (standing.open, standing.oldest_unfinished) == ({}, None)
    assert standing.last_success is not None
    assert standing.size > 100_000  # bytes: the tables and their indexes alone


def test_a_deleted_version_is_noted(ledger: Ledger) -> None:
    write(ledger, lambda tx: pushed(tx, "1.0"))
    finish(ledger)
    write(ledger, lambda tx: note_deletion(tx, "my-game", "1.0", deleted=True, why="old"))

    found = ledger.read_sync(lambda tx: read_target(tx, "my-game", "1.0"))
    assert found is not None
    assert found.deleted_at is not None


def test_a_refused_body_is_recorded_whatever_length_its_sender_claimed(ledger: Ledger) -> None:
    error = BadBody(Reason.BODY_TOO_LARGE, "too large")

    recorded = asyncio.run(refuse(ledger, "studio/game", error, 10**12 - 1))

    answer = ledger.read_sync(lambda tx: delivery_detail(tx, recorded.delivery))
    assert answer is not None
    assert (answer.body_bytes or 0) >= 2**31 - 1


def test_what_is_noted_of_deleted_versions_is_purged_by_age(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ids, "_last", 0)  # ids of this process never go back, these must
    days = {"0.1": 200, "0.2": 150, "0.3": 1}
    for version, ago in days.items():
        note = partial(note_deletion, app="my-game", version=version, deleted=True, why="old")
        write(ledger, at(time.time_ns() // 1_000_000 - ago * DAY, note))

    asyncio.run(Purge(ledger, LiveSettings(Settings())).run())

    left = ledger.read_sync(lambda tx: last_deletions(tx, "my-game"))
    assert [one.version for one in left] == ["0.3"]


def test_deliveries_are_listed_newest_first_and_narrowed(ledger: Ledger) -> None:
    made = [write(ledger, partial(pushed, tag=f"1.{number}")) for number in range(5)]
    finish(ledger)

    def listed(**wanted: object) -> list[str]:
        found = Filter(**wanted)  # type: ignore[arg-type]
        return [one.id for one in ledger.read_sync(lambda tx: list_deliveries(tx, found))]

    assert listed() == made[::-1]
    assert listed(limit=2, before=made[3]) == [made[2], made[1]]
    assert listed(tag="1.2") == [made[2]]
    assert listed(state=State.DONE) == [made[0]]
    assert listed(text="1.4") == [made[4]]
    assert listed(text="100%") == []
    assert listed(text="WEBHOOK") == listed(verdict=Verdict.REFUSED) == []
    assert listed(depth=2, state=State.QUEUED) == [made[4], made[3]]


def test_a_webhook_is_found_by_the_digest_that_preflight_found(ledger: Ledger) -> None:
    old, new = f"sha256:{'a1' * 32}", f"sha256:{'b2' * 32}"
    first = write(ledger, partial(pushed, tag="1.0"))
    assert settled(ledger, one_claim(ledger), done(digest=old))
    second = write(ledger, partial(pushed, tag="1.0", advancing_clock=1))

    def newest(digest: str | None) -> str | None:
        found = ledger.read_sync(
            lambda tx: newest_of_image(tx, "studio/game-server", "1.0", digest)
        )
        return None if found is None else found.id

    assert (newest(None), newest(old), newest(new)) == (second, first, None)
    assert settled(ledger, one_claim(ledger), done(digest=new))
    assert (newest(old), newest(new)) == (first, second)


def test_the_overview_lists_each_rule_and_what_is_parked(ledger: Ledger) -> None:
    delivery = write(ledger, lambda tx: pushed(tx, "1.0"))
    settled(ledger, one_claim(ledger), parked(Reason.APP_MISSING))
    known = Rule(
        name="studio/game-server → my-game", repository="studio/game-server", app="my-game"
    )

    answer = ledger.read_sync(lambda tx: overview(tx, [known]))

    assert [(one.delivery, one.reason) for one in answer.parked] == [(delivery, "app_missing")]
    assert answer.parked_count == 1
    newest = answer.rules[0].newest
    assert newest is not None
    assert newest.delivery == delivery


def test_what_is_old_is_purged_and_what_is_open_or_held_stays(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ids, "_last", 0)  # or these would come after the ids of other tests
    now = write(ledger, lambda tx: tx.now)

    def old(tx: Tx) -> None:
        for number in range(600):
            pushed(tx, f"1.{number}", version=f"v{number % 500}", advancing_clock=number)
        for _ in range(2):
            for claimed in claim(tx, owner="w", most=600):
                assert settle(tx, claimed, "w", done(calls=(Answer("GET", "/v1/x", 200),)))

    write(ledger, at(now - 100 * DAY, old))
    kept = write(ledger, at(now - 100 * DAY + 1, lambda tx: pushed(tx, "still-open")))
    young = write(ledger, lambda tx: pushed(tx, "young"))

    gone = asyncio.run(Purge(ledger, LiveSettings(Settings())).run())

    assert gone == 600
    listed = ledger.read_sync(lambda tx: list_deliveries(tx, Filter()))
    assert [one.id for one in listed] == [young, kept]
    counts = ledger.read_sync(_counts)
    assert counts == {"requests": 0, "targets": 500, "registrations": 502, "led_to": 2}


def _counts(tx: Tx) -> dict[str, int]:
    tables = ("requests", "targets", "registrations", "led_to")
    return {name: tx.run(f"SELECT count(*) FROM {name}").scalar_one() for name in tables}


@pytest.mark.parametrize("text", ["a\x00b", "a\ud800b"])
def test_text_that_no_database_takes_is_kept_without_it(ledger: Ledger, text: str) -> None:
    delivery = write(ledger, lambda tx: pushed(tx, "1.0"))
    calls = (Answer("GET", "/v1/x", 500, message=text),)

    assert settled(ledger, one_claim(ledger), waits(0, sentence=text, calls=calls))

    found = ledger.read_sync(lambda tx: delivery_detail(tx, delivery))
    assert found is not None
    (one,) = found.registrations
    assert one.state == State.WAITING
    assert one.sentence.startswith("a")
    assert one.requests[0].message.endswith("b")


def test_matches_that_cannot_be_named_are_parked_at_once(ledger: Ledger) -> None:
    answer = NewDelivery(source="webhook", repository="studio/game-server", tag="_1")
    match = Match(rule="r", app="my-game", version="_1", invalid="_1 is no version's name")
    recorded = write(
        ledger, lambda tx: record(tx, answer, Decision(Verdict.ACCEPTED, matches=(match,)))
    )

    found = ledger.read_sync(lambda tx: delivery_detail(tx, recorded.delivery))
    assert found is not None
    assert found.registrations[0].reason == "version_name_invalid"


def test_a_reason_that_only_a_newer_replica_knows_is_listed_as_it_is(ledger: Ledger) -> None:
    delivery = write(ledger, lambda tx: pushed(tx, "1.0"))
    newer = "UPDATE registrations SET state = 'parked', reason = 'not_known_yet'"
    write(ledger, lambda tx: tx.run(newer).rowcount)

    (listed,) = ledger.read_sync(lambda tx: list_deliveries(tx, Filter()))

    assert (listed.id, listed.registrations[0].reason) == (delivery, "not_known_yet")
    assert b'"reason":"not_known_yet"' in encode(listed)

"""What the overview and the lists read from the ledger, on either engine."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import pytest
from msgspec.structs import replace

from receiver.ledger.deliveries import COMMAND, RESTORE, NewDelivery, record
from receiver.ledger.gates import pause
from receiver.ledger.ledger import Ledger
from receiver.ledger.queries import (
    Filter,
    count_deliveries,
    end_of_depth,
    list_deliveries,
    overview,
    search_deliveries,
)
from receiver.ledger.targets import STRETCH, Origin, origins
from receiver.ledger.transaction import Tx
from receiver.ledger.views import NewestVersion
from receiver.reasons import Reason, State, Verdict
from receiver.rules.rule import Decision, Match, Mode, OnOverwrite, Rule
from receiver.timestamps import Time
from tests.support.ledger_work import MINUTE, at

T = TypeVar("T")
RULE = Rule("studio/game", "my-game", "main")
OTHER = Rule("studio/game", "other-app", "other")
QUIET = Rule("studio/quiet", "my-game", "quiet")


def push(tx: Tx, tag: str, *rules: Rule, source: str = "webhook") -> str:
    matches = tuple(Match(rule.name, rule.app, tag) for rule in rules)
    verdict = Verdict.ACCEPTED if rules else Verdict.IGNORED
    delivery = NewDelivery(source, RULE.repository, tag)
    return record(tx, delivery, Decision(verdict, sentence="100% _sure_", matches=matches)).delivery


def write(ledger: Ledger, work: Callable[[Tx], T]) -> T:
    return asyncio.run(ledger.write(work))


def written(ledger: Ledger, *tags: tuple[str, tuple[Rule, ...]]) -> list[str]:
    return write(ledger, lambda tx: [push(tx, tag, *rules) for tag, rules in tags])


def test_each_rule_has_its_own_newest_push(ledger: Ledger) -> None:
    both, mine, _ = written(ledger, ("1.0", (RULE, OTHER)), ("1.1", (RULE,)), ("latest", ()))

    answer = ledger.read_sync(lambda tx: overview(tx, [RULE, OTHER, QUIET]))

    newest = {one.rule: one.newest and one.newest.delivery for one in answer.rules}
    assert newest == {"main": mine, "other": both, "quiet": None}
    of_other = answer.rules[1].newest
    assert of_other is not None
    (of_both,) = of_other.registrations
    assert of_both.app == "other-app"
    assert [one.repository for one in answer.repositories] == ["studio/game", "studio/quiet"]
    assert [one.last_use_at is None for one in answer.repositories] == [False, True]


def test_only_pushes_count_as_a_rules_newest_push(ledger: Ledger) -> None:
    """A rollback was shown as the rule's newest push."""
    (pushed,) = written(ledger, ("1.0", (RULE,)))
    match = Match(RULE.name, RULE.app, "staging", Mode.CHANNEL)
    for source in (COMMAND, RESTORE):
        moved = Decision(Verdict.ACCEPTED, sentence="Rolled it back.", matches=(match,))
        delivery = NewDelivery(source, RULE.repository, "0.9")
        write(ledger, lambda tx, d=delivery, m=moved: record(tx, d, m))  # type: ignore[misc]

    def newest() -> str | None:
        (rule,) = ledger.read_sync(lambda tx: overview(tx, [RULE])).rules
        return None if rule.newest is None else rule.newest.delivery

    assert newest() == pushed
    by_command = write(ledger, lambda tx: push_accepted(tx, COMMAND))
    assert newest() == by_command


def push_accepted(tx: Tx, source: str) -> str:
    match = Match(RULE.name, RULE.app, "1.1")
    decision = Decision(Verdict.ACCEPTED, matches=(match,))
    return record(tx, NewDelivery(source, RULE.repository, "1.1"), decision).delivery


def make(tx: Tx, version: str, made_at: int | None, **changes: object) -> None:
    known = {"app": "my-game", "mode": "create", "deleted_at": None, "by": "r1", **changes}
    insert = """INSERT INTO targets (app, version, repository, tag, push_time, mode, made_at,
      deleted_at, registration_id, updated_at)
     VALUES (:app, :version, 'studio/game', '1.0', 1, :mode, :made_at, :deleted_at, :by, 1)"""
    tx.run(insert, version=version, made_at=made_at, **known)


def test_the_newest_version_is_the_one_created_last_that_is_still_there(ledger: Ledger) -> None:
    def fill(tx: Tx) -> None:
        make(tx, "1.0", 1000)
        make(tx, "0.9", 2000)
        make(tx, "2.0", 3000, deleted_at=4000)
        make(tx, "staging", 5000, mode="channel")
        make(tx, "found", None)

    answer = ledger.read_sync(lambda tx: overview(tx, [RULE]))
    assert (answer.newest_version, answer.in_use) == (None, False)
    write(ledger, fill)

    answer = ledger.read_sync(lambda tx: overview(tx, [RULE]))
    assert answer.newest_version == NewestVersion("my-game", "0.9", Time(2000), None)
    assert answer.in_use


def test_the_tags_overwritten_lately_are_counted(ledger: Ledger) -> None:
    moves = Rule("studio/game", "my-game", "moves", on_overwrite=OnOverwrite.MOVE)
    day = 24 * 60 * MINUTE
    now = write(ledger, lambda tx: tx.now)
    pushes: list[tuple[int, str, tuple[Rule, ...]]] = [
        (now - day - 1, "0.9", (RULE,)),
        (now, "1.0", (RULE, OTHER)),
        (now, "1.1", (RULE,)),
        (now, "nightly", (moves,)),
    ]
    for moment, tag, rules in pushes:
        write(ledger, at(moment, lambda tx, t=tag, r=rules: push(tx, t, *r)))  # type: ignore[misc]
    write(ledger, lambda tx: push(tx, "2.0", RULE))
    marked = "UPDATE registrations SET overwritten = true WHERE tag NOT IN ('1.1', '2.0')"
    write(ledger, lambda tx: tx.run(marked).rowcount)

    found = write(ledger, at(now, lambda tx: overview(tx, [RULE, OTHER, moves])))

    assert found.overwritten == 1


def test_only_a_limited_number_of_the_newest_is_searched(ledger: Ledger) -> None:
    written(ledger, ("1.0", (RULE,)), *((f"x{n}", ()) for n in range(STRETCH)))

    (rule,) = ledger.read_sync(lambda tx: overview(tx, [RULE])).rules

    assert rule.newest is None


def test_a_link_is_used_by_webhooks_alone(ledger: Ledger) -> None:
    write(ledger, lambda tx: push(tx, "1.0", RULE, source="catch-up"))

    answer = ledger.read_sync(lambda tx: overview(tx, [RULE]))

    assert answer.repositories[0].last_use_at is None


def test_what_is_parked_is_counted_and_linked_to_its_newest_delivery(ledger: Ledger) -> None:
    _, again = written(ledger, ("1.0", (RULE,)), ("1.0", (RULE,)))
    write(
        ledger,
        lambda tx: tx.run("UPDATE registrations SET state = 'parked', reason = 'gave_up'").rowcount,
    )
    write(ledger, lambda tx: pause(tx, RULE.repository))

    answer = ledger.read_sync(lambda tx: overview(tx, [RULE]))

    assert (answer.parked_count, [one.delivery for one in answer.parked]) == (1, [again])
    assert [one.repository for one in answer.pauses] == [RULE.repository]
    assert answer.repositories[0].paused_at is not None


@pytest.mark.parametrize(
    ("text", "found"),
    [("MAIN", ["1.1", "1.0"]), ("100% _", ["2.0", "1.1", "1.0"]), ("100__", []), ("1.1", ["1.1"])],
)
def test_text_is_looked_for_as_it_stands(ledger: Ledger, text: str, found: list[str]) -> None:
    written(ledger, ("1.0", (RULE,)), ("1.1", (RULE, OTHER)), ("2.0", ()))

    listed = ledger.read_sync(lambda tx: list_deliveries(tx, Filter(text=text)))

    assert [row.tag for row in listed] == found


def test_a_depth_bounds_what_is_looked_through(ledger: Ledger) -> None:
    ids = written(ledger, *((f"1.{n}", (RULE,)) for n in range(10)))

    def look(tx: Tx) -> tuple[list[str | None], str | None]:
        wanted = Filter(text="1.", depth=4, before=ids[8])
        return [row.tag for row in list_deliveries(tx, wanted)], end_of_depth(tx, wanted)

    assert ledger.read_sync(look) == (["1.7", "1.6", "1.5", "1.4"], ids[4])
    assert ledger.read_sync(lambda tx: end_of_depth(tx, Filter(depth=4, before=ids[4]))) is None


def test_a_target_s_newest_delivery_is_found(ledger: Ledger) -> None:
    first, second = written(ledger, ("1.0", (RULE,)), ("1.0", (RULE,)))

    def look(tx: Tx) -> dict[str, Origin]:
        (one,) = list_deliveries(tx, Filter(limit=1))[0].registrations
        return origins(tx, [one.id, "", "gone"])

    found = ledger.read_sync(look).values()
    assert [one.delivery for one in found if one.delivery is not None] == [second]
    assert first != second


def settle(tx: Tx, delivery: str, state: str, reason: str | None, received_at: int) -> None:
    changes = {"state": state, "reason": reason, "delivery": delivery}
    tx.run(
        "UPDATE registrations SET state = :state, reason = :reason WHERE id IN"
        " (SELECT registration_id FROM led_to WHERE delivery_id = :delivery)",
        **changes,
    )
    at = {"at": received_at, "delivery": delivery}
    tx.run("UPDATE deliveries SET received_at = :at WHERE id = :delivery", **at)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Filter(app="my-game"), ["1.2", "1.1", "1.0"]),
        (Filter(app="other-app"), ["1.1"]),
        (Filter(app="my-game", version="1.0"), ["1.0"]),
        (Filter(app="other-app", version="1.0"), []),
        (Filter(reason=Reason.GAVE_UP), ["1.1"]),
        (Filter(reason=Reason.NO_RULE), ["2.0"]),
        (Filter(reason=Reason.NO_RULE, app="my-game"), []),
        (Filter(state=State.PARKED, app="other-app"), ["1.1"]),
        (Filter(state=State.DONE, app="my-game"), ["1.0"]),
        (Filter(state=State.PARKED, reason=Reason.GAVE_UP), ["1.1"]),
        (Filter(state=State.DONE, reason=Reason.GAVE_UP), []),
        (Filter(source="catch-up"), ["3.0"]),
        (Filter(since=2000), ["3.0", "2.0", "1.2"]),
        (Filter(until=2000), ["1.1", "1.0"]),
        (Filter(since=1000, until=2000, app="my-game"), ["1.1"]),
        (Filter(overwritten=True), ["1.1", "1.0"]),
        (Filter(overwritten=True, app="other-app"), []),
        (Filter(overwritten=True, app="my-game", version="1.0"), ["1.0"]),
        (Filter(overwritten=True, state=State.DONE), ["1.0"]),
        (Filter(overwritten=True, state=State.PARKED), ["1.1"]),
        (Filter(overwritten=True, reason=Reason.GAVE_UP), ["1.1"]),
        (Filter(overwritten=True, reason=Reason.NO_RULE), []),
        (Filter(overwritten=True, until=1000), ["1.0"]),
    ],
    ids=str,
)
def test_deliveries_are_found_by_their_registrations_and_by_time(
    ledger: Ledger, wanted: Filter, found: list[str]
) -> None:
    tags = [("1.0", (RULE,)), ("1.1", (RULE, OTHER)), ("1.2", (RULE,)), ("2.0", ())]
    ids = written(ledger, *tags)
    caught_up = write(ledger, lambda tx: push(tx, "3.0", source="catch-up"))
    write(ledger, lambda tx: settle(tx, ids[0], "done", None, 999))
    write(ledger, lambda tx: settle(tx, ids[1], "parked", "gave_up", 1999))
    write(ledger, lambda tx: settle(tx, ids[2], "queued", None, 2000))
    write(ledger, lambda tx: settle(tx, caught_up, "queued", None, 4000))
    overwritten = "UPDATE registrations SET overwritten = (app = 'my-game' AND tag < '1.2')"
    write(ledger, lambda tx: tx.run(overwritten).rowcount)
    no_rule = "UPDATE deliveries SET reason = 'no_rule', received_at = 3000 WHERE id = :id"
    write(ledger, lambda tx: tx.run(no_rule, id=ids[3]).rowcount)

    listed = ledger.read_sync(lambda tx: search_deliveries(tx, wanted))

    assert [one.tag for one in listed.deliveries] == found
    assert listed.next is None
    assert ledger.read_sync(lambda tx: count_deliveries(tx, wanted)) == (len(found), False)


def test_where_many_tags_are_overwritten_the_newest_deliveries_are_searched(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = written(ledger, *((f"1.{number}", (RULE,)) for number in range(6)))
    overwritten = "UPDATE registrations SET overwritten = true WHERE tag < '1.3'"
    write(ledger, lambda tx: tx.run(overwritten).rowcount)

    def found(before: str | None = None) -> tuple[list[str], str | None]:
        wanted = Filter(overwritten=True, before=before)
        page = ledger.read_sync(lambda tx: search_deliveries(tx, wanted))
        return [one.id for one in page.deliveries], page.next

    assert found() == (ids[2::-1], None)
    monkeypatch.setattr("receiver.ledger.queries.FEW", 3)
    monkeypatch.setattr("receiver.ledger.queries.DEPTH", 2)
    assert found() == ([], ids[4])
    assert found(ids[4]) == ([ids[2]], ids[2])
    monkeypatch.setattr("receiver.ledger.queries.COUNTED", 4)
    wanted = Filter(overwritten=True)
    assert ledger.read_sync(lambda tx: count_deliveries(tx, wanted)) == (1, True)


@pytest.mark.parametrize("wanted", [Filter(limit=3), Filter(limit=3, app="my-game")], ids=str)
@pytest.mark.parametrize("depth", [1, 2, 100])
def test_the_cursors_of_pages_lead_through_all_deliveries_once(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, wanted: Filter, depth: int
) -> None:
    monkeypatch.setattr("receiver.ledger.queries.DEPTH", depth)
    ids = written(ledger, *((f"1.{number}", (RULE,)) for number in range(9)))
    seen: list[str] = []
    before: str | None = None
    while True:
        search = replace(wanted, before=before)
        page = ledger.read_sync(partial(search_deliveries, wanted=search))
        seen += [one.id for one in page.deliveries]
        before = page.next
        if before is None:
            break

    assert seen == ids[::-1]
    after: str | None = ids[0]
    for _ in ids:
        search = replace(wanted, after=after)
        page = ledger.read_sync(partial(search_deliveries, wanted=search))
        seen += [one.id for one in page.deliveries]
        after = page.next
        if after is None:
            break
    assert seen == [*ids[::-1], *ids[1:]]

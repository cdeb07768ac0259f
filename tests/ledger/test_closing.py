"""The success that closes what is parked is found by index: it is the one that a search finds."""

import random

from receiver.ledger.ledger import Ledger
from receiver.ledger.parked import _ended, later_success
from receiver.ledger.transaction import Tx
from receiver.rules.closing import Ended, is_closed_by
from receiver.rules.rule import Mode
from tests.support.ledger_work import write

COLUMNS = "id, rule, app, version, tag, mode, push_time, reason"
INSERT = """INSERT INTO registrations (id, rule, app, version, mode, repository, tag, push_time,
  state, outcome, reason, due_at, created_at, updated_at)
 VALUES (:id, :rule, 'my-game', :version, :mode, 'studio/game', :id, :push_time, :state, :outcome,
  :reason, 0, 0, 0)"""
SUCCESSES = {"created", "updated", "unchanged", "passed"}
ENDS = (
    *(("done", outcome, None) for outcome in (*sorted(SUCCESSES), "superseded", "dismissed")),
    *(("parked", None, reason) for reason in ("not_amd64", "app_missing")),
)


def fill(tx: Tx) -> None:
    chosen = random.Random(7)
    for number in range(400):
        state, outcome, reason = chosen.choice(ENDS)
        tx.run(
            INSERT,
            id=f"r{number:03}",
            rule=chosen.choice("ab"),
            version=f"1.{number % 12 if state == 'parked' else number % 3}",
            mode=chosen.choice(("create", "trial", "channel")),
            push_time=chosen.randrange(30) * 250,
            state=state,
            outcome=outcome,
            reason=reason,
        )


def searched(tx: Tx, parked: Ended) -> Ended | None:
    """Read everything, and take the newest of the target, or else of the rule."""
    rows = tx.run(f"SELECT {COLUMNS} FROM registrations WHERE outcome IN {tuple(SUCCESSES)}")
    done = [_ended(row) for row in rows.mappings()]
    place = (parked.app, parked.version, parked.mode)
    for alike in (
        [one for one in done if (one.app, one.version, one.mode) == place],
        [one for one in done if one.rule == parked.rule and one.mode is Mode.CREATE],
    ):
        newest = max(alike, key=lambda one: (one.push_time // 1000, one.id), default=None)
        if newest is not None and is_closed_by(parked, newest):
            return newest
    return None


def test_the_newest_success_closes_what_was_pushed_before_it(ledger: Ledger) -> None:
    write(ledger, fill)

    def compare(tx: Tx) -> set[bool]:
        found = set()
        rows = tx.run(f"SELECT {COLUMNS} FROM registrations WHERE state = 'parked'")
        for row in rows.mappings().all():
            parked = _ended(row)
            assert later_success(tx, parked.id) == searched(tx, parked)
            found.add(searched(tx, parked) is None)
        return found

    assert ledger.read_sync(compare) == {True, False}

"""What pages and work read is found by an index, on both engines: no table is read as a whole."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, event, text

from receiver.dockerhub.webhook import Push
from receiver.ledger.channels import forget_dismissed, read_channel_state
from receiver.ledger.comparisons import late_moves
from receiver.ledger.cursors import is_known
from receiver.ledger.deliveries import COMMAND, NewDelivery, record
from receiver.ledger.ledger import Ledger, shared_revision
from receiver.ledger.parked import later_success, parked_of_target_or_rule
from receiver.ledger.purge import purge_approvals, purge_sent_settings, purge_trials
from receiver.ledger.sent_settings import size_before
from receiver.ledger.stats import newest_version
from receiver.ledger.targets import live_targets, reports_new_push
from receiver.ledger.transaction import Tx
from receiver.ledger.trials import has_passed, trial_evidence
from receiver.reasons import Reason, Verdict
from receiver.rules.rule import Decision, Mode
from receiver.web.versions import known_versions
from tests.support.ledger_work import one_claim, parked, pushed, settled, write
from tests.support.receiver_process import APP, REPOSITORY

LARGE = {
    *("targets", "registrations", "deliveries", "led_to", "requests", "deletions", "trials"),
    *("channel_moves", "channel_reports", "sent_settings"),
}
Statement = tuple[str, Any]


@contextmanager
def listening(connection: Connection) -> Iterator[list[Statement]]:
    """Collect the statements that are run meanwhile."""
    run: list[Statement] = []

    def note(*given: Any) -> None:
        run.append((given[2], given[3]))

    event.listen(connection, "before_cursor_execute", note)
    yield run
    event.remove(connection, "before_cursor_execute", note)


def read_whole(ledger: Ledger, run: list[Statement]) -> list[str]:
    """The large tables that one of the statements reads as a whole."""

    def plans(tx: Tx) -> list[str]:
        lines = []
        prefix = "EXPLAIN "
        if tx.postgresql:
            tx.connection.execute(text("SET LOCAL enable_seqscan = off"))
        else:
            prefix += "QUERY PLAN "
        for statement, params in run:
            found = tx.connection.exec_driver_sql(prefix + statement, params)
            lines += [str(row[-1]) for row in found]
        return lines

    words = [line.replace("Seq Scan on", "SCAN").split() for line in ledger.read_sync(plans)]
    tables = [line[line.index("SCAN") + 1] for line in words if "SCAN" in line]
    return [name for name in tables if name in LARGE]


def test_the_versions_of_an_app_are_found_by_index(ledger: Ledger) -> None:
    insert = """INSERT INTO targets (app, version, repository, tag, push_time, mode,
     registration_id, updated_at) VALUES ('my-game', :v, 'studio/g', '1.0', 1, :mode, 'r1', 1)"""
    for version, mode in (("1.0", "create"), ("staging", "channel")):
        params = {"v": version, "mode": mode}
        write(ledger, lambda tx, params=params: tx.run(insert, **params).rowcount)  # type: ignore[misc]

    def look(tx: Tx) -> list[Statement]:
        with listening(tx.connection) as run:
            found = known_versions(tx, "my-game", ["1.0", "2.0"])
            assert sorted(found.targets) == ["1.0", "staging"]
            assert [one.version for one in live_targets(tx, "my-game")] == ["1.0", "staging"]
        return run

    run = ledger.read_sync(look)

    assert len(run) > 5
    assert read_whole(ledger, run) == []


def test_what_work_on_a_push_reads_is_found_by_index(ledger: Ledger) -> None:
    delivery = write(ledger, lambda tx: pushed(tx, "1.0", mode=Mode.CHANNEL))
    claimed = one_claim(ledger)
    settled(ledger, claimed, parked(Reason.NOT_AMD64))
    image = claimed.image

    def work(tx: Tx) -> list[Statement]:
        with listening(tx.connection) as run:
            later_success(tx, claimed.id)
            parked_of_target_or_rule(tx, rule=claimed.rule, app=APP, version="1.0")
            size_before(tx, APP, "1.0", image=image, mode=Mode.CREATE)
            late_moves(tx, APP, "1.0")
            is_known(tx, Push(REPOSITORY, "1.0", digest="sha256:1", pushed_at=1))
            read_channel_state(tx, APP, "1.0")
            has_passed(tx, APP, image, None)
            trial_evidence(tx, claimed.id, APP, image, digest="sha256:1")
            reports_new_push(tx, claimed.id)
            forget_dismissed(tx, delivery)
            new = NewDelivery(source=COMMAND, repository=REPOSITORY, tag="1.0")
            record(tx, new, Decision(Verdict.ACCEPTED))
            purge_trials(tx, tx.now)
            purge_approvals(tx, tx.now)
            purge_sent_settings(tx, tx.now)
        return run

    run = write(ledger, work)

    assert len(run) > 20
    assert read_whole(ledger, run) == []


def test_what_the_first_line_says_is_found_by_index(ledger: Ledger) -> None:
    def look(tx: Tx) -> list[Statement]:
        with listening(tx.connection) as run:
            newest_version(tx)
        return run

    assert read_whole(ledger, ledger.read_sync(look)) == []


def test_the_revision_of_the_pages_is_found_by_index(ledger: Ledger) -> None:
    def look(tx: Tx) -> list[Statement]:
        with listening(tx.connection) as run:
            shared_revision(tx)
        return run

    if ledger.shared:  # a ledger of one process counts its own commits
        assert read_whole(ledger, ledger.read_sync(look)) == []

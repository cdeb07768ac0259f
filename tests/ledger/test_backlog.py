"""Work on one registration costs the same, however many others wait in the queue."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from receiver.ledger.claims import claim, next_due, waits_alone
from receiver.ledger.engine import read_database_url
from receiver.ledger.ledger import Ledger
from receiver.ledger.parked import parked_of_target_or_rule
from receiver.ledger.purge import WINDOW, purge_deliveries, purge_requests
from receiver.ledger.stats import has_targets, newest_version
from receiver.ledger.targets import not_copied
from receiver.ledger.transaction import Tx
from receiver.ledger.trials import begin_run
from receiver.rules.rule import Mode
from tests.support.ledger_work import pushed, write
from tests.support.receiver_process import APP, REPOSITORY

FEW, MANY = 20, 2_000
PUSHED_AT = 1_700_000_000_000
STATEMENTS: dict[str, Callable[[Tx], object]] = {
    "claim": lambda tx: claim(tx, owner="w", most=4),
    "record": lambda tx: pushed(tx, "2.0", pushed_at=PUSHED_AT),
    "waits_alone": waits_alone,
    "next_due": next_due,
    "not_copied": lambda tx: not_copied(tx, APP),
}


def push(tx: Tx, many: int, mode: Mode = Mode.CREATE) -> None:
    for number in range(many):
        pushed(tx, f"1.{number}", pushed_at=PUSHED_AT, mode=mode)
    if mode is Mode.TRIAL:
        begin_run(tx, str(tx.run("SELECT max(id) FROM registrations").scalar_one()))


def steps(ledger: Ledger, run: Callable[[Tx], object]) -> int:
    """Return how many hundred instructions SQLite's virtual machine runs for it."""

    def counted(tx: Tx) -> int:
        count = 0

        def note() -> int:
            nonlocal count
            count += 1
            return 0

        driver = tx.connection.connection.driver_connection
        assert driver is not None
        driver.set_progress_handler(note, 100)
        run(tx)
        driver.set_progress_handler(None, 0)
        return count

    return write(ledger, counted)


def make(tx: Tx, many: int) -> None:
    insert = """INSERT INTO targets (app, version, repository, tag, push_time, mode, created_here,
      made_at, updated_at)
     VALUES (:app, :version, 'studio/game', '1.0', 1, 'create', true, :at, 1)"""
    for number in range(many):
        tx.run(insert, app=APP, version=f"1.{number}", at=PUSHED_AT + number)


def park(tx: Tx, many: int) -> None:
    push(tx, many)
    tx.run("UPDATE registrations SET state = 'parked', reason = 'gave_up'")


def test_a_success_finds_at_once_what_it_closes_however_much_is_parked(tmp_path: Path) -> None:
    found = []
    for number in (FEW, MANY):
        ledger = Ledger(read_database_url(f"sqlite:///{tmp_path / f'{number}.db'}"))
        ledger.open_to_write()
        write(ledger, partial(park, many=number))
        look = partial(
            parked_of_target_or_rule, rule=f"{REPOSITORY} → {APP}", app=APP, version="2.0"
        )
        found.append(steps(ledger, look))
        ledger.close()

    few, many = found
    assert many <= few + 10


@pytest.mark.parametrize("purge", [purge_deliveries, purge_requests])
def test_a_purge_looks_at_a_few_rows_at_a_time_however_much_is_parked(
    tmp_path: Path, purge: Callable[[Tx, int], object]
) -> None:
    """It looked at all that is parked, each time before it deleted the next few rows."""
    request = """INSERT INTO requests (registration_id, attempt, step, at, method, path)
     SELECT id, 1, 1, rowid, 'GET', '/' FROM registrations"""
    found = []
    for number in (WINDOW, 4 * WINDOW):
        ledger = Ledger(read_database_url(f"sqlite:///{tmp_path / f'{number}.db'}"))
        ledger.open_to_write()
        write(ledger, partial(park, many=number))
        write(ledger, lambda tx: tx.run(request).rowcount)
        found.append(steps(ledger, lambda tx: purge(tx, tx.now + 1000)))
        ledger.close()

    few, many = found
    assert many <= few + 10


def test_the_newest_version_is_found_at_once_however_many_there_are(tmp_path: Path) -> None:
    found = []
    for number in (FEW, MANY):
        ledger = Ledger(read_database_url(f"sqlite:///{tmp_path / f'{number}.db'}"))
        ledger.open_to_write()
        write(ledger, partial(make, many=number))
        found.append(steps(ledger, lambda tx: (newest_version(tx), has_targets(tx))))
        ledger.close()

    few, many = found
    assert many <= few + 10


@pytest.mark.parametrize("mode", [Mode.CREATE, Mode.TRIAL])
@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_long_queue_makes_work_on_one_registration_no_slower(
    tmp_path: Path, statement: str, mode: Mode
) -> None:
    found = []
    for number in (FEW, MANY):
        ledger = Ledger(read_database_url(f"sqlite:///{tmp_path / f'{number}.db'}"))
        ledger.open_to_write()
        write(ledger, partial(push, many=number, mode=mode))
        found.append(steps(ledger, STATEMENTS[statement]))
        ledger.close()

    few, many = found
    assert many <= few + 10

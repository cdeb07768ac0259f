"""The plan that a page shows: it costs the same however many versions an app has."""

from pathlib import Path

import pytest

from receiver.config.settings import Settings
from receiver.ledger.engine import read_database_url
from receiver.ledger.ledger import Ledger
from receiver.ledger.transaction import Tx
from receiver.pipeline import prune
from receiver.pipeline.prune import Scope, read_prune_preview
from receiver.rules.retention import Retention
from receiver.rules.rule import Rule
from receiver.rules.tag_patterns import Globs
from tests.ledger.test_backlog import steps
from tests.support.ledger_work import write
from tests.support.receiver_process import APP, REPOSITORY

FEW, MANY = 1_000, 4_000
COLUMNS = (
    *("app", "version", "mode", "repository", "tag", "push_time", "created_here", "made_at"),
    *("registration_id", "updated_at"),
)
SCOPE = Scope(APP, most=50)


def keeping(*rules: Rule) -> Settings:
    return Settings(rules=rules)


KEEPS_TEN = keeping(Rule(REPOSITORY, APP, "main", channels=("staging",), keep=10))


def created(tx: Tx, many: int, first: int = 0, tag: str = "1.{}") -> int:
    """Fill the ledger with versions, the oldest push first."""
    rows = []
    for number in range(first, first + many):
        name = tag.format(number)
        rows.append(
            (APP, name, "create", REPOSITORY, name, number * 1000, True, 1, f"r{number}", 1)
        )
    return tx.insert("targets", COLUMNS, rows)


def names(tx: Tx, settings: Settings, scope: Scope = SCOPE) -> tuple[list[str], bool]:
    old = read_prune_preview(tx, settings, scope)
    return [one.target.version for one in old.planned], old.more


def test_it_costs_the_same_however_many_versions_there_are(tmp_path: Path) -> None:
    found = []
    for number in (FEW, MANY):
        ledger = Ledger(read_database_url(f"sqlite:///{tmp_path / f'{number}.db'}"))
        ledger.open_to_write()
        write(ledger, lambda tx, number=number: created(tx, number))  # type: ignore[misc]
        found.append(steps(ledger, lambda tx: read_prune_preview(tx, KEEPS_TEN, SCOPE)))
        ledger.close()

    few, many = found
    assert many <= few + 10


def test_it_lists_the_oldest_and_whether_there_are_more(ledger: Ledger) -> None:
    write(ledger, lambda tx: created(tx, 1_000))

    assert ledger.read_sync(lambda tx: names(tx, KEEPS_TEN)) == (
        [f"1.{number}" for number in range(50)],
        True,
    )


def test_of_few_versions_it_lists_all_that_are_beyond_what_is_kept(ledger: Ledger) -> None:
    write(ledger, lambda tx: created(tx, 13))

    assert ledger.read_sync(lambda tx: names(tx, KEEPS_TEN)) == (["1.0", "1.1", "1.2"], False)


def test_the_version_of_a_channel_is_kept(ledger: Ledger) -> None:
    write(ledger, lambda tx: created(tx, 1_000))
    row = (APP, "staging", "channel", REPOSITORY, "1.0", 0, True, 1, "r", 1)
    write(ledger, lambda tx: tx.insert("targets", COLUMNS, [row]))

    found, _ = ledger.read_sync(lambda tx: names(tx, KEEPS_TEN))

    assert found[0] == "1.1"


def test_it_reads_on_if_the_oldest_are_all_kept(ledger: Ledger) -> None:
    rule = Rule(REPOSITORY, APP, "main", keep=10, pin=("0.*",))
    write(ledger, lambda tx: created(tx, 500, tag="0.{}") + created(tx, 1_000, 500))

    found, more = ledger.read_sync(lambda tx: names(tx, keeping(rule)))

    assert (found[0], len(found), more) == ("1.500", 50, True)


def test_it_reads_a_limited_part_and_says_that_it_was_not_all(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune, "MAX_EXAMINED", 128)
    some = Rule(REPOSITORY, APP, "some", tags=Globs(positive=("0.*",)), keep=10)
    write(ledger, lambda tx: created(tx, 500))
    write(ledger, lambda tx: created(tx, 20, 500, tag="0.{}") + created(tx, 500, 520))

    assert ledger.read_sync(lambda tx: names(tx, keeping(some))) == ([], True)


def test_it_gives_no_reason_that_a_version_in_between_may_contradict(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`some` has its newest ten between the versions that are read."""
    monkeypatch.setattr(prune, "MAX_EXAMINED", 128)
    some = Rule(REPOSITORY, APP, "some", tags=Globs(positive=("0.*",)), keep=10)
    write(ledger, lambda tx: created(tx, 5, tag="0.{}") + created(tx, 495, 5))
    write(ledger, lambda tx: created(tx, 20, 500, tag="0.{}") + created(tx, 500, 520))

    old = ledger.read_sync(lambda tx: read_prune_preview(tx, keeping(some), SCOPE))

    assert "0.0" not in old.why
    assert old.why["1.1019"] is Retention.NO_KEEP

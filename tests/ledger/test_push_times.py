"""Which push is the newer one while the clock is wrong, or was: an app's versions are compared."""

import pytest

from receiver.ledger.clock import Reading, keep_time
from receiver.ledger.deliveries import NewDelivery, record
from receiver.ledger.ledger import Ledger
from receiver.ledger.targets import live_targets
from receiver.ledger.transaction import Tx
from receiver.reasons import Verdict
from receiver.rules.closing import Ended, is_closed_by
from receiver.rules.rule import Decision, Match, Mode
from tests.support.ledger_work import MINUTE, at, finish, write
from tests.support.receiver_process import APP, REPOSITORY

HOUR = 60 * MINUTE
DAY = 24 * HOUR
NOW = 1_790_000_000_000


def made(ledger: Ledger, tag: str, now: int, pushed_at: int | None) -> None:
    """Report a push by a clock that shows `now`, and create its version."""
    reported = NewDelivery("webhook", REPOSITORY, tag, pushed_at=pushed_at)
    ruling = Decision(Verdict.ACCEPTED, matches=(Match("rule", APP, tag),))
    write(ledger, at(now, lambda tx: record(tx, reported, ruling)))
    finish(ledger)


def by_age(ledger: Ledger) -> list[str]:
    def read(tx: Tx) -> list[str]:
        return [one.version for one in sorted(live_targets(tx, APP), key=lambda t: t.push_time)]

    return ledger.read_sync(read)


@pytest.mark.parametrize("off", [-DAY, 0, DAY], ids=["clock behind", "right", "sender ahead"])
def test_a_newer_push_is_newer_than_all_that_its_app_has(ledger: Ledger, off: int) -> None:
    """Its time was that of the wrong clock: retention deleted the newest push's version."""
    made(ledger, "1.0", NOW - 2 * HOUR, NOW - 2 * HOUR)
    made(ledger, "1.1", NOW - HOUR, NOW - HOUR)

    for minute, tag in enumerate(("1.2", "1.3"), start=1):
        then = NOW + minute * MINUTE
        made(ledger, tag, then + min(off, 0), then + max(off, 0))
    made(ledger, "1.4", NOW + HOUR, NOW + HOUR)

    assert by_age(ledger) == ["1.0", "1.1", "1.2", "1.3", "1.4"]


def test_a_push_without_a_time_is_newer_than_all_that_its_app_has(ledger: Ledger) -> None:
    made(ledger, "1.0", NOW, NOW)
    made(ledger, "1.1", NOW - DAY, None)
    made(ledger, "1.2", NOW - DAY, NOW + MINUTE)

    assert by_age(ledger) == ["1.0", "1.1", "1.2"]


@pytest.mark.parametrize("again", [MINUTE - DAY, HOUR], ids=["still behind", "corrected"])
def test_a_push_reported_again_keeps_the_time_it_was_counted_by(ledger: Ledger, again: int) -> None:
    """An older push reported again passed for a newer one."""
    made(ledger, "1.0", NOW, NOW)
    made(ledger, "1.1", NOW + MINUTE - DAY, NOW + MINUTE)
    made(ledger, "1.2", NOW + 2 * MINUTE - DAY, NOW + 2 * MINUTE)

    made(ledger, "1.1", NOW + again, NOW + MINUTE)

    assert by_age(ledger) == ["1.0", "1.1", "1.2"]


def test_times_after_docker_hubs_stay_though_the_clock_fell_behind(ledger: Ledger) -> None:
    """They went back by the step, behind the pushes that they came after."""
    made(ledger, "1.0", NOW, NOW)
    made(ledger, "1.1", NOW, None)

    write(
        ledger,
        lambda tx: keep_time(tx, Reading(NOW, 1.0), Reading(NOW - DAY, 2.0), shared=tx.postgresql),
    )

    assert by_age(ledger) == ["1.0", "1.1"]


def test_a_success_while_the_clock_is_behind_closes_what_was_parked_before(ledger: Ledger) -> None:
    """It counted as the earlier push, and what it should have closed stayed parked."""
    first = NewDelivery("webhook", REPOSITORY, "1.0", pushed_at=NOW)
    later = NewDelivery("webhook", REPOSITORY, "1.1", pushed_at=NOW + MINUTE)

    def closed(tx: Tx) -> bool:
        parked, success = (
            tx.run("SELECT id, push_time FROM registrations WHERE tag = :tag", tag=tag).one()
            for tag in ("1.0", "1.1")
        )
        return is_closed_by(
            Ended(parked.id, "rule", APP, "1.0", "1.0", Mode.CREATE, parked.push_time, "not_amd64"),
            Ended(success.id, "rule", APP, "1.1", "1.1", Mode.CREATE, success.push_time),
        )

    for then, delivery in ((NOW, first), (NOW + MINUTE - DAY, later)):
        ruling = Decision(Verdict.ACCEPTED, matches=(Match("rule", APP, delivery.tag or ""),))
        recording = at(then, lambda tx, d=delivery, r=ruling: record(tx, d, r))  # type: ignore[misc]
        write(ledger, recording)

    assert ledger.read_sync(closed)

"""A receiver goes on within seconds when its clock is set, or was wrong when it began."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy.engine import URL

from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from tests.crash.asking import logged
from tests.support.postgres import plain
from tests.support.receiver_process import RULE, ReceiverProcess, until
from tests.support.set_clock import HOUR, ReceiverWithClock

CHANNEL = RULE.replace("preflight = false", 'preflight = false\nchannels = ["staging"]')
TROUBLE = {
    "busy": Fault("status", status=429, retry_after=5),
    "an error": Fault("status", status=500),
    "the token": Fault("status", status=401, message="bad token"),
}
OFF = """CREATE SCHEMA clock;
 CREATE TABLE clock.off (by interval NOT NULL);
 INSERT INTO clock.off VALUES ('0 s');
 CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz VOLATILE LANGUAGE sql
  AS 'SELECT pg_catalog.clock_timestamp() + by FROM clock.off';
 ALTER DATABASE {database} SET search_path = public, pg_catalog"""


@pytest.fixture
def receiver(edgegap: str, tmp_path: Path) -> Iterator[ReceiverWithClock]:
    one = ReceiverWithClock(tmp_path, edgegap, config=CHANNEL)
    yield one
    one.stop()


def first(receiver: ReceiverProcess, delivery: str) -> dict[str, Any]:
    found: dict[str, Any] = receiver.details(delivery)["registrations"][0]
    return found


def waits(receiver: ReceiverProcess, delivery: str) -> bool:
    """Whether it has been tried, and is to be tried again."""
    one = first(receiver, delivery)
    return bool(one["tries"]) and one["state"] == "waiting"


@pytest.mark.parametrize("trouble", TROUBLE)
def test_a_clock_that_was_ahead_is_put_right(
    receiver: ReceiverWithClock, sandbox: EdgegapSandbox, trouble: str
) -> None:
    """One 429 stopped all work for as long as the clock had been ahead."""
    receiver.set_clock(6 * HOUR)
    receiver.start()
    sandbox.misbehave(TROUBLE[trouble])
    delivery = receiver.push("1.0.0")
    until(lambda: first(receiver, delivery)["tries"])

    receiver.set_clock(0)

    assert receiver.ended(delivery)["outcome"] == "created"


@pytest.mark.parametrize("trouble", TROUBLE)
def test_it_is_put_right_while_no_receiver_runs(
    receiver: ReceiverWithClock, sandbox: EdgegapSandbox, trouble: str
) -> None:
    receiver.set_clock(6 * HOUR)
    receiver.start()
    sandbox.misbehave(TROUBLE[trouble])
    delivery = receiver.push("1.0.0")
    until(lambda: first(receiver, delivery)["tries"])
    receiver.kill()

    receiver.set_clock(0)
    receiver.start()

    assert receiver.ended(delivery)["outcome"] == "created"


def test_what_waits_for_its_image_is_not_given_up_when_the_clock_jumps(
    receiver: ReceiverWithClock, sandbox: EdgegapSandbox
) -> None:
    """Ten minutes had passed by the clock, and by no other."""
    receiver.start()
    sandbox.misbehave(Fault("status", method="POST", status=424, message="no image", times=2))
    delivery = receiver.push("1.0.0")
    until(lambda: waits(receiver, delivery))

    receiver.set_clock(6 * HOUR)

    assert receiver.ended(delivery)["outcome"] == "created"


def test_an_image_that_waits_over_a_clock_set_back_is_not_given_up_either(
    receiver: ReceiverWithClock, sandbox: EdgegapSandbox
) -> None:
    receiver.start()
    sandbox.misbehave(Fault("status", method="POST", status=424, message="no image", times=2))
    sandbox.latency = 1.0
    delivery = receiver.push("1.0.0")
    until(lambda: first(receiver, delivery)["state"] == "working")

    receiver.set_clock(-6 * HOUR)  # in the midst of an attempt

    assert receiver.ended(delivery)["outcome"] == "created"


def test_a_later_push_moves_the_channel_though_the_clock_fell_behind(
    receiver: ReceiverWithClock, sandbox: EdgegapSandbox
) -> None:
    receiver.start()
    receiver.push("one")
    until(lambda: sandbox.versions.get(("my-game", "staging"), {}).get("docker_tag") == "one")

    receiver.set_clock(-24 * HOUR)
    receiver.push("two")

    until(lambda: sandbox.versions["my-game", "staging"]["docker_tag"] == "two")


def test_the_log_says_that_the_clock_was_set(receiver: ReceiverWithClock) -> None:
    receiver.start()
    receiver.set_clock(-HOUR)
    receiver.ended(receiver.push("1.0.0"))

    (said,) = [line for line in logged(receiver.log) if line["event"] == "clock_was_set"]

    assert said["level"] == "warning"
    assert abs(said["seconds"] + HOUR) <= 1
    assert "NTP" in said["sentence"]


def test_the_clock_of_a_shared_ledger_is_the_databases(
    edgegap: str, sandbox: EdgegapSandbox, tmp_path: Path, postgres_url: URL
) -> None:
    _let_set(postgres_url)
    _set(postgres_url, "6 hours")
    environment = {"DATABASE_URL": plain(postgres_url)}
    receiver = ReceiverProcess(tmp_path, edgegap, environment=environment).start()
    try:
        sandbox.misbehave(TROUBLE["busy"])
        delivery = receiver.push("1.0.0")
        until(lambda: first(receiver, delivery)["tries"])

        _set(postgres_url, "0 s")

        assert receiver.ended(delivery)["outcome"] == "created"
        assert [one["event"] for one in logged(receiver.log)].count("clock_was_set") == 1
    finally:
        receiver.stop()


def _let_set(url: URL) -> None:
    """Have the database read a clock that is off, by a function that it finds before its own."""
    with psycopg.connect(plain(url)) as connection:
        connection.execute(OFF.format(database=url.database).encode())


def _set(url: URL, off: str) -> None:
    with psycopg.connect(plain(url)) as connection:
        connection.execute("UPDATE clock.off SET by = %s::interval", (off,))

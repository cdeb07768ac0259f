"""Three replicas on one PostgreSQL: nothing is lost and nothing made twice, whichever dies when."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from tests.support.postgres import Postgres, plain, rows
from tests.support.receiver_process import APP, ReceiverProcess, until
from tests.support.storm import Senders

# What the receiver promises of a dead replica's work, on a busy machine, too: a lease lasts 30 s,
# and the others look each second for one that has run out.
TAKEN_OVER_SECONDS = 40.0
ROUNDS = 4
ROUND_SECONDS = 2.0


@pytest.fixture
def replicas(
    tmp_path: Path, sandbox: EdgegapSandbox, postgres_url: URL
) -> Iterator[list[ReceiverProcess]]:
    environment = {"DATABASE_URL": plain(postgres_url), "EDGEGAP_CONCURRENCY": "8"}
    with serving(sandbox.app) as url:
        begun = []
        for number in range(3):
            folder = tmp_path / f"replica-{number}"
            folder.mkdir()
            begun.append(ReceiverProcess(folder, url, environment=environment))
        for one in begun:
            one.start()
        yield begun
        for one in begun:
            one.stop()


def unfinished(url: URL) -> list[tuple[str, str, str]]:
    return rows(url, "SELECT tag, state, reason FROM registrations WHERE state <> 'done'")


def in_progress(url: URL) -> set[tuple[str, int]]:
    """Who is in whose hands: each claim has a fence of its own."""
    return set(rows(url, "SELECT id, fence FROM registrations WHERE state = 'working'"))


def waiting_for_an_heir(url: URL, left: set[tuple[str, int]]) -> list[str]:
    """Those that nobody has claimed since."""
    unclaimed = "SELECT id, fence FROM registrations WHERE state IN ('queued', 'working')"
    fences = dict(rows(url, unclaimed))
    return [identity for identity, fence in left if fences.get(identity) == fence]


def events(replicas: list[ReceiverProcess]) -> list[dict[str, object]]:
    return [
        json.loads(line)
        for one in replicas
        for line in one.log.read_text("utf-8").splitlines()
        if line.startswith("{")
    ]


def test_killed_and_restarted_without_end_every_202_is_exactly_one_version(
    replicas: list[ReceiverProcess],
    sandbox: EdgegapSandbox,
    postgres: Postgres,
    postgres_url: URL,
) -> None:
    senders = Senders(lambda: [one.url for one in replicas], at_once=64, pause=0.8).start()
    for number in range(ROUNDS):
        until(_passed(ROUND_SECONDS))
        if number == 1:
            postgres.stop()
            postgres.start()
        replicas[number % 3].kill()
        replicas[number % 3].start()
    answer = senders.stop()

    # Two die in the midst of work and are not started again: the third is their heir.
    sandbox.latency = 0.3
    for number in range(24):
        answer.accepted[replicas[number % 3].push(f"last.{number}")] = f"last.{number}"
    owners = "SELECT count(DISTINCT lease_owner) FROM registrations WHERE state = 'working'"
    until(lambda: rows(postgres_url, owners)[0][0] > 1)
    for one in replicas[:2]:
        one.kill()
    left = in_progress(postgres_url)
    sandbox.latency = 0.0
    until(lambda: not waiting_for_an_heir(postgres_url, left), TAKEN_OVER_SECONDS)
    until(lambda: not unfinished(postgres_url))

    inherited = "SELECT count(*) FROM registrations WHERE fence > 1 AND state = 'done'"
    assert rows(postgres_url, inherited)[0][0] > 0
    assert len(answer.accepted) > 200, answer.answers
    recorded = {row[0] for row in rows(postgres_url, "SELECT id FROM deliveries")}
    assert answer.accepted.keys() <= recorded
    made = {tag: sandbox.posts_that_created(APP, tag) for tag in answer.tags}
    assert {tag: count for tag, count in made.items() if count != 1} == {}
    assert max(sandbox.created.values()) == 1
    # Edgegap's own 409 would hide it: no two may even have tried.
    posts = Counter(
        str((call.body or {}).get("name")) for call in sandbox.calls if call.method == "POST"
    )
    assert {name: count for name, count in posts.items() if count > 1} == {}
    logged = events(replicas)
    troubles = {str(one["error"]) for one in logged if one["event"] == "ledger_unavailable"}
    assert not [text for text in troubles if "duplicate" in text or "deadlock" in text], troubles
    faults = [one for one in logged if str(one["event"]).endswith("_fault")]
    assert faults == []


def _passed(seconds: float) -> Callable[[], bool]:
    end = time.monotonic() + seconds
    return lambda: time.monotonic() > end

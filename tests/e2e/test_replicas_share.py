"""What replicas on one PostgreSQL share: rate, gates, pauses; and what one of them does alone."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy.engine import URL
from starlette.types import ASGIApp, Receive, Scope, Send

from receiver import backoff
from receiver.ledger.gates import ALL, pause, resume
from receiver.ledger.ledger import Ledger
from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from receiver.upkeep import health
from receiver.upkeep.catch_up import CatchUp
from receiver.upkeep.purge import Purge
from tests.support.postgres import Postgres, plain, rows
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import (
    APP,
    NO_CATCH_UP,
    REPOSITORY,
    RULE,
    created_once,
    until,
    webhook_body,
)

PER_SECOND = 30
AT_ONCE = 2
LONG_AGO = 1_780_000_000


class Watched:
    """Counts how many calls are under way, and when each came."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._under_way = 0
        self.most = 0
        self.came: list[float] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.came.append(time.monotonic())
        self._under_way += 1
        self.most = max(self.most, self._under_way)
        try:
            await self._app(scope, receive, send)
        finally:
            self._under_way -= 1


@pytest.fixture
def edge(sandbox: EdgegapSandbox) -> Watched:
    return Watched(sandbox.app)


@pytest.fixture
def replicas(
    edge: Watched, tmp_path: Path, postgres_url: URL, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[ReceiverHere]]:
    monkeypatch.setattr(backoff, "PROBE_FIRST", 200)
    monkeypatch.setattr(backoff, "PROBE_LONGEST", 200)
    monkeypatch.setattr(health, "REMEMBERED_SECONDS", 0.0)
    with serving(edge) as url, ExitStack() as running:
        config = RULE + NO_CATCH_UP
        yield [
            running.enter_context(_replica(tmp_path, n, url, postgres_url, config))
            for n in range(3)
        ]


def _replica(
    folder: Path,
    number: int,
    url: str,
    ledger: URL,
    config: str = RULE,
    *,
    per_second: int = PER_SECOND,
    at_once: int = AT_ONCE,
) -> Any:
    own = folder / f"replica-{number}"
    own.mkdir()
    environment = {
        "DATABASE_URL": plain(ledger),
        "EDGEGAP_REQUESTS_PER_SECOND": str(per_second),
        "EDGEGAP_CONCURRENCY": str(at_once),
    }
    return receiver_here(own, url, config=config, environment=environment)


def states(url: URL) -> set[str]:
    return {row[0] for row in rows(url, "SELECT state FROM registrations")}


def test_the_cap_on_calls_at_once_is_kept_by_all_together(
    replicas: list[ReceiverHere], edge: Watched, sandbox: EdgegapSandbox, postgres_url: URL
) -> None:
    until(lambda: rows(postgres_url, "SELECT count(*) FROM replicas") == [(3,)])
    sandbox.latency = 0.05

    for number in range(24):
        replicas[number % 3].push(f"1.{number}")
    until(lambda: states(postgres_url) == {"done"})

    assert edge.most == AT_ONCE
    assert all(created_once(sandbox, f"1.{number}") for number in range(24))


@pytest.mark.parametrize("many", [1, 3])
def test_the_cap_on_calls_a_second_is_kept_by_all_together(
    many: int, edge: Watched, sandbox: EdgegapSandbox, postgres_url: URL, tmp_path: Path
) -> None:
    per_second = 8
    with serving(edge) as url, ExitStack() as running:
        replicas = [
            running.enter_context(
                _replica(tmp_path, n, url, postgres_url, per_second=per_second, at_once=24)
            )
            for n in range(many)
        ]
        until(lambda: rows(postgres_url, "SELECT count(*) FROM replicas") == [(many,)])
        until(lambda: all(one.service.worker._watch.replicas == many for one in replicas))
        edge.came.clear()
        for number in range(16):
            replicas[number % many].push(f"1.{number}")
        until(lambda: states(postgres_url) == {"done"})

    spent = edge.came[-1] - edge.came[0]
    assert len(edge.came) >= 4 * per_second  # enough that the cap is felt
    assert len(edge.came) <= per_second * (spent + 1) + many  # a second's worth may go at once


def degraded(receiver: ReceiverHere) -> list[str]:
    answer = httpx.get(f"{receiver.url}/readyz", trust_env=False, timeout=20).json()
    return [str(one).partition(":")[0] for one in answer["degraded"]]


def test_a_token_refused_to_one_closes_the_gate_for_all(
    replicas: list[ReceiverHere], sandbox: EdgegapSandbox, postgres_url: URL
) -> None:
    sandbox.token_state = "refused"
    replicas[0].push("1.0")
    until(lambda: all(degraded(one) == ["token"] for one in replicas))
    before = [call for call in sandbox.calls if "version" in call.path]

    for number, one in enumerate(replicas):
        one.push(f"2.{number}")
    until(lambda: len(sandbox.calls) > len(before) + 2)  # probes go on, nothing else does
    assert [call for call in sandbox.calls if "version" in call.path] == before

    sandbox.token_state = "good"
    until(lambda: states(postgres_url) == {"done"})
    assert [degraded(one) for one in replicas] == [[], [], []]
    assert len(sandbox.versions) == 4


@pytest.mark.parametrize("ahead", [-20_000, 3_600_000], ids=["behind", "ahead"])
def test_a_replicas_own_clock_neither_shortens_nor_lengthens_the_wait_of_all(
    replicas: list[ReceiverHere],
    sandbox: EdgegapSandbox,
    edge: Watched,
    postgres_url: URL,
    monkeypatch: pytest.MonkeyPatch,
    *,
    ahead: int,
) -> None:
    """By its own clock one that is behind hammered a busy Edgegap; one ahead stopped all."""
    right = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: right() + ahead * 1_000_000)
    sandbox.misbehave(Fault("status", status=429, retry_after=2))

    replicas[0].push("1.0")

    held = until(lambda: rows(postgres_url, "SELECT until - since FROM gates WHERE closed"))
    assert 1900 < held[0][0] < 10_000
    until(lambda: states(postgres_url) == {"done"})
    assert edge.came[1] - edge.came[0] > 1.9


def test_a_pause_at_one_holds_back_all(
    replicas: list[ReceiverHere], sandbox: EdgegapSandbox, postgres_url: URL
) -> None:
    one, other, third = replicas
    one.inside(lambda: one.ledger.write(lambda tx: pause(tx, ALL)))
    held = [receiver.push(f"1.{number}") for number, receiver in enumerate(replicas)]
    shown = "SELECT min(seen_at) FROM replicas"
    (since,) = rows(postgres_url, shown)[0]
    until(lambda: rows(postgres_url, shown)[0][0] > since)  # each has looked since
    assert states(postgres_url) == {"queued"}

    other.inside(lambda: other.ledger.write(lambda tx: resume(tx, ALL)))

    until(lambda: states(postgres_url) == {"done"})
    assert [third.ended(delivery)["outcome"] for delivery in held] == ["created"] * 3
    assert {version for _, version in sandbox.versions} == {"1.0", "1.1", "1.2"}


class Locks:
    """Notes who asked for a lock, and who got it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.let: dict[str, list[bool]] = {}
        really = Ledger.try_lock
        answer = self.let

        @asynccontextmanager
        async def try_lock(ledger: Ledger, name: str) -> AsyncIterator[bool]:
            async with really(ledger, name) as mine:
                answer.setdefault(name, []).append(mine)
                yield mine

        monkeypatch.setattr(Ledger, "try_lock", try_lock)


def test_catch_up_and_purge_run_on_one_at_a_time(
    tmp_path: Path, postgres_url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Locks(monkeypatch)
    over: list[bool] = []
    began: list[str] = []

    async def busy(self: CatchUp | Purge, *_: int) -> int:
        began.append(type(self).__name__)
        await asyncio.to_thread(until, lambda: over)
        return 0

    monkeypatch.setattr(CatchUp, "run", busy)
    monkeypatch.setattr(Purge, "run", busy)
    with ExitStack() as running:
        for number in range(3):
            running.enter_context(_replica(tmp_path, number, "http://127.0.0.1:9", postgres_url))
        until(lambda: len(asked.let.get("catch-up", [])) == len(asked.let.get("purge", [])) == 3)
        assert sorted(began) == ["CatchUp", "Purge"]
        over.append(True)

    assert {name: sorted(asked.let[name]) for name in ("catch-up", "purge")} == {
        "catch-up": [False, False, True],
        "purge": [False, False, True],
    }


def test_retention_waits_for_the_replica_that_is_at_it(
    tmp_path: Path, sandbox: EdgegapSandbox, postgres_url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It left it to the other, which had looked before: one version too many stayed."""
    asked = Locks(monkeypatch)
    kept = RULE.replace("preflight = false", "preflight = false\nkeep = 1")
    busy = Ledger(postgres_url)
    with serving(sandbox.app) as url, _replica(tmp_path, 0, url, postgres_url, kept) as receiver:

        async def beside() -> None:
            async with busy.try_lock("retention") as mine:
                assert mine
                for tag in ("1.0", "2.0", "3.0"):
                    delivery = await asyncio.to_thread(receiver.push, tag)
                    await asyncio.to_thread(receiver.ended, delivery)
                await asyncio.to_thread(until, lambda: len(asked.let["retention"]) > 2)
                assert not any(call.method == "DELETE" for call in sandbox.calls)

        asyncio.run(beside())
        until(lambda: list(sandbox.versions) == [(APP, "3.0")])
    busy.close()


def test_two_replicas_at_the_limit_do_not_count_on_the_same_room(
    tmp_path: Path, sandbox: EdgegapSandbox, postgres_url: URL
) -> None:
    """Both deleted the oldest: one had its room, the other was parked at the limit again."""
    sandbox.version_limit = 3
    making_room = RULE.replace("preflight", "make_room = true\npreflight")
    with serving(sandbox.app) as url, ExitStack() as running:
        replicas = [
            running.enter_context(_replica(tmp_path, n, url, postgres_url, making_room))
            for n in range(2)
        ]
        for number in range(3):
            replicas[0].ended(replicas[0].push(f"1.{number}", pushed_at=LONG_AGO + number))
        until(lambda: rows(postgres_url, "SELECT count(*) FROM replicas") == [(2,)])
        sandbox.latency = 0.2
        both = [
            (one, one.push(f"2.{number}", pushed_at=LONG_AGO + 30))
            for number, one in enumerate(replicas)
        ]

        ended = [one.ended(delivery) for one, delivery in both]

    assert [(one["outcome"], one["reason"]) for one in ended] == [("created", None)] * 2
    assert sorted(name for _, name in sandbox.versions) == ["1.2", "2.0", "2.1"]


def test_a_replica_that_has_not_the_rule_yet_leaves_the_push_to_those_that_have(
    tmp_path: Path, sandbox: EdgegapSandbox, postgres_url: URL
) -> None:
    """It parked it, as pods were replaced one after another, and none that had it looked again."""
    sandbox.misbehave(Fault("status", status=503, times=None))
    of_before = RULE.replace(REPOSITORY, "studio/another")
    with (
        serving(sandbox.app) as url,
        _replica(tmp_path, 0, url, postgres_url) as new,
        _replica(tmp_path, 1, url, postgres_url, of_before),
    ):
        until(lambda: rows(postgres_url, "SELECT count(*) FROM replicas") == [(2,)])
        deliveries = [new.push(f"1.{number}") for number in range(3)]
        left = "SELECT sentence FROM registrations WHERE state = 'waiting' AND reason = 'rule_gone'"
        assert "Another replica may already have the rule" in str(
            until(lambda: rows(postgres_url, left))
        )
        sandbox.behave()

        # Which of the two asks next is chance.
        assert [new.ended(one, 120)["outcome"] for one in deliveries] == ["created"] * 3


def test_a_replica_alone_parks_what_it_has_no_rule_for(
    tmp_path: Path, sandbox: EdgegapSandbox, postgres_url: URL
) -> None:
    sandbox.misbehave(Fault("status", status=503, times=None))
    of_before = RULE.replace(REPOSITORY, "studio/another")
    with serving(sandbox.app) as url:
        with _replica(tmp_path, 0, url, postgres_url) as new:
            new.push("1.0")
            until(lambda: states(postgres_url) == {"waiting"})
        with _replica(tmp_path, 1, url, postgres_url, of_before):
            until(lambda: states(postgres_url) == {"parked"})


def test_a_replica_whose_hands_are_full_is_seen(
    tmp_path: Path, sandbox: EdgegapSandbox, postgres_url: URL
) -> None:
    """The others took its share of the pace for theirs."""
    sandbox.misbehave(Fault("timeout", times=None, seconds=30.0))
    in_progress = "SELECT attempts FROM registrations WHERE state = 'working'"
    seen = "SELECT seen_at FROM replicas"
    with serving(sandbox.app) as url, _replica(tmp_path, 0, url, postgres_url) as busy:
        for number in range(AT_ONCE):
            busy.push(f"1.{number}")
        until(lambda: len(rows(postgres_url, in_progress)) == AT_ONCE)
        before = rows(postgres_url, seen)

        until(lambda: rows(postgres_url, seen) > before)
        assert rows(postgres_url, in_progress) == [(1,)] * AT_ONCE


def test_pruning_waits_for_its_turn_too(
    tmp_path: Path, sandbox: EdgegapSandbox, postgres_url: URL, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("receiver.pipeline.prune.TIMEOUT_SECONDS", 0.3)
    busy = Ledger(postgres_url)
    config = RULE.replace("preflight", "keep = 1\npreflight")
    with (
        serving(sandbox.app) as url,
        _replica(tmp_path, 0, url, postgres_url, config) as receiver,
    ):
        receiver.service.worker._retention.begin = lambda app: None
        for tag in ("1.0", "2.0"):
            receiver.ended(receiver.push(tag))

        def prune() -> httpx.Response:
            headers = {"Authorization": f"Bearer {receiver.api_token()}"}
            return httpx.post(
                f"{receiver.url}/api/prune", json={"app": APP}, headers=headers, trust_env=False
            )

        async def beside() -> httpx.Response:
            async with busy.try_lock("retention") as mine:
                assert mine
                return await asyncio.to_thread(prune)

        refused = asyncio.run(beside())
        assert (refused.status_code, "try again" in refused.json()["detail"]) == (409, True)
        assert [name for _, name in sandbox.versions] == ["1.0", "2.0"]

        assert prune().status_code == 200
        assert [name for _, name in sandbox.versions] == ["2.0"]
    busy.close()


def test_replicas_that_get_the_same_pushes_do_not_deadlock(
    replicas: list[ReceiverHere], sandbox: EdgegapSandbox, postgres: Postgres
) -> None:
    """They did, each holding what the other waited for: a second each time, for all who waited."""
    sandbox.misbehave(Fault("status", status=503, times=None))  # so that all stay open, and joined
    before = postgres.deadlocks
    links = [replica.link() for replica in replicas]
    answers: list[int] = []

    def send(seed: int) -> None:
        chance = random.Random(seed)
        with httpx.Client(trust_env=False, timeout=30) as client:
            for _ in range(80):
                body = webhook_body(f"1.{chance.randrange(40)}")
                answers.append(client.post(chance.choice(links), json=body).status_code)

    with ThreadPoolExecutor(24) as senders:
        list(senders.map(send, range(24)))

    assert set(answers) == {202}
    assert postgres.deadlocks == before

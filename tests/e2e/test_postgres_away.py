"""PostgreSQL is away: nothing is accepted, it is reported, and it recovers by itself."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy.engine import URL

from receiver.errors import LedgerError
from receiver.ledger.engine import open_engine, read_database_url
from receiver.ledger.writer import Committer, Writer
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.upkeep import health
from tests.support.postgres import Postgres, plain
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import created_once, until, webhook_body


@pytest.fixture
def receiver(
    tmp_path: Path, edgegap: str, postgres_url: URL, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ReceiverHere]:
    monkeypatch.setattr(health, "REMEMBERED_SECONDS", 0.0)
    environment = {"DATABASE_URL": plain(postgres_url)}
    with receiver_here(tmp_path, edgegap, environment=environment) as one:
        yield one


def health_of(receiver: ReceiverHere, path: str) -> int:
    return httpx.get(f"{receiver.url}/{path}", trust_env=False, timeout=20).status_code


def test_while_it_is_away_pushes_are_answered_503_and_earlier_ones_are_worked_after(
    receiver: ReceiverHere, postgres: Postgres, sandbox: EdgegapSandbox
) -> None:
    sandbox.latency = 0.3
    before = receiver.push("before")
    postgres.crash()
    try:
        refused = receiver.post(webhook_body("meanwhile"))
        answer = (health_of(receiver, "readyz"), health_of(receiver, "livez"))
    finally:
        postgres.start()

    assert refused.status_code == 503
    assert "not accepted" in refused.json()["detail"]
    assert answer == (503, 200)
    until(lambda: health_of(receiver, "readyz") == 200)
    assert receiver.ended(before)["outcome"] == "created"
    assert receiver.ended(receiver.push("after"))["outcome"] == "created"
    assert created_once(sandbox, "before")
    assert "meanwhile" not in {name for _, name in sandbox.versions}


def test_a_server_that_takes_connections_and_says_nothing_is_waited_for_once_a_group() -> None:
    """Each write waited again, one after another: pushes were refused only after a minute."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(0.1)
        port = silent.getsockname()[1]
        engine = open_engine(
            read_database_url(f"postgresql://r:r@127.0.0.1:{port}/r?connect_timeout=2")
        )
        writer = Writer(Committer(engine, lambda _: True, lambda _: True))

        async def all_at_once() -> list[Any]:
            writes = [writer.write(lambda _: None) for _ in range(4)]
            return await asyncio.gather(*writes, return_exceptions=True)

        came = asyncio.run(all_at_once())

        writer.close()
        assert [type(one) for one in came] == [LedgerError] * 4
        connected = 0
        with suppress(TimeoutError):
            while True:
                silent.accept()[0].close()
                connected += 1
        assert connected == 1

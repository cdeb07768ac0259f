"""A rolling upgrade with a migration: old and new replicas side by side, and nothing is lost.

The newer version is this one's code with a migration more, in a folder of its own.
"""

import asyncio
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import URL

import receiver
from receiver.ledger.ledger import Ledger
from receiver.ledger.schema import SCHEMA
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from tests.support.ledger_work import pushed
from tests.support.postgres import plain, rows
from tests.support.receiver_here import receiver_here
from tests.support.receiver_process import APP, TIMEOUT_SECONDS, ReceiverProcess, until
from tests.support.storm import Senders, SentPushes

NEWER = "9000"
MIGRATION = f"""
import sqlalchemy as sa
from alembic import op

revision = "{NEWER}"
down_revision = "{SCHEMA}"


def upgrade() -> None:
    op.add_column("deliveries", sa.Column("why", sa.Text()))
    op.add_column("registrations", sa.Column("why", sa.Text(), nullable=False, server_default=""))
    op.add_column("targets", sa.Column("why", sa.Text()))
    op.create_index("deliveries_by_why", "deliveries", ["why"])
    op.create_table("whys", sa.Column("why", sa.Text(), primary_key=True))
    op.execute("UPDATE meta SET value = '{SCHEMA}' WHERE key = 'serves_schema'")
"""
WAITS = """SELECT 1 FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'
 AND relation = 'deliveries'::regclass"""
CLAIM_WAITS = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'replicas'::regclass"

Begun = list[ReceiverProcess]


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of the newer version."""
    folder = tmp_path_factory.mktemp("newer")
    house = folder / "receiver"
    shutil.copytree(Path(receiver.__file__).parent, house)
    ledger = house / "ledger"
    (ledger / "migrations" / "versions" / f"{NEWER}_newer.py").write_text(MIGRATION, "utf-8")
    schema = (ledger / "schema.py").read_text("utf-8")
    changed = schema.replace(f'SCHEMA = "{SCHEMA}"', f'SCHEMA = "{NEWER}"')
    assert changed != schema
    (ledger / "schema.py").write_text(changed, "utf-8")
    return str(folder)


@pytest.fixture
def replicas(
    tmp_path: Path, sandbox: EdgegapSandbox, postgres_url: URL, newer: str
) -> Iterator[Begun]:
    """Two of this version and two of the newer one; none is started."""
    with ExitStack() as ending:
        url = ending.enter_context(serving(sandbox.app))
        begun = []
        for name in ("old-0", "old-1", "new-0", "new-1"):
            environment = {"DATABASE_URL": plain(postgres_url), "EDGEGAP_CONCURRENCY": "8"}
            if name.startswith("new"):
                environment["PYTHONPATH"] = newer
            (tmp_path / name).mkdir()
            begun.append(ReceiverProcess(tmp_path / name, url, environment=environment))
            ending.callback(begun[-1].stop)
        yield begun


@contextmanager
def under_pushes(replicas: Begun, answer: list[SentPushes]) -> Iterator[Senders]:
    """Send without rest to the replicas that serve at the time."""
    urls = lambda: [one.url for one in replicas if one.process is not None and one.url]  # noqa: E731
    senders = Senders(urls, at_once=16, pause=0.15).start()
    try:
        yield senders
    finally:
        answer.append(senders.stop())


def more(senders: Senders, many: int = 60) -> None:
    """Wait until `many` more are accepted."""
    before = len(senders.sent.accepted)
    until(lambda: len(senders.sent.accepted) > before + many)


def leave(one: ReceiverProcess) -> None:
    """Stop it as a balancer does: no new pushes first, then SIGTERM."""
    one.url = ""
    assert one.stop() == 0


def schema(url: URL) -> str:
    return str(rows(url, "SELECT version_num FROM alembic_version")[0][0])


def troubles(replicas: Begun) -> list[str]:
    logs = [one.log.read_text("utf-8") for one in replicas if one.log.exists()]
    lines = [line for log in logs for line in log.splitlines()]
    events = [json.loads(line) for line in lines if line.startswith("{")]
    bad = ("ledger_unavailable", "_fault", "lease_expired", "lease_lost")
    return [str(event) for event in events if str(event["event"]).endswith(bad)]


def check_exactly_once(answer: SentPushes, sandbox: EdgegapSandbox, url: URL) -> None:
    until(lambda: not rows(url, "SELECT id FROM registrations WHERE state <> 'done'"), 60)
    recorded = {row[0] for row in rows(url, "SELECT id FROM deliveries")}
    assert answer.accepted.keys() <= recorded
    made = {tag: sandbox.posts_that_created(APP, tag) for tag in answer.tags}
    assert {tag: count for tag, count in made.items() if count != 1} == {}


def test_replicas_are_upgraded_one_by_one_under_pushes_and_nothing_is_lost(
    replicas: Begun, sandbox: EdgegapSandbox, postgres_url: URL
) -> None:
    first, second, new, newest = replicas
    first.start()
    second.start()
    answer: list[SentPushes] = []
    with under_pushes(replicas, answer) as senders:
        more(senders)
        before = schema(postgres_url)
        new.start()
        during = schema(postgres_url)
        more(senders)
        leave(first)
        more(senders)
        leave(second)
        newest.start()
        more(senders)

    assert (before, during) == (SCHEMA, NEWER)
    check_exactly_once(answer[0], sandbox, postgres_url)
    assert answer[0].answers.keys() <= {"202", "ReadError", "ConnectError", "RemoteProtocolError"}
    assert troubles(replicas) == []


def test_an_upgrade_is_taken_back_under_pushes(
    replicas: Begun, sandbox: EdgegapSandbox, postgres_url: URL
) -> None:
    old, again, new, _ = replicas
    old.start()
    answer: list[SentPushes] = []
    with under_pushes(replicas, answer) as senders:
        new.start()
        leave(old)
        more(senders)
        again.start()
        leave(new)
        more(senders)

    check_exactly_once(answer[0], sandbox, postgres_url)
    assert troubles(replicas) == []


def test_what_a_replica_claims_while_it_is_stopped_does_not_wait_for_its_lease(
    sandbox: EdgegapSandbox, postgres_url: URL, tmp_path: Path
) -> None:
    environment = {"DATABASE_URL": plain(postgres_url)}
    with (
        serving(sandbox.app) as url,
        receiver_here(tmp_path, url, environment=environment) as here,
        psycopg.connect(plain(postgres_url)) as holding,
    ):
        holding.execute("LOCK TABLE replicas IN EXCLUSIVE MODE")
        until(lambda: rows(postgres_url, CLAIM_WAITS))
        ledger = Ledger(postgres_url)
        ledger.open_to_write()
        asyncio.run(ledger.write(lambda tx: pushed(tx, "1.0")))
        asyncio.run(ledger.write(lambda tx: tx.run("UPDATE registrations SET due_at = 0").rowcount))
        ledger.close()
        worker = here.service.worker
        stopping = asyncio.run_coroutine_threadsafe(worker.stop(5), here._loop)
        here.inside(lambda: asyncio.sleep(0))  # it has begun to stop by now
        holding.rollback()
        stopping.result(TIMEOUT_SECONDS)

    assert rows(postgres_url, "SELECT state FROM registrations") == [("done",)]
    assert sandbox.posts_that_created(APP, "1.0") == 1


def test_a_migration_that_has_to_wait_for_a_dump_keeps_no_push_out(
    replicas: Begun, sandbox: EdgegapSandbox, postgres_url: URL
) -> None:
    """Two that start at once both wait, and one of them migrates."""
    old, _, new, newest = replicas
    old.start()
    with psycopg.connect(plain(postgres_url)) as dump, ThreadPoolExecutor(2) as starting:
        dump.execute("LOCK TABLE deliveries IN ACCESS SHARE MODE")
        coming = [starting.submit(one.start) for one in (new, newest)]
        until(lambda: rows(postgres_url, WAITS))
        accepted = [old.push(f"1.{number}") for number in range(5)]
        waited = schema(postgres_url)
        dump.rollback()
        for one in coming:
            one.result()

    assert (waited, schema(postgres_url)) == (SCHEMA, NEWER)
    for delivery in accepted:
        assert newest.ended(delivery)["outcome"] == "created"
    assert troubles(replicas) == []

"""The ledger is locked, gone, or its disk full: 503 and unready, then all is well again."""

import json
import resource
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from receiver.ledger import engine as engines
from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.upkeep import health
from tests.conftest import StartReceiver
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import ReceiverProcess, created_once, until, webhook_body

SMALLER_THAN_A_PAGE = 4096


@pytest.fixture
def here(edgegap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReceiverHere]:
    monkeypatch.setattr(engines, "BUSY_TIMEOUT_MS", 100)
    monkeypatch.setattr(health, "REMEMBERED_SECONDS", 0.0)
    with receiver_here(tmp_path, edgegap) as receiver:
        yield receiver


def readiness(receiver: ReceiverProcess) -> tuple[int, Any]:
    answer = httpx.get(f"{receiver.url}/readyz", trust_env=False, timeout=20)
    return answer.status_code, answer.json()


def is_ready(receiver: ReceiverProcess) -> bool:
    return readiness(receiver)[0] == 200


def assert_nothing_is_taken(receiver: ReceiverProcess, tag: str = "lost") -> None:
    answer = receiver.post(webhook_body(tag))
    assert answer.status_code == 503, answer.text
    assert "not accepted" in answer.json()["detail"]
    assert "verdict" not in answer.json()
    assert receiver.post(b"{").status_code == 400  # the sender's fault stays the sender's fault
    status, result = readiness(receiver)
    assert (status, result["ready"]) == (503, False)
    assert result["detail"]
    alive = httpx.get(f"{receiver.url}/livez", trust_env=False)
    assert alive.status_code == 200


def tags_in(receiver: ReceiverProcess) -> set[str]:
    listed = httpx.get(
        f"{receiver.url}/api/deliveries",
        headers={"Authorization": f"Bearer {receiver.api_token()}"},
        trust_env=False,
    )
    return {row["tag"] for row in listed.json()["deliveries"]}


def test_a_locked_ledger_takes_nothing_and_finishes_what_it_had_when_it_is_free(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    sandbox.misbehave(Fault("slow", method="POST", after=True))
    accepted = here.push("1.0.0")
    until(lambda: sandbox.versions)
    stranger = sqlite3.connect(here.folder / "receiver.db", isolation_level=None)
    stranger.execute("BEGIN IMMEDIATE")
    sandbox.proceed()

    assert_nothing_is_taken(here)
    stranger.execute("ROLLBACK")
    stranger.close()

    until(lambda: is_ready(here))
    assert here.ended(accepted)["outcome"] == "created"
    assert here.ended(here.push("1.0.1"))["outcome"] == "created"
    assert created_once(sandbox, "1.0.0")
    assert tags_in(here) == {"1.0.0", "1.0.1"}


def test_a_ledger_moved_away_takes_nothing_and_goes_on_when_it_is_back(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    here.ended(here.push("1.0.0"))
    ledger, elsewhere = here.folder / "receiver.db", here.folder / "elsewhere"
    ledger.rename(elsewhere)

    assert_nothing_is_taken(here)
    assert not ledger.exists()  # an empty new one would be worse than none
    elsewhere.rename(ledger)

    until(lambda: is_ready(here))
    assert here.ended(here.push("1.0.1"))["outcome"] == "created"
    assert tags_in(here) == {"1.0.0", "1.0.1"}


def test_a_ledger_put_back_as_a_copy_is_read_again(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    here.ended(here.push("1.0.0"))
    ledger, elsewhere = here.folder / "receiver.db", here.folder / "elsewhere"
    with sqlite3.connect(ledger) as connection:
        connection.execute("VACUUM INTO ?", (str(elsewhere),))
    connection.close()
    ledger.unlink()
    assert_nothing_is_taken(here)
    for leftover in here.folder.glob("receiver.db-*"):
        leftover.unlink()
    shutil.copy(elsewhere, ledger)

    until(lambda: is_ready(here))
    assert here.ended(here.push("1.0.1"))["outcome"] == "created"
    assert tags_in(here) == {"1.0.0", "1.0.1"}


def test_another_kind_of_file_in_its_place_is_never_written(here: ReceiverHere) -> None:
    ledger, elsewhere = here.folder / "receiver.db", here.folder / "elsewhere"
    ledger.rename(elsewhere)
    with sqlite3.connect(ledger) as connection:
        connection.execute("CREATE TABLE somebody (elses TEXT)")
    connection.close()

    assert_nothing_is_taken(here)
    with sqlite3.connect(ledger) as connection:
        tables = connection.execute("SELECT name FROM sqlite_master").fetchall()
    connection.close()
    assert tables == [("somebody",)]
    ledger.unlink()
    elsewhere.rename(ledger)
    until(lambda: is_ready(here))


def test_a_full_disk_takes_nothing_and_loses_nothing_until_there_is_room(
    start: StartReceiver, sandbox: EdgegapSandbox
) -> None:
    receiver = start()
    accepted = receiver.push("1.0.0")
    receiver.ended(accepted)
    assert receiver.process is not None
    process = receiver.process.pid
    # No page fits any more: the system refuses the write, as it does on a full disk.
    _, hard = resource.prlimit(process, resource.RLIMIT_FSIZE)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (SMALLER_THAN_A_PAGE, hard))

    until(lambda: receiver.post(webhook_body("filling")).status_code == 503)
    assert_nothing_is_taken(receiver)
    resource.prlimit(process, resource.RLIMIT_FSIZE, (hard, hard))

    assert receiver.ended(receiver.push("1.0.1"))["outcome"] == "created"
    assert receiver.ended(accepted)["outcome"] == "created"
    assert "lost" not in tags_in(receiver)
    events = [json.loads(line)["event"] for line in receiver.log.read_text().splitlines()]
    assert "ledger_unavailable" in events
    assert "registration_fault" not in events


def test_a_second_serve_waits_and_takes_over_when_the_first_leaves(start: StartReceiver) -> None:
    first = start()
    accepted = first.push("1.0.0")
    second = ReceiverProcess(first.folder, first.environment["EDGEGAP_BASE_URL"])
    second.log = first.folder / "second.log"
    starting = threading.Thread(target=second.start)
    starting.start()
    until(lambda: second.log.exists() and "ledger_in_use" in second.log.read_text("utf-8"))
    assert second.url == ""

    first.stop()
    starting.join()

    assert second.ended(accepted)["state"] == "done"
    assert second.stop() == 0

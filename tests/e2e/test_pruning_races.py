"""Nothing is deleted that a newer fact protects: pushes while old versions are being deleted."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from receiver.ledger import deletions
from receiver.ledger.deletions import begin_deletion, end_deletion
from receiver.ledger.transaction import Tx
from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from tests.crash.asking import asked, ledger_of
from tests.e2e.test_retention import KEEPING, MOMENTS, make, versions, whys
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import APP, TIMEOUT_SECONDS, ReceiverProcess, until

T = TypeVar("T")

UNDER_WAY = "SELECT version FROM deletions WHERE ended_at IS NULL"


class HeldUp:
    """The receiver's next call of a kind to Edgegap waits until it is released."""

    def __init__(self, here: ReceiverHere, call: str) -> None:
        self._here = here
        self._arrived = threading.Event()
        self._released = asyncio.Event()
        client = here.service.client
        really = getattr(client, call)

        async def waiting(*arguments: Any) -> Any:
            setattr(client, call, really)
            self._arrived.set()
            await self._released.wait()
            return await really(*arguments)

        setattr(client, call, waiting)

    def arrived(self) -> None:
        """Wait until the receiver is there."""
        assert self._arrived.wait(TIMEOUT_SECONDS)

    def release(self) -> None:
        """Answer it."""
        self._here._loop.call_soon_threadsafe(self._released.set)


@pytest.fixture
def here(edgegap: str, tmp_path: Path) -> Iterator[ReceiverHere]:
    with receiver_here(tmp_path, edgegap, config=KEEPING) as receiver:
        yield receiver


def push(receiver: ReceiverProcess, tag: str) -> str:
    return receiver.push(tag, pushed_at=next(MOMENTS))


def deleted(sandbox: EdgegapSandbox, version: str) -> bool:
    return any(call.method == "DELETE" and version in call.path for call in sandbox.calls)


def written(here: ReceiverHere, write: Callable[[Tx], T]) -> T:
    return here.inside(lambda: here.ledger.write(write))


def registration_of(receiver: ReceiverProcess, delivery: str) -> dict[str, Any]:
    (one,) = receiver.details(delivery)["registrations"]
    return dict(one)


def test_a_version_pushed_again_while_it_is_looked_at_is_kept_and_the_next_one_goes(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    """It was deleted, though its push was the newest and had just been reported as done."""
    make(here, "1.4.1", "1.4.2")
    looking = HeldUp(here, "deployments")
    push(here, "1.5.0")
    looking.arrived()

    assert here.ended(push(here, "1.4.1"))["outcome"] == "unchanged"
    looking.release()

    until(lambda: sorted(versions(sandbox)) == ["1.4.1", "1.5.0"])
    assert not deleted(sandbox, "/1.4.1")
    assert "came in between" in whys(here)["1.4.1"]


def test_what_began_to_run_after_the_first_look_keeps_its_version(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    """What runs was asked before the target was locked, and not right before the DELETE."""
    make(here, "1.4.1", "1.4.2")
    looking = HeldUp(here, "deployments")
    push(here, "1.5.0")
    looking.arrived()
    asking = HeldUp(here, "deployments")
    looking.release()
    asking.arrived()

    sandbox.deployments.run(APP, "1.4.1")
    asking.release()

    until(lambda: "1 deployment of it is running" in whys(here).get("1.4.1", ""))
    assert not deleted(sandbox, "/1.4.1")
    assert here.ended(push(here, "1.4.1"))["outcome"] == "unchanged"  # its target is free again


def test_a_push_of_the_version_that_is_being_deleted_waits_and_creates_it_again(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    make(here, "1.4.1", "1.4.2")
    deleting = HeldUp(here, "delete")
    push(here, "1.5.0")
    deleting.arrived()

    delivery = push(here, "1.4.1")
    held = registration_of(here, delivery)["held_back"]
    deleting.release()

    assert [one["by"] for one in held] == ["deletion"]
    assert here.ended(delivery)["outcome"] == "created"
    until(lambda: sorted(versions(sandbox)) == ["1.4.1", "1.5.0"])


@pytest.mark.parametrize("state", ["queued", "waiting", "parked"])
def test_a_version_with_an_open_registration_is_kept(
    here: ReceiverHere, sandbox: EdgegapSandbox, state: str
) -> None:
    make(here, "1.0", "1.1")
    opened = "UPDATE registrations SET state = :state, due_at = :due WHERE tag = '1.0'"
    written(here, lambda tx: tx.run(opened, state=state, due=tx.now + 3_600_000).rowcount)

    make(here, "1.2", "1.3")

    until(lambda: versions(sandbox) == ["1.0", "1.2", "1.3"])
    assert "came in between" in whys(here)["1.0"]


def test_a_pin_set_by_a_reload_while_a_version_is_looked_at_keeps_it(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    make(here, "1.0", "1.1")
    looking = HeldUp(here, "deployments")
    push(here, "1.2")
    looking.arrived()
    here.config.write_text(KEEPING.replace("keep = 2", 'keep = 2\npin = ["1.0"]'), "utf-8")

    assert here.inside(lambda: here.service.reload(here.environment)).faults == ()
    looking.release()

    until(lambda: "came in between" in whys(here).get("1.0", ""))
    assert versions(sandbox) == ["1.0", "1.1", "1.2"]


@pytest.mark.parametrize(
    "answer",
    [
        Fault("status", method="DELETE", status=200, body='{"success": false, "message": "busy"}'),
        Fault("status", method="DELETE", status=500, message="busy"),
    ],
    ids=["success false", "error"],
)
def test_a_deletion_counts_only_if_edgegap_confirms_it(
    here: ReceiverHere, sandbox: EdgegapSandbox, answer: Fault
) -> None:
    sandbox.misbehave(answer)

    make(here, "1.0", "1.1", "1.2")

    until(lambda: "busy" in whys(here).get("1.0", ""))
    assert versions(sandbox) == ["1.0", "1.1", "1.2"]
    make(here, "1.3")
    until(lambda: versions(sandbox) == ["1.2", "1.3"])


@pytest.mark.parametrize(
    "answer",
    [
        Fault("hang_up", method="DELETE", after=True),
        Fault("reset", method="DELETE", after=True),
        Fault("status", method="DELETE", after=True, status=504),
        Fault("garbage", method="DELETE", after=True),
        Fault("status", method="DELETE", after=True, status=500),
    ],
    ids=lambda fault: f"{fault.kind} {fault.status}",
)
def test_one_that_was_deleted_without_a_readable_answer_is_noted_as_deleted(
    here: ReceiverHere, sandbox: EdgegapSandbox, answer: Fault
) -> None:
    sandbox.misbehave(answer)

    make(here, "1.0", "1.1", "1.2")

    until(lambda: whys(here).get("1.0") == "beyond keep = 2")
    assert versions(sandbox) == ["1.1", "1.2"]


@pytest.mark.parametrize("deleted", [True, False], ids=["deleted", "still there"])
def test_a_deletion_whose_process_died_is_looked_at_before_anybody_works_on_its_target(
    edgegap: str,
    tmp_path: Path,
    sandbox: EdgegapSandbox,
    monkeypatch: pytest.MonkeyPatch,
    deleted: bool,
) -> None:
    monkeypatch.setattr(deletions, "CALL_MS", 0)
    monkeypatch.setattr(deletions, "EFFECT_MS", 1500)
    with receiver_here(tmp_path, edgegap, config=KEEPING) as receiver:
        make(receiver, "1.0", "1.1")
        receiver.inside(
            lambda: receiver.ledger.write(
                lambda tx: begin_deletion(tx, APP, "1.0", why="beyond keep = 2")
            )
        )
        if deleted:
            sandbox.delete_version(APP, "1.0")
    with receiver_here(tmp_path, edgegap, config=KEEPING) as receiver:
        delivery = push(receiver, "1.0")

        ended = receiver.ended(delivery)

        assert ended["outcome"] == ("created" if deleted else "unchanged")
        assert whys(receiver)["1.0"].startswith("beyond keep" if deleted else "Edgegap did not")
        assert "1.0" in versions(sandbox)


def test_a_killed_receiver_leaves_no_version_absent_that_is_reported_as_done(
    sandbox: EdgegapSandbox, edgegap: str, tmp_path: Path
) -> None:
    receiver = ReceiverProcess(tmp_path, edgegap, config=KEEPING).start()
    first = push(receiver, "1.0")
    receiver.ended(first)
    receiver.ended(push(receiver, "1.1"))
    sandbox.misbehave(Fault("slow", method="DELETE", after=True))
    push(receiver, "1.2")
    ledger = ledger_of(tmp_path)
    until(lambda: asked(ledger, UNDER_WAY))
    until(lambda: "1.0" not in versions(sandbox))
    receiver.kill()
    receiver.start()

    delivery = push(receiver, "1.0")

    assert receiver.ended(delivery, 90)["outcome"] == "created"
    assert receiver.details(first)["registrations"][0]["deleted_why"] == "beyond keep = 2"
    receiver.stop()


def test_what_ended_well_while_a_deletion_was_under_way_is_queued_again(
    here: ReceiverHere, sandbox: EdgegapSandbox
) -> None:
    """Only a process that hung for a minute gets there: its lock was given to another."""
    make(here, "1.0")
    deletion = written(here, lambda tx: begin_deletion(tx, APP, "1.0", why="old"))
    written(here, lambda tx: end_deletion(tx, deletion, deleted=False, why="still there"))
    delivery = push(here, "1.0")
    assert here.ended(delivery)["outcome"] == "unchanged"

    sandbox.delete_version(APP, "1.0")
    written(here, lambda tx: end_deletion(tx, deletion, deleted=True, why="old"))
    here.wake()

    until(lambda: versions(sandbox) == ["1.0"])
    until(lambda: registration_of(here, delivery)["outcome"] == "created")

"""Trials that wait until Edgegap has room for a deployment."""

from pathlib import Path

import pytest

from receiver.ledger.gates import pause
from receiver.ledger.transaction import Tx
from receiver.ledger.trials import may_run
from receiver.logs import Source
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.edgegap_deployments import DeploymentQuirks
from tests.e2e.test_trials import CONFIG, OURS, by_kind
from tests.support.receiver_here import receiver_here
from tests.support.receiver_process import REPOSITORY, until


@pytest.fixture
def sandbox(quick_trials: EdgegapSandbox) -> EdgegapSandbox:
    return quick_trials


def test_a_push_comes_before_the_trials_that_wait_for_room(
    edgegap: str, sandbox: EdgegapSandbox, tmp_path: Path
) -> None:
    """All were tried again first, and a later push got no version meanwhile."""
    sandbox.deployments.quirks = DeploymentQuirks(capacity=0)
    environment = {"EDGEGAP_CONCURRENCY": "1"}

    def rests(tx: Tx) -> bool:
        busy = tx.run("SELECT 1 FROM registrations WHERE state = 'working'").first()
        return busy is None and not may_run(tx)

    with receiver_here(tmp_path, edgegap, config=CONFIG, environment=environment) as receiver:
        pushed = [receiver.push(f"1.{number}") for number in range(10)]
        until(lambda: all("trial" in by_kind(receiver, one) for one in pushed))
        write, read = receiver.ledger.write, receiver.ledger.read
        receiver.inside(lambda: write(lambda tx: pause(tx, REPOSITORY)))
        until(lambda: receiver.inside(lambda: read(rests)))
        later = receiver.push("2.0")
        due = "UPDATE registrations SET due_at = 1 WHERE mode = 'trial'"
        assert receiver.inside(lambda: write(lambda tx: tx.run(due).rowcount)) == len(pushed)
        before = len(sandbox.calls)
        receiver.inside(lambda: receiver.service.manual.resume(REPOSITORY, Source.COMMAND))
        until(lambda: by_kind(receiver, later)["create"]["outcome"] == "created")
        asked = [call.path for call in sandbox.calls[before:] if call.method == "POST"]
        assert asked[0].endswith("/version")
        until(lambda: by_kind(receiver, pushed[0])["trial"]["reason"] == "no_capacity")

    assert sandbox.deployments.active(OURS) == []

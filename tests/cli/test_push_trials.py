"""`push --wait` without a server: what it deployed for a trial does not run on after it."""

import pytest
from sqlalchemy.engine import URL

from receiver.ledger.engine import read_database_url
from receiver.ledger.ledger import Ledger
from receiver.sandbox.edgegap import EdgegapSandbox
from tests.support.commands import Commands
from tests.support.postgres import plain, rows
from tests.support.receiver_process import REPOSITORY, RULE, until

IMAGE = f"{REPOSITORY}:1.0.0"
STEADY = f'{RULE}\n[rule.trial]\nat = "45.5,-73.6"\n'  # for longer than the tests wait


def test_a_push_that_is_processed_without_a_server_leaves_no_trial_running(
    commands_with_edgegap: Commands, sandbox: EdgegapSandbox
) -> None:
    """The default timeout is over before a trial is; nothing watched its deployment after that."""
    sandbox.deployments.set_lifecycle(ready_after=0.1, stop_takes=0.1)
    commands_with_edgegap.configure(STEADY)

    done = commands_with_edgegap.run("push", IMAGE, "--wait", "--timeout", "4")

    assert done.exit_code == 6, done.output
    assert "/v2/deployments" in [call.path for call in sandbox.calls]
    until(lambda: sandbox.deployments.active() == [])


@pytest.mark.parametrize("replica", [False, True])
def test_on_a_shared_ledger_it_leaves_its_trial_only_to_a_replica_that_is_running(
    commands_with_edgegap: Commands, sandbox: EdgegapSandbox, postgres_url: URL, replica: bool
) -> None:
    """Without one, the deployment ran until the next start of a server."""
    sandbox.deployments.set_lifecycle(ready_after=0.1, stop_takes=0.1)
    commands_with_edgegap.configure(STEADY)
    url = commands_with_edgegap.environment["DATABASE_URL"] = plain(postgres_url)
    ledger = Ledger(read_database_url(url))
    ledger.open_to_write()
    ledger.close()
    if replica:
        rows(postgres_url, f"INSERT INTO replicas VALUES ('other', {2**53}) RETURNING 1")

    done = commands_with_edgegap.run("push", IMAGE, "--wait", "--timeout", "4")

    assert done.exit_code == 6, done.output
    assert "/v2/deployments" in [call.path for call in sandbox.calls]
    assert ("DELETE" in [call.method for call in sandbox.calls]) is not replica
    until(lambda: bool(sandbox.deployments.active()) is replica)

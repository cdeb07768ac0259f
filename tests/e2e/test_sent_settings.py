"""The ledger keeps what each version was sent, and none of its secrets."""

from sqlalchemy.engine import URL

from receiver.edgegap.sent_settings import SentSettings
from receiver.ledger.ledger import Ledger
from receiver.ledger.sent_settings import sent_to
from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from tests.conftest import StartReceiver
from tests.support.receiver_process import APP, NO_CATCH_UP, RULE, ReceiverProcess, until

CONFIG = (
    RULE.replace("preflight = false", 'preflight = false\nchannels = ["staging"]')
    + 'envs = [{ key = "DB", value_from = "GAME_DB", is_hidden = true }, '
    + '{ key = "MODE", value = "canary-mode" }]\n'
    + NO_CATCH_UP
)
SECRETS = {
    "GAME_DB": "canary-db",
    "DOCKERHUB_USERNAME": "studio-bot",
    "DOCKERHUB_TOKEN": "canary-hub",
}


def kept(receiver: ReceiverProcess, version: str) -> SentSettings | None:
    """What the ledger of a receiver that has stopped has."""
    ledger = Ledger(URL.create("sqlite", database=str(receiver.folder / "receiver.db")))
    ledger.open_readonly()
    found = ledger.read_sync(lambda tx: sent_to(tx, APP, version))
    ledger.close()
    return None if found is None else found.settings


def test_versions_and_channels_have_a_copy_without_secrets(
    start: StartReceiver, sandbox: EdgegapSandbox
) -> None:
    receiver = start(config=CONFIG, environment=SECRETS)
    delivery = receiver.push("1.0.0")
    until(lambda: len(receiver.details(delivery)["registrations"]) == 2)
    receiver.ended(delivery)
    receiver.stop()

    created, moved = kept(receiver, "1.0.0"), kept(receiver, "staging")

    assert created is not None
    assert moved is not None
    assert (moved.image, moved.login) == (created.image, created.login)
    assert set(moved.variables) == set(created.variables)
    assert created.tag == "1.0.0"
    assert (created.settings["req_cpu"], created.settings["req_memory"]) == (1024, 2048)
    assert created.settings["max_duration"] == 1440  # as Edgegap shows it
    assert [one.key for one in created.variables] == ["DB", "MODE"]
    assert all(one.hash for one in created.variables)
    assert created.login
    assert "canary" not in receiver.everything_written()


def test_killed_before_the_commit_the_copy_is_planned_again(
    start: StartReceiver, sandbox: EdgegapSandbox
) -> None:
    sandbox.misbehave(Fault("slow", method="POST", after=True, seconds=20))
    receiver = start(config=CONFIG, environment=SECRETS)
    delivery = receiver.push("1.0.0")
    until(lambda: sandbox.versions)

    receiver.kill()
    receiver.start()

    assert receiver.ended(delivery)["outcome"] == "created"
    receiver.stop()
    found = kept(receiver, "1.0.0")
    assert found is not None
    assert found.tag == "1.0.0"


def test_a_refused_request_leaves_no_copy(start: StartReceiver, sandbox: EdgegapSandbox) -> None:
    sandbox.misbehave(Fault("status", method="POST", status=400, message="no"))
    receiver = start(config=CONFIG, environment=SECRETS)

    assert receiver.ended(receiver.push("1.0.0"))["state"] == "parked"
    receiver.stop()

    assert kept(receiver, "1.0.0") is None

"""One push is one version, however often it is reported and whenever the receiver dies."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from receiver.config.load import load_settings
from receiver.ledger.claims import MAX_CRASHES, claim, reclaim_expired, waits_alone
from receiver.ledger.ledger import Ledger
from receiver.ledger.transaction import Tx
from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from tests.conftest import StartReceiver
from tests.support.receiver_process import APP, ReceiverProcess, created_once, until, webhook_body


def posts(sandbox: EdgegapSandbox) -> int:
    return sum(call.method == "POST" for call in list(sandbox.calls))


def test_six_deliveries_at_once_are_six_deliveries_and_one_version(
    receiver: ReceiverProcess, sandbox: EdgegapSandbox
) -> None:
    sandbox.latency = 0.05
    with ThreadPoolExecutor(6) as senders:
        deliveries = list(senders.map(receiver.push, ["1.0.0"] * 6))

    ended = [receiver.ended(delivery) for delivery in deliveries]

    assert len(set(deliveries)) == 6
    assert {one["state"] for one in ended} == {"done"}
    assert posts(sandbox) == 1
    assert created_once(sandbox, "1.0.0")


def test_a_push_reported_again_when_done_is_looked_at_and_left_unchanged(
    receiver: ReceiverProcess, sandbox: EdgegapSandbox
) -> None:
    first = receiver.ended(receiver.push("1.0.0"))

    again = receiver.ended(receiver.push("1.0.0"))

    assert (first["outcome"], again["outcome"]) == ("created", "unchanged")
    assert again["id"] != first["id"]
    assert posts(sandbox) == 1


def test_a_push_reported_again_after_a_restart_is_left_unchanged(
    receiver: ReceiverProcess, sandbox: EdgegapSandbox
) -> None:
    receiver.ended(receiver.push("1.0.0"))
    assert receiver.stop() == 0
    receiver.start()

    assert receiver.ended(receiver.push("1.0.0"))["outcome"] == "unchanged"
    assert posts(sandbox) == 1


def test_a_push_reported_again_during_work_joins_and_is_looked_at_once_more(
    receiver: ReceiverProcess, sandbox: EdgegapSandbox
) -> None:
    sandbox.misbehave(Fault("slow", method="POST", after=True))
    first = receiver.push("1.0.0")
    until(lambda: sandbox.versions)

    second = receiver.push("1.0.0")
    sandbox.proceed()

    one, other = receiver.ended(first), receiver.ended(second)
    until(lambda: receiver.ended(second)["tries"] == 2)
    assert one["id"] == other["id"]
    assert set(other["deliveries"]) == {first, second}
    assert posts(sandbox) == 1


def test_killed_between_the_post_and_the_commit_the_version_counts_as_created(
    receiver: ReceiverProcess, sandbox: EdgegapSandbox
) -> None:
    sandbox.misbehave(Fault("slow", method="POST", after=True, seconds=20))
    delivery = receiver.push("1.0.0")
    until(lambda: sandbox.versions)  # Edgegap has made it, and we have no response yet

    receiver.kill()
    receiver.start()

    ended = receiver.ended(delivery)
    assert ended["outcome"] == "created"
    sent = [call for call in ended["requests"] if call["method"] == "POST"]
    assert [(call["status"], call["message"]) for call in sent] == [(None, "sent")]
    assert posts(sandbox) == 1


def test_killed_before_edgegap_made_it_the_version_is_made_after_the_restart(
    receiver: ReceiverProcess, sandbox: EdgegapSandbox
) -> None:
    sandbox.misbehave(Fault("timeout", method="POST", seconds=20))
    delivery = receiver.push("1.0.0")
    until(lambda: posts(sandbox) == 1)

    receiver.kill()
    receiver.start()

    assert receiver.ended(delivery)["outcome"] == "created"
    assert created_once(sandbox, "1.0.0")


def test_killed_again_and_again_every_202_ends_in_exactly_one_version(
    receiver: ReceiverProcess, sandbox: EdgegapSandbox
) -> None:
    sandbox.latency = 0.02
    accepted: dict[str, str] = {}
    tags = iter([f"1.0.{number}" for number in range(40)])
    for round_ in range(8):
        for tag in [next(tags) for _ in range(5)]:
            accepted[receiver.push(tag)] = tag
        made = len(sandbox.versions)
        if round_ % 2:  # sometimes in the midst of work, sometimes before it begins
            until(lambda made=made: len(sandbox.versions) > made)  # type: ignore[misc]
        receiver.kill()
        receiver.start()

    ended = {tag: receiver.ended(delivery) for delivery, tag in accepted.items()}

    assert {one["outcome"] for one in ended.values()} == {"created"}
    assert {tag for tag in ended if created_once(sandbox, tag)} == set(ended)
    assert len(sandbox.versions) == 40


def test_a_202_is_on_disk_though_the_receiver_is_killed_at_once(
    start: StartReceiver, sandbox: EdgegapSandbox
) -> None:
    receiver = start()
    sandbox.token_state = "refused"  # so that nothing is worked meanwhile
    accepted: list[str] = []

    def keep_sending(sender: int) -> None:
        with httpx.Client(trust_env=False) as client:
            for number in range(1000):
                tag = f"{sender}.{number}"
                try:
                    answer = client.post(receiver.link(), json=webhook_body(tag))
                except httpx.TransportError:
                    return  # killed
                if answer.status_code == 202:
                    accepted.append(answer.json()["delivery"])

    with ThreadPoolExecutor(4) as senders:
        sending = [senders.submit(keep_sending, sender) for sender in range(4)]
        until(lambda: len(accepted) > 60)
        receiver.kill()
        for one in sending:
            one.result()
    receiver.start()

    assert [receiver.details(one)["verdict"] for one in accepted] == ["accepted"] * len(accepted)


def test_a_wait_survives_a_restart(start: StartReceiver, sandbox: EdgegapSandbox) -> None:
    receiver = start()
    sandbox.misbehave(Fault("status", method="POST", status=429, retry_after=3600))
    delivery = receiver.push("1.0.0")

    def waiting() -> dict[str, object] | None:
        one = receiver.details(delivery)["registrations"][0]
        return dict(one) if one["state"] == "waiting" else None

    before = until(waiting)
    receiver.kill()
    calls = len(sandbox.calls)
    receiver.start()
    receiver.push("1.0.1")

    after = waiting()
    assert after is not None
    assert (after["due_at"], after["reason"]) == (before["due_at"], "edgegap_busy")  # type: ignore[index]
    assert len(sandbox.calls) == calls  # the gate too survived: the new push waits as well


@pytest.mark.parametrize(("crashes", "state"), [(MAX_CRASHES, "parked"), (MAX_CRASHES - 1, "done")])
def test_six_crashes_in_a_row_park_it(
    receiver: ReceiverProcess, sandbox: EdgegapSandbox, crashes: int, state: str
) -> None:
    sandbox.misbehave(Fault("timeout", method="GET", seconds=20))
    delivery = receiver.push("1.0.0")
    until(lambda: sandbox.calls)
    receiver.kill()  # the first; the others as a dead worker leaves them: claimed, never settled
    environment = {**receiver.environment, "RECEIVER_CONFIG": str(receiver.config)}
    ledger = Ledger(load_settings(environment).database_url)
    ledger.open_to_write()
    with ledger._write_engine.connect() as connection:
        for _ in range(crashes - 1):
            with connection.begin():
                reclaim_expired(Tx(connection), all_of_them=True)
                tx = Tx(connection)
                assert claim(tx, owner="dying", most=1, alone=waits_alone(tx))
    ledger.close()
    receiver.start()

    ended = receiver.ended(delivery)
    assert ended["state"] == state
    if state == "parked":
        assert ended["reason"] == "crashes_the_worker"
        assert (APP, "1.0.0") not in sandbox.versions
        replayed = receiver.run("replay", delivery)
        assert replayed.returncode == 0, replayed.stderr
        until(lambda: receiver.ended(delivery)["outcome"] == "created")

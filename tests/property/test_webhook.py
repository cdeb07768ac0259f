"""Thousands of made-up bodies for the webhook; `python -m tests.hostile` sends any number."""

from receiver.sandbox.edgegap import EdgegapSandbox
from tests.hostile.sending import send_many
from tests.support.receiver_process import ReceiverProcess, until, webhook_body

MANY = 3_000
SEED = 20_260


def test_whatever_is_sent_is_answered_and_what_is_accepted_is_kept(
    receiver: ReceiverProcess, sandbox: EdgegapSandbox
) -> None:
    sent = send_many(receiver, MANY, SEED)

    assert sent.broken == []
    assert sum(sent.statuses.values()) == MANY
    assert set(sent.statuses) <= {200, 202, 400, 404, 413, 429}
    assert min(sent.statuses[202], sent.statuses[400], sent.statuses[404]) > 20
    assert all(
        receiver.details(identity)["id"] == identity for identity in sorted(sent.accepted)[:9]
    )
    assert receiver.ended(receiver.push("after-all-that"))["outcome"] == "created"
    assert "Traceback" not in receiver.log.read_text("utf-8")
    until(lambda: receiver.post(webhook_body("2.0")).status_code == 202)

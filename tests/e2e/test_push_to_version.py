"""A push becomes a version, end to end, through public endpoints only."""

from receiver.sandbox.edgegap import EdgegapSandbox
from tests.support.receiver_process import (
    APP,
    REPOSITORY,
    ReceiverProcess,
    created_once,
    webhook_body,
)


def test_a_push_becomes_a_version(receiver: ReceiverProcess, sandbox: EdgegapSandbox) -> None:
    delivery = receiver.push("1.0.0")

    registration = receiver.ended(delivery)

    assert registration["state"] == "done"
    assert registration["outcome"] == "created"
    version = sandbox.versions[APP, "1.0.0"]
    assert version["docker_repository"] == "docker.io"
    assert version["docker_image"] == REPOSITORY
    assert version["docker_tag"] == "1.0.0"
    assert version["verify_image"] is True
    assert created_once(sandbox, "1.0.0")


def test_docker_hubs_noise_is_ignored_with_its_reason(receiver: ReceiverProcess) -> None:
    answer = receiver.post(webhook_body(""))

    assert answer.status_code == 200
    assert answer.json()["verdict"] == "ignored"
    assert answer.json()["reason"] == "no_tag"

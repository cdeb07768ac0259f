"""The long poll: one request that answers with the result of a push, whenever that is known."""

import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from receiver.rules import trial
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from receiver.signing import ApiToken, ApiTokenSigner
from receiver.timestamps import format_time
from receiver.upkeep import waiting
from tests.conftest import StartReceiver
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import APP, KEY, REPOSITORY, RULE, ReceiverProcess, until

LOBBY = "studio/lobby"
LONG = 60  # seconds: no test waits for them
DIGEST = f"sha256:{'a1' * 32}"
OTHER_DIGEST = f"sha256:{'b2' * 32}"
MOVING = RULE.replace("preflight = false", 'preflight = false\nchannels = ["staging"]')
CONFIG = f"""
{MOVING}
[[rule]]
repository = "{LOBBY}"
app = "lobby"
preflight = false
"""


@pytest.fixture
def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ReceiverHere]:
    """A receiver that looks again after an hour only: everything else wakes it."""
    monkeypatch.setattr(waiting, "LOOK_AGAIN_SECONDS", 3600.0)
    sandbox = EdgegapSandbox(apps=("my-game", "lobby"))
    with (
        serving(sandbox.app) as edgegap,
        receiver_here(tmp_path, edgegap, config=CONFIG) as receiver,
    ):
        yield receiver


def ask(receiver: ReceiverProcess, token: str = "", **query: Any) -> httpx.Response:
    return httpx.get(
        f"{receiver.url}/api/deliveries",
        params={name: str(value) for name, value in query.items()},
        headers={"Authorization": f"Bearer {token or receiver.api_token()}"},
        trust_env=False,
        timeout=LONG,
    )


def post(receiver: ReceiverProcess, path: str, body: object) -> Any:
    headers = {"Authorization": f"Bearer {receiver.api_token()}"}
    answer = httpx.post(f"{receiver.url}{path}", json=body, headers=headers, trust_env=False)
    assert answer.is_success, answer.text
    return answer.json()


def pause(receiver: ReceiverProcess) -> None:
    post(receiver, "/api/pause", {"repository": "*"})


def resume(receiver: ReceiverProcess) -> None:
    post(receiver, "/api/resume", {"repository": "*"})


@pytest.fixture
def later() -> Iterator[Callable[..., "Future[httpx.Response]"]]:
    """Sends a request from another thread and returns the response to come."""
    with ThreadPoolExecutor(8) as pool:
        yield lambda *args, **query: pool.submit(ask, *args, **query)


def missed(receiver: ReceiverProcess, tag: str, digest: str) -> None:
    """Record a push with its digest, as catch-up does."""
    push = {"repository": REPOSITORY, "tag": tag, "digest": digest, "pushed_at": _now()}
    post(receiver, "/api/catch-up", {"missed": [push]})


def _now() -> str:
    return format_time(time.time_ns() // 1_000_000)


def test_it_is_answered_when_the_version_and_its_channel_are_done(
    one: ReceiverHere, later: Callable[..., "Future[httpx.Response]"]
) -> None:
    pause(one)
    pushed = one.push("1.4.2")

    answer = later(one, image=f"{REPOSITORY}:1.4.2", wait=LONG)
    until(lambda: one.service.waiting.count == 1)
    assert not answer.done()
    resume(one)

    assert answer.result().status_code == 200, answer.result().text
    (delivery,) = answer.result().json()["deliveries"]
    assert delivery["id"] == pushed
    ended = {row["version"]: row["outcome"] for row in delivery["registrations"]}
    assert ended == {"1.4.2": "created", "staging": "created"}
    assert one.service.waiting.count == 0


@pytest.mark.parametrize(
    ("lifecycle", "status", "modes"),
    [
        ({"ready_after": 0.0}, 200, {"create", "trial", "channel"}),
        ({"ready_after": 0.0, "crash_after": 0.1, "exit_code": 139}, 409, {"create", "trial"}),
    ],
)
def test_a_trial_is_waited_for_too(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lifecycle: dict[str, Any],
    status: int,
    modes: set[str],
) -> None:
    for wait in ("MIN_LOOK", "FIRST_LOOK", "MAX_LOOK"):
        monkeypatch.setattr(trial, wait, 50)
    sandbox = EdgegapSandbox()
    sandbox.deployments.set_lifecycle(stop_takes=0.0, **lifecycle)
    rules = f'{MOVING}[rule.trial]\nat = "45.5,-73.6"\nready_within = "2s"\nsteady_for = "1s"\n'
    with (
        serving(sandbox.app) as edgegap,
        receiver_here(tmp_path, edgegap, config=rules) as receiver,
    ):
        pushed = receiver.push("1.0")

        answer = ask(receiver, image=f"{REPOSITORY}:1.0", wait=LONG)

        assert answer.status_code == status, answer.text
        ended = receiver.details(pushed)["registrations"]
        assert {one["mode"] for one in ended} == modes
        assert ("is parked trial_failed" in answer.text) == (status == 409)


def test_a_push_may_come_after_the_question(
    one: ReceiverHere,
    later: Callable[..., "Future[httpx.Response]"],
) -> None:
    answer = later(one, image=f"docker.io/{REPOSITORY}:2.0.0", wait=LONG)
    until(lambda: one.service.waiting.count == 1)

    pushed = one.push("2.0.0")

    assert answer.result().json()["deliveries"][0]["id"] == pushed


def test_what_no_worker_here_settles_is_looked_at_every_second_or_so(
    one: ReceiverHere,
    later: Callable[..., "Future[httpx.Response]"],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Such as a dismissal, an ignored push, or what another replica works on."""
    monkeypatch.setattr(waiting, "LOOK_AGAIN_SECONDS", 0.02)
    answer = later(one, image="studio/other:1.0", wait=LONG)
    until(lambda: one.service.waiting.count == 1)

    assert not answer.done()
    post(one, "/api/deliveries", {"image": "studio/other:1.0"})

    problem = answer.result().json()
    assert (answer.result().status_code, problem["code"]) == (409, "push_not_done")
    assert "it was ignored (no_rule): " in problem["detail"]


def test_what_is_parked_is_not_done_and_says_what_to_do(one: ReceiverHere) -> None:
    pushed = one.push_to(LOBBY, "1.0.0")

    answer = ask(one, image=f"{LOBBY}:1.0.0", wait=LONG)

    assert answer.status_code == 409
    assert answer.headers["content-type"] == "application/problem+json"
    detail = answer.json()["detail"]
    assert detail.startswith(f"the push of {LOBBY}:1.0.0: lobby/1.0.0 is parked no_settings: ")
    assert detail.endswith(f"Details: `receiver show {pushed}`")


def test_when_time_is_up_the_status_says_what_is_missing(one: ReceiverHere) -> None:
    pause(one)
    one.push("1.0.0")

    unfinished = ask(one, image=f"{REPOSITORY}:1.0.0", wait=0)
    unknown = ask(one, image=f"{REPOSITORY}:9.9.9", wait=0)

    assert (unfinished.status_code, unfinished.json()["code"]) == (408, "still_waiting")
    assert f"{APP}/1.0.0 is queued" in unfinished.json()["detail"]
    assert (unknown.status_code, unknown.json()["code"]) == (404, "push_unknown")
    assert f"no push of {REPOSITORY}:9.9.9 is known" in unknown.json()["detail"]


def test_only_the_newest_push_counts(one: ReceiverHere) -> None:
    one.ended(one.push("1.0.0"))
    pause(one)
    one.push("1.0.0", pushed_at=int(time.time()) + 1)

    answer = ask(one, image=f"{REPOSITORY}:1.0.0", wait=0)

    assert answer.status_code == 408


def test_a_move_that_a_person_requests_is_no_push(one: ReceiverHere) -> None:
    """The CI job of the image got the result of a rollback to it, months later."""
    first, _ = (one.push(tag) for tag in ("1.0.0", "1.1.0"))
    assert ask(one, image=f"{REPOSITORY}:1.1.0", wait=LONG).status_code == 200
    assert ask(one, image=f"{REPOSITORY}:1.0.0", wait=LONG).status_code == 200
    pause(one)
    for path in ("rollback", "promote"):
        post(one, f"/api/{path}", {"app": APP, "channel": "staging", "to": "1.0.0"})

    answer = ask(one, image=f"{REPOSITORY}:1.0.0", wait=0)

    assert answer.status_code == 200, answer.text
    assert [row["id"] for row in answer.json()["deliveries"]] == [first]
    pushed = post(one, "/api/deliveries", {"image": f"{REPOSITORY}:1.0.0"})
    assert ask(one, image=f"{REPOSITORY}:1.0.0", wait=0).status_code == 408
    resume(one)
    answer = ask(one, image=f"{REPOSITORY}:1.0.0", wait=LONG)
    assert [row["id"] for row in answer.json()["deliveries"]] == [pushed["id"]]


def test_with_a_digest_only_a_push_of_it_counts(
    one: ReceiverHere, later: Callable[..., "Future[httpx.Response]"]
) -> None:
    image = f"{REPOSITORY}:1.0.0"
    missed(one, "1.0.0", OTHER_DIGEST)
    assert ask(one, image=image, digest=OTHER_DIGEST, wait=LONG).status_code == 200
    unknown = ask(one, image=image, digest=DIGEST, wait=0)
    assert (unknown.status_code, f"{image}@{DIGEST}" in unknown.text) == (404, True)

    answer = later(one, image=image, digest=DIGEST, wait=LONG)
    until(lambda: one.service.waiting.count == 1)
    missed(one, "1.0.0", DIGEST)

    assert answer.result().json()["deliveries"][0]["digest"] == DIGEST
    listed = ask(one, image=image, digest=OTHER_DIGEST).json()["deliveries"]
    assert [row["digest"] for row in listed] == [OTHER_DIGEST]


def test_a_push_whose_digest_is_not_known_yet_may_be_the_one(one: ReceiverHere) -> None:
    pause(one)
    one.push("1.0.0")

    answer = ask(one, image=f"{REPOSITORY}:1.0.0", digest=DIGEST, wait=0)

    assert (answer.status_code, answer.json()["code"]) == (408, "still_waiting")


def test_a_dismissed_registration_is_not_done(one: ReceiverHere) -> None:
    parked = one.ended(one.push_to(LOBBY, "1.0.0"))
    post(one, "/api/dismiss", {"ids": [parked["id"]]})

    answer = ask(one, image=f"{LOBBY}:1.0.0", wait=LONG)

    assert (answer.status_code, "is done dismissed" in answer.text) == (409, True)


def test_a_token_for_one_repository_waits_for_that_one_alone(one: ReceiverHere) -> None:
    one.push("1.0.0")
    signer = ApiTokenSigner([KEY])
    of_game, of_lobby = (
        signer.sign(ApiToken("cd" * 8, int(time.time()) + 600, name))
        for name in (REPOSITORY, LOBBY)
    )

    assert ask(one, of_game, image=f"{REPOSITORY}:1.0.0", wait=LONG).status_code == 200
    refused = ask(one, of_lobby, image=f"{REPOSITORY}:1.0.0", wait=LONG)

    assert (refused.status_code, refused.json()["code"]) == (403, "token_limited")


@pytest.mark.parametrize(
    "query",
    [
        {"wait": 1},
        {"image": f"{REPOSITORY}:1.0.0", "wait": 301},
        {"image": f"{REPOSITORY}:1.0.0", "wait": 1, "state": "done"},
        {"image": f"{REPOSITORY}:1.0.0", "digest": "sha256:1"},
        {"image": f"{REPOSITORY}:1.0.0", "tag": "1.0.0"},
        {"image": REPOSITORY},
    ],
)
def test_a_question_that_makes_no_sense_is_refused(
    one: ReceiverHere, query: dict[str, Any]
) -> None:
    answer = ask(one, **query)

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


def test_too_many_that_wait_are_asked_to_come_again(
    one: ReceiverHere,
    later: Callable[..., "Future[httpx.Response]"],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(waiting, "MAX_WAITING", 1)
    first = later(one, image=f"{REPOSITORY}:1.0.0", wait=LONG)
    until(lambda: one.service.waiting.count == 1)

    second = ask(one, image=f"{REPOSITORY}:2.0.0", wait=LONG)

    assert (second.status_code, second.json()["code"]) == (503, "too_many_waiting")
    assert second.headers["retry-after"] == "1"
    one.push("1.0.0")
    assert first.result().status_code == 200


def test_a_client_that_has_gone_leaves_its_turn(
    one: ReceiverHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "LOOK_AGAIN_SECONDS", 0.02)
    headers = {"Authorization": f"Bearer {one.api_token()}"}
    url = f"{one.url}/api/deliveries?image={REPOSITORY}:1.0.0&wait={LONG}"

    with httpx.Client(trust_env=False) as client, pytest.raises(httpx.ReadTimeout):
        client.get(url, headers=headers, timeout=0.2)

    until(lambda: one.service.waiting.count == 0)


def test_a_receiver_that_stops_answers_what_waits(start: StartReceiver) -> None:
    receiver = start()
    with socket.create_connection(("127.0.0.1", int(receiver.url.rpartition(":")[2]))) as waits:
        waits.sendall(
            f"GET /api/deliveries?image={REPOSITORY}:1.0.0&wait={LONG} HTTP/1.1\r\n"
            f"Host: localhost\r\nAuthorization: Bearer {receiver.api_token()}\r\n\r\n".encode()
        )
        assert ask(receiver, image=f"{REPOSITORY}:2.0.0", wait=0).status_code == 404

        assert receiver.stop() == 0

        head, _, body = waits.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 503 ")
    assert json.loads(body)["code"] == "stopping"

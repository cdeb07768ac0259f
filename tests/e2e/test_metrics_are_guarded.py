"""Who may read the metrics, and that outsiders cannot make them grow: no label is free text."""

import re
from collections.abc import Iterator

import httpx
import pytest

from receiver.reasons import Outcome, Reason, State, Verdict
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from receiver.signing import LinkFault
from receiver.version import VERSION
from receiver.web.protocol import REJECTIONS
from tests.support.metrics import Scrape, ask
from tests.support.receiver_process import REPOSITORY, RULE, ReceiverProcess, webhook_body

TOKEN = "metrics-canary-58d1"
GOOD = f"Bearer {TOKEN}".encode()
WORDS = {
    "source": {"webhook", "catch-up", "command"},
    "verdict": {word.value for word in Verdict},
    "reason": {
        "none",
        *(word.value for word in (*Reason, *LinkFault)),
        *(one.reason for one in REJECTIONS),
    },
    "state": {word.value for word in State},
    "outcome": {"none", *(word.value for word in Outcome)},
    "method": {"GET", "HEAD", "POST", "PATCH", "DELETE"},
    "repository": {REPOSITORY},  # of a rule
}
NUMBERS = {
    "status": re.compile(r"none|[1-5][0-9]{2}"),
    "le": re.compile(r"[0-9.]+|\+Inf"),
    "version": re.compile(re.escape(VERSION)),
    "python_version": re.compile(r"3\.[0-9.]+"),
}
CANARY = "Canary7f"
EVERYTHING = RULE.replace("preflight", 'tags = ["*", "latest"]\npreflight')


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverProcess]:
    with serving(EdgegapSandbox().app) as edgegap:
        one = ReceiverProcess(
            tmp_path_factory.mktemp("guarded"),
            edgegap,
            config=EVERYTHING,
            environment={"RECEIVER_METRICS_TOKEN": TOKEN},
        )
        yield one.start()
        one.stop()


@pytest.mark.parametrize("header", [GOOD, GOOD.replace(b"Bearer", b"bearer")])
def test_the_right_token_opens_them(receiver: ReceiverProcess, header: bytes) -> None:
    assert ask(receiver, header).status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"Bearer",
        GOOD[:-1],
        GOOD + b"1",
        GOOD.replace(b"Bearer", b"Basic"),
        TOKEN.encode(),
        f"Bearer {TOKEN}é".encode("latin-1"),
        b"Bearer \xe9\xff\x80",
        b"\xff\xfe",
        b"Bearer " + b"x" * 8000,
    ],
)
def test_any_other_header_is_401_and_shows_no_metrics(
    receiver: ReceiverProcess, header: bytes | None
) -> None:
    answer = ask(receiver, header)

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "receiver_" not in answer.text


def test_an_api_token_does_not_open_them(receiver: ReceiverProcess) -> None:
    assert ask(receiver, f"Bearer {receiver.api_token()}".encode()).status_code == 401


def test_hostile_pushes_add_no_label_of_their_own(receiver: ReceiverProcess) -> None:
    hostile = (
        [webhook_body(f"{CANARY}-{number}") for number in range(20)]
        + [webhook_body(CANARY, media_type=f"application/{CANARY}.{one}") for one in range(5)]
        + [webhook_body(CANARY, pusher=f'{CANARY}"}} 1\ndocker_hub_receiver_forged 1\n')]
        + [webhook_body(f'{CANARY}"}} 1\n'), webhook_body("latest"), webhook_body(None)]
        + [webhook_body(CANARY, f"{CANARY.lower()}/repository")]
        + [{"push_data": {"tag": CANARY}, "repository": {"repo_name": CANARY}}, {CANARY: CANARY}]
    )
    for body in hostile:
        assert receiver.post(body).status_code < 500
    for method in ("GET", CANARY, "DELETE"):
        httpx.request(method, f"{receiver.url}/hooks/dockerhub/{CANARY}", trust_env=False)

    text = ask(receiver, GOOD).text

    assert CANARY.lower() not in text.lower()
    named = {line.partition("{")[0] for line in text.splitlines() if REPOSITORY in line}
    assert named == {"docker_hub_receiver_catch_up_last_success_timestamp_seconds"}  # of the rule
    assert TOKEN not in text
    answer = Scrape(text)
    assert {name.partition("_")[0] for name in answer.families} == {"docker", "process"}
    assert not [sample.name for sample in answer.samples if sample.name.endswith("_created")]
    labels = {pair for sample in answer.samples for pair in sample.labels.items()}
    assert {name for name, _ in labels} <= {*WORDS, *NUMBERS}
    for name, value in labels:
        if name in WORDS:
            assert value in WORDS[name], name
        else:
            assert NUMBERS[name].fullmatch(value), name


def test_the_same_pushes_again_add_no_series(receiver: ReceiverProcess) -> None:
    def series() -> set[str]:
        lines = ask(receiver, GOOD).text.splitlines()
        return {line.rpartition(" ")[0] for line in lines if not line.startswith("#")}

    receiver.ended(receiver.push("before"))
    before = series()
    for number in range(10):
        receiver.ended(receiver.push(f"another-{number}"))

    assert series() == before

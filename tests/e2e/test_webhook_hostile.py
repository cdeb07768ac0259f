"""Hostile senders of webhooks: slow ones, those who leave, and bytes nobody should send."""

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from receiver.web import body as bodies
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import REPOSITORY, ReceiverProcess, until, webhook_body

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=40)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ANY_TEXT, inner, max_size=4),
    max_leaves=12,
)
NEARLY = ANY_JSON | st.sampled_from(
    [REPOSITORY, "studio", "game-server", "1.0.0", "latest", "", 2**63, -1, 1e308, 1_700_000_000]
)
PUSH_DATA = st.fixed_dictionaries(
    {"tag": st.just("1.0.0") | NEARLY},
    optional=dict.fromkeys(("pushed_at", "pusher", "media_type", "images"), NEARLY),
)
NAMES = st.fixed_dictionaries(
    {"repo_name": st.just(REPOSITORY) | NEARLY},
    optional=dict.fromkeys(("namespace", "name", "owner"), NEARLY),
)
NEAR_BODIES = st.fixed_dictionaries({"push_data": PUSH_DATA, "repository": NAMES})
ANY_NUMBER = st.integers(min_value=0, max_value=10**320).map(str) | st.sampled_from(
    ["NaN", "Infinity", "-Infinity", "1e400", "-0", "1" * 254 + "e5", "1" * 5000, "0.1e-999"]
)

MANY = settings(
    max_examples=150,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverHere]:
    folder = tmp_path_factory.mktemp("here")
    with serving(EdgegapSandbox().app) as url, receiver_here(folder, url) as receiver:
        yield receiver


@pytest.fixture(scope="module")
def sender(here: ReceiverHere) -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=20) as client:
        yield client


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverProcess]:
    with serving(EdgegapSandbox().app) as edgegap:
        receiver = ReceiverProcess(tmp_path_factory.mktemp("served"), edgegap)
        yield receiver.start()
        receiver.stop()


def connected(receiver: ReceiverProcess) -> socket.socket:
    url = httpx.URL(receiver.url)
    return socket.create_connection((url.host, url.port or 80), timeout=9)


def is_an_answer(answer: httpx.Response) -> bool:
    return 200 <= answer.status_code < 300 or 400 <= answer.status_code < 500


@MANY
@given(sent=st.binary(max_size=200) | ANY_JSON.map(lambda value: json.dumps(value).encode()))
def test_no_bytes_at_all_are_answered_with_5xx(
    here: ReceiverHere, sender: httpx.Client, sent: bytes
) -> None:
    assert is_an_answer(sender.post(here.link(), content=sent))


@MANY
@given(value=NEAR_BODIES)
def test_nothing_that_looks_like_a_webhook_is_answered_with_5xx(
    here: ReceiverHere, sender: httpx.Client, value: dict[str, Any]
) -> None:
    answer = sender.post(here.link(), content=json.dumps(value).encode())

    assert is_an_answer(answer)
    if answer.status_code == 202:
        details = here.details(answer.json()["delivery"])
        assert (details["repository"], details["tag"]) == (REPOSITORY, value["push_data"]["tag"])


@MANY
@given(number=ANY_NUMBER)
def test_no_time_of_push_loses_the_push(
    here: ReceiverHere, sender: httpx.Client, number: str
) -> None:
    answer = webhook_body("1.0.0", pushed_at="?")
    sent = json.dumps(answer).replace('"pushed_at": "?"', f'"pushed_at": {number}').encode()

    assert sender.post(here.link(), content=sent).status_code == 202


@MANY
@given(token=st.text(max_size=60))
def test_no_made_up_token_is_accepted_or_answered_with_5xx(
    here: ReceiverHere, sender: httpx.Client, token: str
) -> None:
    url = f"{here.url}/hooks/dockerhub/{quote(token, safe='')}"

    assert sender.post(url, json=webhook_body()).status_code in {404, 429}


@pytest.mark.parametrize("field", ["media_type", "pusher"])
@pytest.mark.parametrize("odd", ["\ud800", "a\x00b", "\u2028", "\U0010ffff"])
def test_text_that_no_database_takes_loses_no_push(
    here: ReceiverHere, field: str, odd: str
) -> None:
    assert is_an_answer(here.post(json.dumps(webhook_body("1.0.0", **{field: odd})).encode()))


def test_a_body_that_is_too_slow_is_408(
    here: ReceiverHere, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "MAX_BODY_SECONDS", 0.1)
    with closing(connected(here)) as slow:
        path = httpx.URL(here.link()).path
        slow.sendall(f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\n{{".encode())

        answer = slow.recv(65_536)

        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in answer.lower()
        assert b"body_too_slow" in answer


@pytest.mark.parametrize("length", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
def test_a_wrong_token_is_answered_before_a_body_is_read_that_is_not_docker_hubs(
    here: ReceiverHere, length: str
) -> None:
    with closing(connected(here)) as slow:
        slow.sendall(
            b"POST /hooks/dockerhub/guess HTTP/1.1\r\nHost: h\r\n"
            b"X-Forwarded-For: 203.0.113.77\r\n" + length.encode() + b"\r\n\r\n"
        )

        assert slow.recv(65_536).startswith(b"HTTP/1.1 404 ")


def test_a_sender_that_leaves_is_one_log_line_and_no_traceback(served: ReceiverProcess) -> None:
    before = len(served.log.read_bytes())
    path = httpx.URL(served.link()).path
    with closing(connected(served)) as leaving:
        leaving.sendall(f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 99\r\n\r\n{{".encode())

    def lines() -> list[str]:
        return served.log.read_bytes()[before:].decode().splitlines()

    until(lines)
    assert served.post(webhook_body("")).status_code == 200
    answer = [json.loads(line) for line in lines()]
    ours = [
        line["event"] for line in answer if not line["event"].startswith(("catch_up", "delivery"))
    ]
    assert ours == ["client_disconnected"]
    assert not any("exception" in line for line in answer)


GOOD_START = b"POST {path} HTTP/1.1\r\nHost: h\r\n"
GARBAGE = [
    b"\x00\x01\x02\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS where none is spoken
    b"GET / HTTP/9.9\r\n\r\n",
    b"POST /hooks/dockerhub/\xff\xfe HTTP/1.1\r\nHost: h\r\n\r\n",
    b"POST /hooks/dockerhub/%ff%fe%00 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
    b"POST http://[::1/hooks HTTP/1.1\r\nHost: h\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    GOOD_START + b"Content-Length: -5\r\n\r\n",
    GOOD_START + b"Content-Length: 99999999999999999999999\r\n\r\n{}",
    GOOD_START + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    GOOD_START + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    GOOD_START + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    GOOD_START + b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n\r\n{}",
    GOOD_START + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
    GOOD_START + b"X: " + b"y" * 200_000 + b"\r\nContent-Length: 2\r\n\r\n{}",
]


@pytest.mark.parametrize("sent", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_on_the_wire_is_refused_or_dropped_and_harms_nothing(
    served: ReceiverProcess, sent: bytes
) -> None:
    path = httpx.URL(served.link()).path.encode()
    with closing(connected(served)) as hostile:
        hostile.sendall(sent.replace(b"{path}", path))
        hostile.shutdown(socket.SHUT_WR)
        answer = b""
        while part := hostile.recv(65_536):
            answer += part

    statuses = [int(line[9:12]) for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    assert all(status < 500 for status in statuses), answer
    assert served.post(webhook_body("1.0.0")).status_code == 202
    assert "Traceback" not in served.log.read_text("utf-8")

"""What the ledger keeps of a webhook's request: its sender, our answer, a refused body's start."""

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from receiver.ledger.purge import purge_bodies, purge_deliveries
from receiver.ledger.transaction import Tx
from receiver.logs import masking
from receiver.pipeline.intake import (
    KEPT,
    MAX_ADDRESS,
    MAX_AGENT,
    MAX_HEADERS,
    SHOWN,
)
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from receiver.secret import Secret
from receiver.timestamps import read_iso
from tests.support.receiver_here import ReceiverHere, receiver_here
from tests.support.receiver_process import NO_CATCH_UP, REPOSITORY, RULE, webhook_body
from tests.support.visitor import PAGE, visitor

CALLBACK = "https://registry.hub.docker.com/u/studio/game/hook/2141b5bi5i5b02bec211i4eeih0242eg1/"

CANARY = "canary-secret-0123456789"


@pytest.fixture(scope="module")
def receiver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverHere]:
    folder = tmp_path_factory.mktemp("received")
    with (
        serving(EdgegapSandbox().app) as url,
        receiver_here(folder, url, config=RULE + NO_CATCH_UP, environment=PAGE) as one,
    ):
        yield one


def sent(receiver: ReceiverHere, content: Any, **headers: str) -> tuple[int, dict[str, Any]]:
    """Send a body to the link; return the status of the answer, and the delivery's details."""
    link = receiver.service.links.link(receiver.url, REPOSITORY)
    given = {"json": content} if isinstance(content, dict) else {"content": content}
    answer = httpx.post(link, headers=headers, trust_env=False, **given)
    return answer.status_code, receiver.details(answer.json()["delivery"])


def test_an_accepted_push_has_its_sender_and_our_answer_but_no_body(receiver: ReceiverHere) -> None:
    headers = {"X-Forwarded-For": "192.0.2.7", "User-Agent": "Go-http-client/1.1"}

    status, found = sent(receiver, webhook_body("1.0.0"), **headers)

    assert (status, found["status"]) == (202, 202)
    assert (found["address"], found["user_agent"]) == ("192.0.2.7", "Go-http-client/1.1")
    assert found["body_start"] is None


def test_each_sender_behind_a_proxy_has_its_own_address(receiver: ReceiverHere) -> None:
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1"):
        _, found = sent(receiver, webhook_body("1.0.0"), **{"X-Forwarded-For": address})
        assert found["address"] == address


@pytest.mark.parametrize(
    ("content", "status", "start"),
    [
        (webhook_body("latest"), 200, '{"callback_url": "…", "push_data":'),
        (b"<b>not json</b>", 400, "<b>not json</b>"),
        (b'{"push_data": 1\x00\x07\xff', 400, '{"push_data": 1  \ufffd'),
        (b"", 400, None),
    ],
)
def test_what_was_not_accepted_has_the_start_of_its_body(
    receiver: ReceiverHere, content: Any, status: int, start: str | None
) -> None:
    answered, found = sent(receiver, content)

    assert (answered, found["status"]) == (status, status)
    assert (found["body_start"] or "").replace(" ", "").startswith((start or "").replace(" ", ""))
    assert (found["body_start"] is None) == (start is None)


@pytest.mark.parametrize(
    "body",
    [
        '{"callback_url": "%s", "push_data": {}}',
        '{"callback_url":"%s',
        '{"CALLBACK_URL" : "a\\"%s"}',
        '{"payload": "{\\"callback_url\\": \\"%s\\"}"}',
        "callback_url=%s&tag=1",
        "payload=%%7B%%22callback_url%%22%%3A%%22%s%%22",
    ],
)
def test_the_callback_url_is_not_kept(receiver: ReceiverHere, body: str) -> None:
    _, found = sent(receiver, (body % CALLBACK).encode())

    assert "callback_url" in found["body_start"].lower()
    assert "2141b5" not in found["body_start"]


def test_neither_the_link_nor_its_token_nor_a_secret_is_kept(receiver: ReceiverHere) -> None:
    masking.know([Secret(CANARY)])
    link = receiver.service.links.link("https://hooks.example.com", REPOSITORY)
    token = link.rpartition("/")[2]

    _, found = sent(receiver, f"{link} {token} {CANARY} end".encode())

    assert token not in found["body_start"]
    assert CANARY not in found["body_start"]
    assert found["body_start"].endswith(" end")


def test_long_bodies_agents_and_addresses_are_cut(receiver: ReceiverHere) -> None:
    headers = {"User-Agent": "a" * 5000, "X-Forwarded-For": "9" * 5000}

    _, found = sent(receiver, b"x" * 5000, **headers)

    assert found["body_start"] == "x" * SHOWN + "…"
    assert found["user_agent"] == "a" * MAX_AGENT
    assert len(found["address"]) <= MAX_ADDRESS


def test_the_page_shows_it_escaped(receiver: ReceiverHere) -> None:
    status, found = sent(receiver, b"<script>alert(1)</script>", **{"User-Agent": "<i>curl</i>"})

    with visitor(receiver) as person:
        shown = person.read(f"/deliveries/{found['id']}")

    assert "Sent from 127.0.0.1" in shown.text
    assert "User agent <i>curl</i>" in shown.text
    assert f"Answered {status}" in shown.text
    assert "The beginning of the body <script>alert(1)</script>" in shown.text
    assert "<script>alert" not in shown.html


KEEPING = RULE + NO_CATCH_UP + '[ledger]\nbodies = "7d"\n'


@pytest.fixture(scope="module")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverHere]:
    """A receiver that keeps bodies."""
    folder = tmp_path_factory.mktemp("kept")
    with (
        serving(EdgegapSandbox().app) as url,
        receiver_here(folder, url, config=KEEPING, environment=PAGE) as one,
    ):
        yield one


@pytest.mark.parametrize(
    "content",
    [
        webhook_body("1.0.0"),
        webhook_body("latest"),
        b'{"callback_url": "%s", "a": [1' % CALLBACK.encode(),
    ],
)
def test_a_body_is_kept_while_it_is_wanted(keeping: ReceiverHere, content: Any) -> None:
    masking.know([Secret(CANARY)])

    _, found = sent(keeping, content, **{f"X-{CANARY}": CANARY})

    assert found["body"].replace(" ", "").startswith('{"callback_url":"…",')
    assert "2141b5" not in found["body"]
    assert "user-agent" in found["headers"]
    assert ", x-***" in found["headers"]


def test_of_a_long_body_and_of_its_headers_the_beginning_is_kept(keeping: ReceiverHere) -> None:
    _, found = sent(keeping, b"x" * 50_000, **{f"X-{n:050}": "1" for n in range(60)})

    assert found["body"] == "x" * KEPT
    assert len(found["headers"]) == MAX_HEADERS


def test_a_secret_that_the_cut_would_divide_is_masked(keeping: ReceiverHere) -> None:
    masking.know([Secret(CANARY)])

    _, found = sent(keeping, b"x" * (KEPT - 8) + CANARY.encode() + b" " * 5000)

    assert found["body"] == "x" * (KEPT - 8) + "***     "


def test_the_page_shows_a_kept_body_line_by_line(keeping: ReceiverHere) -> None:
    _, found = sent(keeping, webhook_body("1.0.0"))

    with visitor(keeping) as person:
        shown = person.read(f"/deliveries/{found['id']}")

    assert '  "callback_url": "…",' in html.unescape(shown.html).splitlines()
    assert f"Headers: {found['headers']}" in shown.text


def test_kept_bodies_are_purged_before_their_deliveries(keeping: ReceiverHere) -> None:
    _, old = sent(keeping, webhook_body("1.0.0"))
    _, new = sent(keeping, webhook_body("1.0.0"))
    late = read_iso(new["received_at"])
    assert late is not None

    def purge(tx: Tx) -> tuple[int, str | None]:
        tx.run(
            "UPDATE deliveries SET received_at = :late - 1 WHERE id <> :id", late=late, id=new["id"]
        )
        return purge_bodies(tx, late)

    keeping.inside(lambda: keeping.service.ledger.write(purge))

    assert keeping.details(old["id"])["body"] is None
    assert keeping.details(new["id"])["body"] is not None


def test_bodies_are_purged_once_nobody_wants_them(tmp_path: Path) -> None:
    with serving(EdgegapSandbox().app) as url:
        with receiver_here(tmp_path, url, config=KEEPING, environment=PAGE) as one:
            _, found = sent(one, webhook_body("1.0.0"))
            assert found["body"]
        with receiver_here(tmp_path, url, config=RULE + NO_CATCH_UP, environment=PAGE) as one:
            one.inside(one.service.purge.run)
            assert one.details(found["id"])["body"] is None


def test_it_is_purged_with_the_delivery(receiver: ReceiverHere, tmp_path: Path) -> None:
    sent(receiver, b"canary-body", **{"User-Agent": "canary-agent"})

    def purge(tx: Tx) -> list[object]:
        purge_deliveries(tx, tx.now + 10**9)
        query = "SELECT id FROM deliveries WHERE user_agent IS NOT NULL AND verdict = 'refused'"
        return list(tx.run(query))

    assert receiver.inside(lambda: receiver.service.ledger.write(purge)) == []

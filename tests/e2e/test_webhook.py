"""The webhook endpoint: every answer it gives, and the links that it accepts."""

import gzip
import json
import select
import socket
import zlib
from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest

from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.sandbox.serving import serving
from receiver.signing import PATH, LinkSigner
from receiver.web.messages import PROBLEM_JSON
from tests.support.receiver_process import KEY, REPOSITORY, RULE, ReceiverProcess, webhook_body

LOBBY = "studio/lobby"
CONFIG = f"""{RULE}
[[rule]]
repository = "{LOBBY}"
app = "lobby"
preflight = false

[links]
"{LOBBY}" = 2
"""
MEBIBYTE = 1024 * 1024


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReceiverProcess]:
    with serving(EdgegapSandbox(apps=("my-game", "lobby")).app) as edgegap:
        receiver = ReceiverProcess(tmp_path_factory.mktemp("webhook"), edgegap, config=CONFIG)
        yield receiver.start()
        receiver.stop()


def post(url: str, content: bytes | Iterator[bytes], **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(url, content=content, headers=named, trust_env=False, timeout=20)


def body(**push_data: object) -> bytes:
    return json.dumps(webhook_body(**push_data)).encode()  # type: ignore[arg-type]


def test_an_accepted_push_is_202_with_its_delivery(running: ReceiverProcess) -> None:
    answer = running.post(webhook_body("1.0.0"))

    assert answer.status_code == 202
    assert answer.json() == {"delivery": answer.json()["delivery"], "verdict": "accepted"}
    assert running.details(answer.json()["delivery"])["tag"] == "1.0.0"


def test_an_ignored_push_is_200_with_its_reason_and_is_recorded(running: ReceiverProcess) -> None:
    answer = running.post(webhook_body("latest"))

    result = answer.json()
    assert (answer.status_code, result["verdict"], result["reason"]) == (
        200,
        "ignored",
        "latest_not_named",
    )
    assert running.details(result["delivery"])["reason"] == "latest_not_named"


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"", "bad_json"),
        (b"{", "bad_json"),
        (b"\xff\xfe\x00", "bad_json"),
        (b"[" * 100_000, "bad_json"),
        (b"[]", "bad_shape"),
        (b'{"push_data": {"tag": "1"}}', "bad_shape"),
        (body(tag=7), "bad_tag"),
        (body(tag="no spaces"), "bad_tag"),
        (body(repository="Studio/Game-Server"), "bad_repository"),
    ],
)
def test_a_bad_body_on_a_good_link_is_400_and_is_recorded_refused(
    running: ReceiverProcess, sent: bytes, reason: str
) -> None:
    answer = post(running.link(), sent)

    result = answer.json()
    assert (answer.status_code, result["verdict"], result["reason"]) == (400, "refused", reason)
    assert (answer.headers["content-type"], result["code"]) == (PROBLEM_JSON, "not_a_push")
    assert result["detail"] == running.details(result["delivery"])["sentence"]
    assert running.details(result["delivery"])["verdict"] == "refused"


def test_whatever_is_wrong_with_a_token_the_answer_is_the_same(running: ReceiverProcess) -> None:
    keys = LinkSigner([KEY], {})
    good = keys.token(REPOSITORY)
    result = body(tag="9.9.9")
    urls = {
        "made up": f"{running.url}{PATH}abc",
        "another signature": f"{running.url}{PATH}{good[:-1]}{'A' if good[-1] != 'A' else 'B'}",
        "another key": LinkSigner(["another-key-entirely-0123456789"], {}).link(
            running.url, REPOSITORY
        ),
        "very long": f"{running.url}{PATH}{'a' * 4000}",
        "not ASCII": f"{running.url}{PATH}%C3%A9%00",
        "revoked": keys.link(running.url, LOBBY),
        "of a number yet to come": LinkSigner([KEY], {REPOSITORY: 2}).link(running.url, REPOSITORY),
        "of another repository": keys.link(running.url, "studio/unheard-of"),
    }

    answers = {what: post(url, result) for what, url in urls.items()}

    def seen(answer: httpx.Response) -> tuple[int, bytes, list[tuple[str, str]]]:
        headers = [pair for pair in answer.headers.multi_items() if pair[0] != "date"]
        return answer.status_code, answer.content, headers

    one, *others = [seen(answer) for answer in answers.values()]
    assert one[0] == 404
    assert all(other == one for other in others), answers
    assert seen(post(f"{running.url}/nowhere", result)) == one


def test_a_revoked_link_is_replaced_by_the_next(running: ReceiverProcess) -> None:
    token = LinkSigner([KEY], {LOBBY: 2}).link(running.url, LOBBY)
    answer = json.dumps(webhook_body("1.0", repository=LOBBY)).encode()

    assert post(token, answer).status_code == 202


def test_a_trailing_slash_is_the_same_endpoint_and_no_redirect(running: ReceiverProcess) -> None:
    assert post(running.link() + "/", body(tag="1.0.0")).status_code == 202
    assert post(f"{running.url}{PATH}abc/", body(tag="1.0.0")).status_code == 404


@pytest.mark.parametrize("end", ["//", "%20", "%0A", "%22", ")", ".", ",", "%3E"])
def test_what_was_pasted_after_a_link_is_no_part_of_it(running: ReceiverProcess, end: str) -> None:
    """Each push to it was answered 404, and waited for the next catch-up."""
    assert post(running.link() + end, body(tag="1.0.0")).status_code == 202


@pytest.mark.parametrize("path", [f"/{PATH}", PATH.replace("/docker", "//docker"), f"{PATH}/"])
def test_doubled_slashes_are_one(running: ReceiverProcess, path: str) -> None:
    """As nginx sends them if its proxy_pass ends in a slash too many."""
    link = running.link().replace(PATH, path)

    assert post(link, body(tag="1.0.0")).status_code == 202


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate"])
def test_a_body_that_a_relay_compressed_is_read(running: ReceiverProcess, encoding: str) -> None:
    plain = body(tag="1.0.0")
    sent = zlib.compress(plain) if encoding == "deflate" else gzip.compress(plain)

    assert post(running.link(), sent, content_encoding=encoding).status_code == 202
    assert post(running.link(), plain, content_encoding=encoding).status_code == 202
    bomb = post(running.link(), gzip.compress(bytes(2**24)), content_encoding=encoding)
    assert (bomb.status_code, bomb.json()["reason"]) == (413, "body_too_large")
    cut = post(running.link(), sent[:-9], content_encoding=encoding)
    assert (cut.status_code, cut.json()["reason"]) == (400, "bad_json")


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain", "application/x-www-form-urlencoded", "x", ""]
)
def test_the_bytes_are_read_whatever_the_content_type(
    running: ReceiverProcess, content_type: str
) -> None:
    assert post(running.link(), body(tag="1.0.0"), content_type=content_type).status_code == 202


def test_a_chunked_body_is_read_like_any_other(running: ReceiverProcess) -> None:
    whole = body(tag="1.0.0")

    assert post(running.link(), (whole[at : at + 7] for at in range(0, len(whole), 7))).json()[
        "verdict"
    ] == ("accepted")


def test_a_body_of_just_1_mib_is_read(running: ReceiverProcess) -> None:
    answer = body(tag="1.0.0")

    assert post(running.link(), answer + b" " * (MEBIBYTE - len(answer))).status_code == 202


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_1_mib_is_413(running: ReceiverProcess, *, chunked: bool) -> None:
    result = body(tag="1.0.0")
    sent = result + b" " * (MEBIBYTE + 1 - len(result))

    answer = post(running.link(), iter([sent[:5000], sent[5000:]]) if chunked else sent)

    assert (answer.status_code, answer.json()["reason"]) == (413, "body_too_large")


@pytest.mark.parametrize("framing", ["Content-Length: 99000000", "Transfer-Encoding: chunked"])
def test_too_large_a_body_is_refused_though_its_end_never_comes(
    running: ReceiverProcess, framing: str
) -> None:
    url = httpx.URL(running.link())
    size = MEBIBYTE + 100
    # A declared size is refused at once: who still sends then may find the connection closed.
    sent = f"{size:x}\r\n".encode() + b" " * size if "chunked" in framing else b""
    with closing(socket.create_connection((url.host, url.port or 80), timeout=9)) as sender:
        sender.sendall(f"POST {url.path} HTTP/1.1\r\nHost: h\r\n{framing}\r\n\r\n".encode())
        sender.sendall(sent)

        assert sender.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_an_endless_body_is_cut_off(running: ReceiverProcess) -> None:
    url = httpx.URL(running.link())
    head = f"POST {url.path} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    with closing(socket.create_connection((url.host, url.port or 80), timeout=9)) as sender:
        sender.sendall(head)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            sender.sendall((b"10000\r\n" + b" " * 65_536 + b"\r\n") * 1024)

    assert running.post(webhook_body("1.0.0")).status_code == 202


def test_wrong_tokens_are_limited_by_address_and_a_good_link_never_is(
    running: ReceiverProcess,
) -> None:
    result = body(tag="1.0.0")
    with httpx.Client(trust_env=False, headers={"X-Forwarded-For": "203.0.113.9"}) as guesser:
        wrong = [guesser.post(f"{running.url}{PATH}guess", content=result) for _ in range(80)]
        good = [guesser.post(running.link(), content=result).status_code for _ in range(150)]

    assert {answer.status_code for answer in wrong} == {404, 429}
    assert (wrong[-1].status_code, wrong[-1].json()["code"]) == (429, "too_many_wrong_tokens")
    assert wrong[-1].headers["content-type"] == PROBLEM_JSON
    assert int(wrong[-1].headers["retry-after"]) > 0
    assert set(good) == {202}
    assert (
        post(f"{running.url}{PATH}guess", result, X_Forwarded_For="203.0.113.10").status_code == 404
    )


def test_a_person_who_opens_a_link_is_greeted_whether_it_is_good_or_not(
    running: ReceiverProcess,
) -> None:
    answers = [
        httpx.get(url, trust_env=False)
        for url in (running.link(), running.link() + "/", f"{running.url}{PATH}abc")
    ]

    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert "Docker Hub" in answers[0].text
    assert not any("receiver-proof" in answer.headers for answer in answers)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_405(running: ReceiverProcess, method: str) -> None:
    assert httpx.request(method, running.link(), trust_env=False).status_code == 405


def test_the_callback_url_is_never_fetched(running: ReceiverProcess) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}/hook/"
        answer = webhook_body("7.7.7") | {"callback_url": address}
        answer["repository"]["repo_url"] = address

        running.ended(str(running.post(answer).json()["delivery"]))

        assert select.select([listener], [], [], 0.2)[0] == []


def test_a_link_pasted_into_another_repository_is_recorded_and_answered_as_unknown(
    running: ReceiverProcess,
) -> None:
    """It left one log line: a search for the push found nothing."""
    answer = running.post(webhook_body("1.0", "other/thing"))

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    row = json.loads(running.run("deliveries", "--json").stdout.splitlines()[0])
    assert (row["repository"], row["verdict"], row["reason"]) == (
        "studio/game-server", "refused", "other_repository"
    )  # fmt: skip
    assert "receiver link other/thing" in row["sentence"]

"""Calls over real sockets, by a proxy or directly; bodies are read up to a limit."""

import asyncio
import gzip
import os
import ssl
import subprocess
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from receiver.errors import ConfigError
from receiver.http.client import (
    BodyTooLarge,
    UnreadableBody,
    ask,
    http_client,
    no_connection,
    read_bounded,
)
from receiver.http.variables import certificate_faults, certificate_paths
from receiver.sandbox.serving import serving
from tests.support.commands import Commands
from tests.support.deploy import tool
from tests.support.receiver_process import NOWHERE
from tests.support.streams import Parts

LIMIT = 1000
BOMB = gzip.compress(b"\0" * 2**24)
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def read(*parts: bytes, encoding: str | None = None, limit: int = LIMIT) -> bytes:
    headers = {} if encoding is None else {"Content-Encoding": encoding}
    response = httpx.Response(200, headers=headers, stream=Parts(parts))
    return asyncio.run(read_bounded(response, limit))


@given(st.lists(st.binary(max_size=300), max_size=8), st.sampled_from([None, "", "identity"]))
def test_a_plain_body_is_read_whole_or_not_at_all(parts: list[bytes], encoding: str | None) -> None:
    whole = b"".join(parts)
    if len(whole) <= LIMIT:
        assert read(*parts, encoding=encoding) == whole
    else:
        with pytest.raises(BodyTooLarge) as error:
            read(*parts, encoding=encoding)
        assert error.value.beginning == whole[:LIMIT]


@given(st.binary(max_size=2 * LIMIT), st.integers(1, 50))
def test_one_layer_of_gzip_or_deflate_is_decoded_up_to_the_limit(body: bytes, size: int) -> None:
    for encoding, sent in [
        ("gzip", gzip.compress(body)),
        ("X-GZIP", gzip.compress(body)),
        ("deflate", zlib.compress(body)),
    ]:
        parts = [sent[start : start + size] for start in range(0, len(sent), size)]
        if len(body) <= LIMIT:
            assert read(*parts, encoding=encoding) == body
        else:
            with pytest.raises(BodyTooLarge):
                read(*parts, encoding=encoding)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "deflate, gzip", "nonsense"])
def test_any_other_encoding_is_refused(encoding: str) -> None:
    with pytest.raises(UnreadableBody, match="encoded"):
        read(b"anything", encoding=encoding)
    assert read(encoding=encoding) == b""  # the answer to a HEAD has no body


@pytest.mark.parametrize(
    ("sent", "words"),
    [(b"no gzip", "cannot be decoded"), (gzip.compress(b"x" * 500, mtime=0)[:-9], "cut off")],
)
def test_a_broken_encoding_is_refused(sent: bytes, words: str) -> None:
    with pytest.raises(UnreadableBody, match=words):
        read(sent, encoding="gzip")


@pytest.mark.parametrize(
    ("bomb", "encoding"), [(BOMB, "gzip"), (gzip.compress(BOMB), "gzip, gzip")]
)
def test_a_bomb_takes_little_memory(bomb: bytes, encoding: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableBody):
            read(bomb, encoding=encoding)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 2**20


def test_a_call_asks_for_an_unencoded_answer_and_reads_no_bomb() -> None:
    asked: list[httpx.Headers] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers)
        headers = {"Content-Encoding": "gzip"}
        return httpx.Response(200, headers=headers, stream=Parts((BOMB,)))

    async def call() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            await ask(http, "GET", "http://test/", largest=LIMIT, seconds=9, headers={"X-A": "1"})

    with pytest.raises(BodyTooLarge):
        asyncio.run(call())

    (headers,) = asked
    assert (headers["accept-encoding"], headers["x-a"]) == ("identity", "1")


class ApprovalRequest:
    """An HTTP server that answers with the host that it was asked for."""

    def __init__(self) -> None:
        self.hosts: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            host = Request(scope).headers["host"]
            self.hosts.append(host)
            await PlainTextResponse(host)(scope, receive, send)


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, *map(str.upper, VARIABLES), "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def asked() -> ApprovalRequest:
    return ApprovalRequest()


@pytest.fixture
def proxy(asked: ApprovalRequest) -> Iterator[str]:
    with serving(asked) as url:
        yield url


def get(url: str, *, direct: bool = False) -> str:
    async def call() -> str:
        async with http_client(direct=direct, timeout=10) as http:
            return (await http.get(url)).text

    return asyncio.run(call())


def test_a_call_goes_by_way_of_the_proxy_unless_it_is_exempt(
    proxy: str, asked: ApprovalRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy)
    monkeypatch.setenv("NO_PROXY", "[::1],10.0.0.0/8,exempt.invalid")

    assert get("http://called.invalid/x") == "called.invalid"
    with pytest.raises(httpx.ConnectError):
        get("http://exempt.invalid/x")
    with pytest.raises(httpx.ConnectError):
        get("http://called.invalid/x", direct=True)
    assert asked.hosts == ["called.invalid"]


def test_this_machine_is_called_directly(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", NOWHERE)
    monkeypatch.setenv("ALL_PROXY", NOWHERE)

    assert get(proxy) == proxy.removeprefix("http://")
    assert get(proxy.replace("127.0.0.1", "localhost")).startswith("localhost")


@pytest.mark.parametrize(
    ("name", "value"),
    [("NO_PROXY", "[::1"), ("HTTPS_PROXY", "nonsense://"), ("SSL_CERT_FILE", "/no/such.pem")],
)
def test_a_variable_that_cannot_be_used_ends_each_command_in_a_sentence(
    commands: Commands, name: str, value: str
) -> None:
    push = ("push", "studio/game-server:1.0")
    for arguments in (("serve",), ("doctor",), ("check",), push, ("catch-up",)):
        done = commands.run(*arguments, **{name: value})
        assert done.exit_code == 3, done.output
        assert f"{name}: " in done.output
    assert commands.run("deliveries", **{name: value}).exit_code == 4  # it calls nobody


@pytest.fixture
def trusted(tmp_path: Path) -> Path:
    """A certificate for localhost, and its key."""
    made = [tool("openssl", "apt-get install openssl"), "req", "-x509", "-newkey", "rsa:2048",
            "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-days", "2", "-subj",
            "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]  # fmt: skip
    subprocess.run(made, cwd=tmp_path, check=True, capture_output=True)
    return tmp_path / "cert.pem"


@pytest.fixture
def secure(trusted: Path) -> Iterator[str]:
    """An HTTPS server whose certificate nobody but us trusts."""
    import threading  # noqa: PLC0415
    from http.server import BaseHTTPRequestHandler, HTTPServer  # noqa: PLC0415

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answers)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trusted, trusted.with_name("key.pem"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"https://localhost:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_certificate_is_trusted_by_file_or_folder(
    secure: str, trusted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(httpx.ConnectError) as refused:
        get(secure)
    assert no_connection(refused.value) == (
        "no connection: the certificate is not trusted, see SSL_CERT_FILE"
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    assert get(secure) == "ok"
    monkeypatch.delenv("SSL_CERT_FILE")
    folder = trusted.with_name("folder")
    folder.mkdir()
    monkeypatch.setenv("SSL_CERT_DIR", str(folder))
    with pytest.raises(ConfigError, match=r"SSL_CERT_DIR: .* has no certificate under its hash"):
        get(secure)
    (folder / "cert.pem").write_bytes(trusted.read_bytes())
    subprocess.run(["openssl", "rehash", folder], check=True)  # noqa: S607
    assert get(secure) == "ok"


@pytest.mark.parametrize("content", [None, "this is no certificate"])
def test_a_file_that_holds_no_certificate_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    file = tmp_path / "bundle.pem"
    if content is not None:
        file.write_text(content, "utf-8")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))

    with pytest.raises(ConfigError, match=rf"SSL_CERT_FILE: {file} cannot be read"):
        get("http://called.invalid")


def test_a_proxy_that_refuses_or_is_away_is_named(
    proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@127.0.0.1:9")
    with pytest.raises(httpx.ConnectError) as away:
        get("https://called.invalid")
    assert no_connection(away.value) == "no connection (HTTPS_PROXY is http://127.0.0.1:9)"


def test_doctor_names_the_proxy_in_use_read_without_its_quotes(commands: Commands) -> None:
    done = commands.run(
        "doctor",
        EDGEGAP_BASE_URL="https://api.edgegap.invalid",
        HTTPS_PROXY='"http://me:secret@127.0.0.1:9"',  # as `docker run --env-file` passes it on
        DOCKERHUB_API_URL=NOWHERE,
        DOCKERHUB_REGISTRY_URL=NOWHERE,
        DOCKERHUB_AUTH_URL=NOWHERE,
        RECEIVER_PUBLIC_URL=None,
    )

    assert (
        "pass  proxy: api.edgegap.invalid through HTTPS_PROXY (http://127.0.0.1:9); "
        "127.0.0.1 directly\n" in done.stdout
    )
    assert "fail  Edgegap: no connection (HTTPS_PROXY is http://127.0.0.1:9)\n" in done.stdout
    assert "secret" not in done.output


@pytest.mark.parametrize("text", ["", ":", " :: "])
def test_a_list_of_no_folders_is_not_set(text: str) -> None:
    """It was read as a list of folders without certificates: no server was trusted."""
    assert certificate_paths({"SSL_CERT_DIR": text}) == ("", "")


def test_certificates_are_not_read_from_a_named_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "ca.pem")

    (fault,) = certificate_faults({"SSL_CERT_FILE": str(tmp_path / "ca.pem")})

    assert "is a named pipe, not a file" in fault.what

"""The proxies' files, each loaded by the real proxy before a real receiver."""

import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import httpx
import pytest

from receiver.signing import APPROVAL_PATH, PATH, LinkSigner
from tests.conftest import StartReceiver
from tests.support.approvals import link_to
from tests.support.deploy import DEPLOY, free_port, ran, tool
from tests.support.receiver_process import KEY, REPOSITORY, TIMEOUT_SECONDS, until, webhook_body

NAME = "hooks.example.com"
OVER_A_MEBIBYTE = b" " * (1024 * 1024 + 1)
BEHIND_A_PROXY = {"FORWARDED_ALLOW_IPS": "127.0.0.1"}


@dataclass(frozen=True, slots=True)
class Proxy:
    port: int
    scheme: str
    folder: Path

    def post(self, path: str, body: bytes | dict[str, object]) -> httpx.Response:
        """Send one webhook through the proxy, as the public name."""
        sent = {"content": body} if isinstance(body, bytes) else {"json": body}
        url = f"{self.scheme}://127.0.0.1:{self.port}{path}"
        with httpx.Client(verify=False, trust_env=False, timeout=20) as client:  # noqa: S501
            return client.post(url, headers={"Host": NAME}, **sent)

    def get(self, path: str) -> httpx.Response:
        """Ask through the proxy, as the public name."""
        url = f"{self.scheme}://127.0.0.1:{self.port}{path}"
        with httpx.Client(verify=False, trust_env=False, timeout=20) as client:  # noqa: S501
            return client.get(url, headers={"Host": NAME})

    def post_to_upgrade(self, path: str) -> int:
        """Send a body that asks to change to HTTP/2 in the clear on the way; the status."""
        asks = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": ""}
        url = f"{self.scheme}://127.0.0.1:{self.port}{path}"
        with httpx.Client(verify=False, trust_env=False, timeout=20) as client:  # noqa: S501
            return client.post(url, headers={"Host": NAME, **asks}, content=b"{}").status_code

    def written(self) -> str:
        """All that it logged anywhere."""
        return "".join(path.read_text("utf-8", "replace") for path in self.folder.glob("*.log"))

    def cuts_off(self, sent: str) -> bytes:
        """What it answers, until it hangs up, to a sender that sends `sent` and no more."""
        plain = socket.create_connection(("127.0.0.1", self.port), TIMEOUT_SECONDS)
        with _tls(plain) if self.scheme == "https" else plain as sender:
            sender.sendall(f"POST /hooks/x HTTP/1.1\r\nHost: {NAME}\r\n{sent}".encode())
            answer = b""
            with suppress(ssl.SSLEOFError):  # closed without TLS's own goodbye
                while got := sender.recv(4096):
                    answer += got
            return answer


def _tls(plain: socket.socket) -> ssl.SSLSocket:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context.wrap_socket(plain, server_hostname=NAME)


@contextmanager
def running(proxy: Proxy, *command: str, **environment: str) -> Iterator[Proxy]:
    with (proxy.folder / "console.log").open("wb") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, env={**os.environ, **environment}
        )

        def listens() -> bool:
            assert process.poll() is None, proxy.written()
            with socket.socket() as caller:
                return caller.connect_ex(("127.0.0.1", proxy.port)) == 0

        try:
            until(listens)
            yield proxy
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(TIMEOUT_SECONDS)


@contextmanager
def nginx(folder: Path, receiver_port: int) -> Iterator[Proxy]:
    """Debian's nginx with our file, its ports and certificate replaced, its waits made short."""
    program = tool("nginx", "apt-get install nginx-light")
    openssl = tool("openssl", "apt-get install openssl")
    made = ran(
        openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
        "-subj", f"/CN={NAME}", "-keyout", folder / "privkey.pem", "-out", folder / "fullchain.pem",
    )  # fmt: skip
    assert made.returncode == 0, made.stdout
    proxy = Proxy(free_port(), "https", folder)
    ours = (DEPLOY / "nginx.conf").read_text("utf-8")
    for old, new in {
        "listen 80;": f"listen 127.0.0.1:{free_port()};",
        "listen [::]:80;": "",
        "listen 443 ": f"listen 127.0.0.1:{proxy.port} ",
        "listen [::]:443 ssl http2;": "",
        f"/etc/letsencrypt/live/{NAME}": str(folder),
        "127.0.0.1:8000": f"127.0.0.1:{receiver_port}",
        "client_header_timeout 10s": "client_header_timeout 2s",
        "client_body_timeout 10s": "client_body_timeout 2s",
    }.items():
        assert old in ours
        ours = ours.replace(old, new)
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole = (
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log info; events {{}}\n"
        f"http {{ access_log {folder}/access.log; {temporary}\n{ours} }}"
    )
    config = folder / "nginx.conf"
    config.write_text(whole, "utf-8")
    if os.geteuid() == 0:
        config.write_text(f"user root;\n{whole}", "utf-8")
    tested = ran(program, "-t", "-c", config, "-e", folder / "start.log")
    assert tested.returncode == 0, tested.stdout
    assert "[warn]" not in tested.stdout
    with running(proxy, program, "-c", str(config), "-e", str(folder / "start.log")):
        yield proxy


@contextmanager
def caddy(folder: Path, receiver_port: int) -> Iterator[Proxy]:
    """Debian's Caddy with our file; only its waits are made short."""
    program = tool("caddy", "apt-get install caddy")
    ours = (DEPLOY / "Caddyfile").read_text("utf-8")
    for wait in ("read_header 10s", "read_body 15s"):
        assert wait in ours
        ours = ours.replace(wait, f"{wait.split()[0]} 300ms")
    config = folder / "Caddyfile"
    config.write_text(ours, "utf-8")
    proxy = Proxy(free_port(), "http", folder)
    environment = {
        "PUBLIC_HOST": f"http://{NAME}:{proxy.port}",
        "UPSTREAM": f"127.0.0.1:{receiver_port}",
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
    }
    command = (program, "run", "--config", str(config), "--adapter", "caddyfile")
    with running(proxy, *command, **environment):
        yield proxy


Before = Callable[[Path, int], AbstractContextManager[Proxy]]
AWAY: dict[Before, int] = {nginx: 503, caddy: 502}
PROXIES = pytest.mark.parametrize("before", [nginx, caddy])


@PROXIES
def test_a_push_goes_through_and_no_log_holds_its_link(
    start: StartReceiver, tmp_path: Path, before: Before
) -> None:
    receiver = start(environment=BEHIND_A_PROXY)
    port = int(receiver.url.rpartition(":")[2])
    path = LinkSigner([KEY], {}).link("", REPOSITORY)
    with before(tmp_path, port) as proxy:
        assert proxy.post(path, webhook_body()).status_code == 202
        assert proxy.post(path, OVER_A_MEBIBYTE).status_code == 413
        assert proxy.get("/metrics").status_code == 404
        assert proxy.get("/livez").status_code == 200
        assert proxy.post(path + "x", webhook_body()).status_code == 404
        assert proxy.get(link_to("1.0")).status_code == 410  # there is nothing to approve
        receiver.stop()
        assert proxy.post(path, webhook_body()).status_code == AWAY[before]
        assert proxy.get(link_to("1.0")).status_code == AWAY[before]

    for prefix, link in ((PATH, path), (APPROVAL_PATH, link_to("1.0"))):
        assert link.removeprefix(prefix) not in proxy.written()
        assert prefix not in proxy.written()


@PROXIES
def test_every_response_makes_browsers_use_https(
    start: StartReceiver, tmp_path: Path, before: Before
) -> None:
    receiver = start(environment=BEHIND_A_PROXY)
    with before(tmp_path, int(receiver.url.rpartition(":")[2])) as proxy:
        answers = [proxy.get(path) for path in ("/livez", "/nothing", "/metrics")]
        receiver.stop()
        answers.append(proxy.get("/livez"))

    assert [answer.status_code for answer in answers] == [200, 404, 404, AWAY[before]]
    for answer in answers:
        assert answer.headers.get_list("strict-transport-security") == ["max-age=31536000"]


@contextmanager
def in_its_place() -> Iterator[tuple[int, list[dict[str, str]]]]:
    """A server in the receiver's place: its port, and the headers of each request that came."""
    came: list[dict[str, str]] = []

    class InItsPlace(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append({name.lower(): value.lower() for name, value in self.headers.items()})
            self.rfile.read(int(self.headers.get("Content-Length", "0")))
            self.send_response(204)
            self.end_headers()

    with HTTPServer(("127.0.0.1", 0), InItsPlace) as upstream:
        Thread(target=upstream.serve_forever, daemon=True).start()
        yield upstream.server_port, came
        upstream.shutdown()


@PROXIES
def test_no_wish_to_upgrade_reaches_the_receiver(tmp_path: Path, before: Before) -> None:
    with in_its_place() as (port, came), before(tmp_path, port) as proxy:
        answers = [proxy.post_to_upgrade(path) for path in ("/", "/hooks/x")]

    assert answers == [204, 204]
    for headers in came:
        assert headers["content-length"] == "2"
        assert "upgrade" not in headers.get("connection", "")
        assert "upgrade" not in headers


@PROXIES
def test_a_body_too_large_is_refused_before_the_receiver(tmp_path: Path, before: Before) -> None:
    with in_its_place() as (port, came), before(tmp_path, port) as proxy:
        refused = proxy.post("/hooks/x", OVER_A_MEBIBYTE).status_code
        assert came == []
        assert proxy.post("/hooks/x", OVER_A_MEBIBYTE[1:]).status_code == 204

    assert refused == 413
    assert len(came) == 1


@PROXIES
@pytest.mark.parametrize(
    "sent", ["X-Slow: ", "Content-Length: 100\r\n\r\n{"], ids=["headers", "body"]
)
def test_a_sender_that_never_ends_is_cut(tmp_path: Path, before: Before, sent: str) -> None:
    with in_its_place() as (port, _), before(tmp_path, port) as proxy:
        answer = proxy.cuts_off(sent)

    # With a body Caddy sends a 200 that nobody gave; but the receiver's own 408 comes before it.
    assert answer == b"" or answer.split()[1] in {b"408", b"200" if "{" in sent else b"408"}


def test_caddy_takes_the_file_as_it_stands() -> None:
    program = tool("caddy", "apt-get install caddy")
    file = DEPLOY / "Caddyfile"

    valid = ran(
        program, "validate", "--adapter", "caddyfile", "--config", file,
        environment={"PUBLIC_HOST": NAME},
    )  # fmt: skip
    assert valid.returncode == 0, valid.stdout
    assert ran(program, "fmt", file).stdout == file.read_text("utf-8")

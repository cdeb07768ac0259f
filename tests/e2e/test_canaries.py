"""No secret reaches anything the process writes: logs, ledger, outputs, answers."""

import asyncio
import json
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from sqlalchemy.exc import OperationalError

from receiver.errors import LedgerError
from receiver.ledger.ledger import Ledger
from receiver.ledger.transaction import Tx
from receiver.logs import masking
from receiver.sandbox.calls import Fault
from receiver.sandbox.edgegap import EdgegapSandbox
from receiver.secret import MASK, Secret
from tests.conftest import StartReceiver
from tests.support.commands import Commands, commands_beside
from tests.support.receiver_process import (
    APP,
    KEY,
    REPOSITORY,
    RULE,
    ReceiverProcess,
    until,
    webhook_body,
)

API_TOKEN = "canary-api-token-6f3a9c"
CANARIES = {
    "EDGEGAP_TOKEN": API_TOKEN,
    "DOCKERHUB_TOKEN": "canary-hub-token-81d2e7",
    "LOBBY_HUB_TOKEN": "canary-lobby-token-2b9f04",
    "GAME_DB_PASSWORD": "canary-env-value-c7710b",
    "RECEIVER_ADMIN_PASSWORD": "canary-admin-password-55e1",
    "RECEIVER_METRICS_TOKEN": "canary-metrics-token-90aa",
}
NAMES = {"DOCKERHUB_USERNAME": "studio-bot", "LOBBY_HUB_USER": "lobby-bot"}
CONFIG = f"""{RULE}
envs = [{{ key = "DB_PASSWORD", value_from = "GAME_DB_PASSWORD", is_hidden = true }}]

[[rule]]
repository = "studio/lobby"
app = "lobby"
preflight = false
login = {{ username_env = "LOBBY_HUB_USER", token_env = "LOBBY_HUB_TOKEN" }}

[rule.settings]
req_cpu = 1024
req_memory = 2048
envs = [{{ key = "OPEN", value = "canary-open-env-3391" }}]

[catch_up]
every = "off"
"""
SECRETS = (*CANARIES.values(), KEY, "canary-open-env-3391")
ECHO = " ".join((*CANARIES.values(), "canary-open-env-3391", KEY))


@pytest.fixture
def guarded(start: StartReceiver, sandbox: EdgegapSandbox) -> Iterator[ReceiverProcess]:
    """A receiver full of canaries; at the end none of them may stand in what it has written."""
    sandbox.token = API_TOKEN
    receiver = start(config=CONFIG, environment={**CANARIES, **NAMES})
    yield receiver
    _spares_secrets(receiver, receiver.everything_written())
    receiver.stop()
    _spares_secrets(receiver, receiver.everything_written())


def _tokens(receiver: ReceiverProcess) -> list[str]:
    links = (receiver.link(), receiver.link("studio/lobby"))
    return [link.rsplit("/", 1)[1] for link in links]


def _spares_secrets(receiver: ReceiverProcess, text: str) -> None:
    for secret in (*SECRETS, *_tokens(receiver)):
        assert secret not in text
        # A secret cut short is still most of a secret; a link's head is public, its end is not.
        part = secret[-16:] if "." in secret else secret[:16]
        assert part not in text, f"a part of {secret}"


def _outputs(receiver: ReceiverProcess, *identities: str) -> str:
    """What every command that can meet a secret prints, in both its manners."""
    commands = commands_beside(receiver)
    ran = [
        commands.run(*arguments)
        for arguments in (
            ["check"],
            ["check", "--json"],
            ["deliveries", "--json"],
            *(["show", identity] for identity in identities),
            *(["show", identity, "--json"] for identity in identities),
        )
    ]
    return "".join(done.stdout + done.stderr for done in ran)


def test_when_all_goes_well(guarded: ReceiverProcess, sandbox: EdgegapSandbox) -> None:
    mine, lobby = guarded.push("1.0.0"), guarded.post(
        webhook_body("1.0.0", "studio/lobby"), repository="studio/lobby"
    ).json()["delivery"]  # fmt: skip
    assert guarded.ended(mine)["outcome"] == "created"
    assert guarded.ended(lobby)["outcome"] == "created"
    rehearsed = commands_beside(guarded).run("push", f"{REPOSITORY}:2.0.0", "--dry-run")
    pushed = commands_beside(guarded).run("push", "studio/lobby:2.0.0", "--wait", "--json")

    assert sandbox.versions[APP, "1.0.0"]["private_token"] == CANARIES["DOCKERHUB_TOKEN"]
    assert sandbox.versions["lobby", "1.0.0"]["private_token"] == CANARIES["LOBBY_HUB_TOKEN"]
    assert rehearsed.exit_code == pushed.exit_code == 0
    answer = _outputs(guarded, mine, lobby) + rehearsed.stdout + rehearsed.stderr
    _spares_secrets(guarded, answer + pushed.stdout + pushed.stderr)


ECHOES = [
    Fault("status", method="POST", status=400, message=f"cannot login with {ECHO}"),
    Fault("status", method="POST", status=400, message="x" * 280 + API_TOKEN),  # where it is cut
    Fault("status", method="POST", status=400, body=f"<p>{ECHO}</p>"),
    Fault("status", method="POST", status=422, body=json.dumps({"message": [ECHO]})),
    Fault("garbage", method="GET", body=ECHO),
    Fault("status", method="POST", status=503, message=ECHO),
]


def test_when_edgegap_echoes_what_it_was_sent(
    guarded: ReceiverProcess, sandbox: EdgegapSandbox
) -> None:
    identities = []
    for number, fault in enumerate(ECHOES):
        sandbox.misbehave(fault)
        identity = guarded.push(f"1.0.{number}")
        until(lambda one=identity: guarded.details(one)["registrations"][0]["requests"])  # type: ignore[misc]
        identities.append(identity)

    answer = json.dumps([guarded.details(identity) for identity in identities])
    assert "cannot login with ***" in answer
    _spares_secrets(guarded, answer + _outputs(guarded, *identities))


def test_a_secret_is_spared_however_the_message_quotes_it(
    start: StartReceiver, sandbox: EdgegapSandbox
) -> None:
    odd = 'hub"canary\\é-71c4'
    receiver = start(environment={"DOCKERHUB_TOKEN": odd, "DOCKERHUB_USERNAME": "studio-bot"})
    quoted = [odd, json.dumps(odd), json.dumps(odd, ensure_ascii=False), repr(odd)]
    answer = "cannot use " + " or ".join(quoted)
    sandbox.misbehave(Fault("status", method="POST", status=400, message=answer))

    parked = receiver.push("1.0.0")
    assert receiver.ended(parked)["state"] == "parked"

    written = receiver.everything_written() + receiver.run("show", parked).stdout
    assert "canary" not in written
    assert "71c4" not in written
    assert "cannot use *** or" in written


def test_when_the_401_names_the_token(guarded: ReceiverProcess, sandbox: EdgegapSandbox) -> None:
    sandbox.misbehave(Fault("status", status=401, message=f"token {API_TOKEN} is bad", times=None))
    identity = guarded.push("1.0.0")

    until(lambda: "edgegap_token_refused" in guarded.log.read_text("utf-8"))

    bearer = {"Authorization": f"Bearer {guarded.api_token()}"}
    ready = httpx.get(f"{guarded.url}/readyz", headers=bearer, trust_env=False).text
    rehearsed = commands_beside(guarded).run("push", f"{REPOSITORY}:2.0.0", "--dry-run")
    answer = ready + rehearsed.stdout + rehearsed.stderr + _outputs(guarded, identity)
    _spares_secrets(guarded, answer)
    assert "is bad" in answer


def _raw(receiver: ReceiverProcess, request: bytes) -> bytes:
    parts = urlsplit(receiver.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), 10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(65536), b""))


def test_when_requests_on_the_links_path_are_bad(guarded: ReceiverProcess) -> None:
    path = urlsplit(guarded.link()).path.encode()
    answers = [
        _raw(guarded, request)
        for request in (
            b"POST " + path + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{",
            b"POST " + path + b" HTTP/9.9\r\n\r\n",
            b"POST " + path + b" \x00HTTP/1.1\r\nHost: x\r\n\r\n",
            b"BREW " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
            b"POST "
            + path
            + b"?a=b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"POST http://x" + path + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n[]",
            b"POST /" + path + b"/x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
            b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\n\r\n",
        )
    ]
    answers += [
        guarded.post(body, repository=REPOSITORY).content
        for body in (b"", b"[]", b"no json", guarded.link().encode(), ECHO.encode())
    ]
    answers.append(guarded.post(webhook_body("1.0", "studio/lobby")).content)
    answers.append(guarded.post(webhook_body(f"bad {guarded.link()}")).content)

    _spares_secrets(guarded, b"".join(answers).decode("latin-1"))


def test_a_revoked_link_is_logged_without_its_token(guarded: ReceiverProcess) -> None:
    link = guarded.link()
    httpx.post(f"{link}x", json={}, trust_env=False)
    httpx.post(f"{link[:-3]}", json={}, trust_env=False)

    until(lambda: guarded.log.read_text("utf-8").count("link_refused") == 2)
    assert link.rsplit("/", 1)[1][:-3] not in guarded.everything_written()


@pytest.mark.parametrize(
    "arguments",
    [["serve"], ["deliveries"], ["replay", "--parked"], ["check"], ["push", f"{REPOSITORY}:1"]],
)
@pytest.mark.parametrize(
    "url",
    [
        "postgresql://receiver:canary-db-password@127.0.0.1:9/receiver?connect_timeout=2",
        "mysql://receiver:canary-db-password@127.0.0.1:9/receiver",
        "postgresql://receiver:canary-db-password@127.0.0.1:port/receiver",
    ],
)
def test_the_databases_password_is_never_printed(
    commands: Commands, arguments: list[str], url: str
) -> None:
    done = commands.run(*arguments, DATABASE_URL=url)

    assert done.exit_code in {0, 3, 4}
    assert "canary-db-password" not in done.output + done.stderr


@pytest.mark.parametrize("before", [180, 190, 199])
def test_a_secret_that_a_databases_error_is_cut_within_is_masked_first(
    ledger: Ledger, before: int
) -> None:
    """It was cut to 200 letters and masked then: what was left of the secret was in it."""
    secret = CANARIES["GAME_DB_PASSWORD"]
    masking.know([Secret(secret)])
    trouble = OperationalError("x", {}, Exception("." * before + secret))

    def away(tx: Tx) -> None:
        raise trouble

    with pytest.raises(LedgerError) as writing:
        asyncio.run(ledger.write(away))
    with pytest.raises(LedgerError) as reading:
        ledger.read_sync(away)

    for error in (writing, reading):
        shown, _, rest = str(error.value).rpartition(".")
        assert shown.endswith("." * (before - 1))
        assert MASK.startswith(rest)

"""What a stranger may try, each with the bound that the receiver must keep."""

import asyncio
import json
import re
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import uvloop

from receiver.web.protocol import MAX_CONNECTIONS
from tests.attack.connections import Client, Deaf, Sent, connect, nothing, post
from tests.support.receiver_process import ReceiverProcess, webhook_body

MEBIBYTE = 1024 * 1024
MAX_GROWTH = 40  # MiB
PUSHES_EVERY_SECONDS = 0.2
FEW_SOCKETS = 50  # of its own: it listens, and calls Edgegap
BUSY = 64  # connections, of a site that pushes much
_networks = count(1)
_tags = count(1)


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of each attack; the short one runs with the tests."""

    slow_forms: int = 900
    long_heads: int = 40
    head_mebibytes: int = 30
    pipelined: int = 400
    unread: int = 900
    idle: int = 10_000
    busy: int = 512
    busy_seconds: float = 60.0
    malformed: int = 20_000
    accepts: int = 500_000
    hold_seconds: float = 12.0


FULL = Scale()
SHORT = Scale(
    slow_forms=300,
    long_heads=6,
    head_mebibytes=8,
    pipelined=40,
    unread=150,
    idle=2_500,
    busy=128,
    busy_seconds=3.0,
    malformed=1_000,
    accepts=5_000,
    hold_seconds=3.0,
)


@dataclass(frozen=True, slots=True)
class Found:
    """What an attack came to: `broken` says which bound was not kept."""

    figures: str
    broken: tuple[str, ...] = ()


Attack = Callable[[ReceiverProcess, Scale], Coroutine[Any, Any, Found]]


def memory(receiver: ReceiverProcess) -> float:
    """The receiver's resident memory in MiB."""
    assert receiver.process is not None
    status = Path(f"/proc/{receiver.process.pid}/status").read_text("ascii")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024


def open_sockets(receiver: ReceiverProcess) -> int:
    """How many sockets the receiver has open; a client may not know yet that it was closed."""
    assert receiver.process is not None
    found = 0
    for file in Path(f"/proc/{receiver.process.pid}/fd").iterdir():
        with suppress(OSError):
            found += file.readlink().name.startswith("socket:")
    return found


def push(receiver: ReceiverProcess) -> bytes:
    """A push with a tag of its own, as Docker Hub sends it."""
    path = httpx.URL(receiver.link()).path
    return post(path, json.dumps(webhook_body(f"1.0.{next(_tags)}")).encode())


class Watch:
    """Pushes while an attack goes on, and measures the memory."""

    def __init__(self, receiver: ReceiverProcess) -> None:
        self._receiver = receiver
        self.before = self.most = memory(receiver)
        self.pushes = Sent()
        self.slowest = 0.0
        self._stop = Event()
        self._thread = Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        self.most = max(self.most, memory(self._receiver))

    def _run(self) -> None:
        ended = False
        while not ended:
            began = time.monotonic()
            tag = f"2.0.{next(_tags)}"
            status = 0
            with suppress(httpx.HTTPError):
                status = self._receiver.post(webhook_body(tag)).status_code
            self.pushes.statuses[status] += 1
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.most = max(self.most, memory(self._receiver))
            ended = self._stop.wait(PUSHES_EVERY_SECONDS)

    def found(self, figures: str, *broken: str) -> Found:
        """Return the figures, with what must hold in every attack."""
        grown = self.most - self.before
        wrong = list(broken)
        if grown > MAX_GROWTH:
            wrong.append(f"memory grew by {grown:.0f} MiB")
        lost = {status: n for status, n in self.pushes.statuses.items() if status != 202}
        if lost or not self.pushes.statuses:
            wrong.append(f"pushes meanwhile: {dict(self.pushes.statuses)}")
        answer = f"{figures}; memory +{grown:.1f} MiB; slowest push {self.slowest * 1000:.0f} ms"
        return Found(answer, tuple(wrong))


async def slow_forms(receiver: ReceiverProcess, scale: Scale) -> Found:
    """Login forms of 1 MB that arrive slowly, each from a network of its own, with a cookie."""
    sent = Sent()
    async with httpx.AsyncClient(trust_env=False) as http:
        page = await http.get(f"{receiver.url}/login")
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in page.cookies.jar)
    with Watch(receiver) as watch:
        clients = []
        for _ in range(scale.slow_forms):
            network = next(_networks)
            head = post(
                "/login", b"", f"Cookie: {cookies}",
                f"X-Forwarded-For: 2001:db8:{network // 65536:x}:{network % 65536:x}::1",
                length=MEBIBYTE,
            )  # fmt: skip
            clients.append(await connect(receiver.url, Client(head, nothing, sent)))
        for _ in range(8):
            for client in clients:
                if client.transport is not None and not client.transport.is_closing():
                    client.transport.write(b"x" * 32 * 1024)
            await asyncio.sleep(scale.hold_seconds / 8)
        for client in clients:
            if client.transport is not None:
                client.transport.abort()
    return watch.found(f"{scale.slow_forms} slow forms, responses {dict(sent.statuses)}")


async def long_heads(receiver: ReceiverProcess, scale: Scale) -> Found:
    """Headers, one header, a target, or trailers, of many MiB."""
    sent, size = Sent(), scale.head_mebibytes * MEBIBYTE
    chunked = b"POST /login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    begins = {
        b"GET /livez HTTP/1.1\r\n": b"N: " + b"x" * 1000 + b"\r\n",
        b"GET /livez HTTP/1.1\r\nN: ": b"x" * 1000,
        b"GET /": b"x" * 1000,
        chunked: b"N: " + b"x" * 1000 + b"\r\n",
        chunked + b"N: ": b"x" * 1000,
    }
    with Watch(receiver) as watch:
        clients = []
        for number in range(scale.long_heads):
            begin, more = list(begins.items())[number % len(begins)]
            client = await connect(receiver.url, Client(begin, nothing, sent))
            assert client.transport is not None
            client.transport.write(more * (size // len(more)))
            clients.append(client)
        await asyncio.wait([client.closed for client in clients], timeout=30)
        left = [client for client in clients if not client.closed.done()]
        for client in left:
            if client.transport is not None:
                client.transport.abort()
    broken = [f"{len(left)} connections are still open"] if left else []
    return watch.found(f"{scale.long_heads} long heads: {dict(sent.statuses)}", *broken)


async def pipelined_requests(receiver: ReceiverProcess, scale: Scale) -> Found:
    """Thousands of small requests at once on each connection."""
    sent, requests = Sent(), b"GET /livez HTTP/1.1\r\nHost:\r\n\r\n" * 9_000
    with Watch(receiver) as watch:
        clients = [
            await connect(receiver.url, Client(requests, nothing, sent))
            for _ in range(scale.pipelined)
        ]
        await asyncio.wait([client.closed for client in clients], timeout=30)
    return watch.found(f"{scale.pipelined} pipelines of 9,000 requests")


async def unread_responses(receiver: ReceiverProcess, scale: Scale) -> Found:
    """Clients that ask for a large document again and again, and read nothing."""
    sent, requests = Sent(), b"GET /api/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 20
    with Watch(receiver) as watch:
        clients = [
            await connect(receiver.url, Deaf(requests, nothing, sent)) for _ in range(scale.unread)
        ]
        await asyncio.sleep(scale.hold_seconds)
        for client in clients:
            if client.transport is not None:
                client.transport.abort()
    return watch.found(f"{scale.unread} clients that do not read")


async def idle_connections(receiver: ReceiverProcess, scale: Scale) -> Found:
    """Connections that send nothing."""
    sent = Sent()
    with Watch(receiver) as watch:
        clients = []
        for _ in range(scale.idle):
            with suppress(OSError):
                clients.append(await connect(receiver.url, Client(b"", nothing, sent)))
        await asyncio.sleep(scale.hold_seconds)
        kept = open_sockets(receiver)
        for client in clients:
            if client.transport is not None:
                client.transport.abort()
    broken = [f"{kept} sockets were open"] if kept > MAX_CONNECTIONS + FEW_SOCKETS else []
    return watch.found(f"{scale.idle} idle connections, {kept} sockets open", *broken)


async def busy_connections(receiver: ReceiverProcess, scale: Scale) -> Found:
    """Connections that push at full speed: none of the pushes may be rejected."""
    sent = Sent()

    def another(until: float) -> bytes | None:
        return push(receiver) if time.monotonic() < until else None

    with Watch(receiver) as watch:
        for connections in (BUSY, scale.busy):
            then = partial(another, time.monotonic() + scale.busy_seconds)
            clients = [
                await connect(receiver.url, Client(push(receiver), then, sent))
                for _ in range(connections)
            ]
            longest = scale.busy_seconds + 60
            await asyncio.wait([client.closed for client in clients], timeout=longest)
    rejected = {status: n for status, n in sent.statuses.items() if status != 202}
    broken = [f"rejected: {rejected}"] if rejected else []
    figures = f"{sent.statuses[202]:,} pushes by {BUSY} and {scale.busy} connections"
    return watch.found(figures, *broken)


async def malformed_requests(receiver: ReceiverProcess, scale: Scale) -> Found:
    """Requests that are not HTTP: the log must not grow with them."""
    sent, before = Sent(), receiver.log.stat().st_size
    with Watch(receiver) as watch:
        for _ in range(scale.malformed // 100):
            clients = [
                await connect(receiver.url, Client(b"nonsense\r\n\r\n", nothing, sent))
                for _ in range(100)
            ]
            await asyncio.wait([client.closed for client in clients], timeout=30)
    text = receiver.log.read_bytes()[before:].decode("utf-8", "replace")
    lines = [line for line in text.splitlines() if '"event":"delivery_accepted"' not in line]
    lines = [line for line in lines if "registration_" not in line]
    broken = [f"{len(lines)} lines in the log"] if len(lines) > 50 else []
    return watch.found(f"{scale.malformed} malformed requests, {len(lines)} log lines", *broken)


async def many_accepts(receiver: ReceiverProcess, scale: Scale) -> Found:
    """Pushes one after another on 64 connections: the memory stays where it was."""
    sent, left = Sent(), scale.accepts

    def another() -> bytes | None:
        nonlocal left
        left -= 1
        return push(receiver) if left > 0 else None

    with Watch(receiver) as watch:
        clients = [
            await connect(receiver.url, Client(push(receiver), another, sent)) for _ in range(64)
        ]
        await asyncio.wait([client.closed for client in clients], timeout=1800)
    rejected = {status: n for status, n in sent.statuses.items() if status != 202}
    broken = [f"rejected: {rejected}"] if rejected else []
    return watch.found(f"{sent.statuses[202]:,} accepts", *broken)


ATTACKS: dict[str, Attack] = {
    "slow-forms": slow_forms,
    "long-heads": long_heads,
    "pipelined": pipelined_requests,
    "unread": unread_responses,
    "idle": idle_connections,
    "busy": busy_connections,
    "malformed": malformed_requests,
    "accepts": many_accepts,
}


def run(attack: Attack, receiver: ReceiverProcess, scale: Scale) -> Found:
    """Run one attack on a receiver that runs."""
    return uvloop.run(attack(receiver, scale))

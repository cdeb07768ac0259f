"""Sending made-up bodies to a real receiver, and holding it to its promises."""

import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx

from tests.hostile.bodies import made_up
from tests.support.receiver_process import ReceiverProcess

AT_ONCE = 4
CHUNKED_EVERY = 10
TYPES = ("application/json", "text/plain", "application/x-www-form-urlencoded", "", "x\x7f")


@dataclass
class Sent:
    """What was answered: how often which status, which deliveries, and what broke a promise."""

    statuses: Counter[int] = field(default_factory=Counter)
    accepted: set[str] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)


def send_many(receiver: ReceiverProcess, many: int, seed: int) -> Sent:
    """Send `many` bodies, some at once; each answer must be a 2xx or a 4xx."""
    sent = Sent()
    lock = threading.Lock()
    threads = [
        threading.Thread(target=_send, args=(receiver, many // AT_ONCE, seed + number, sent, lock))
        for number in range(AT_ONCE)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sent


def _send(
    receiver: ReceiverProcess, many: int, seed: int, sent: Sent, lock: threading.Lock
) -> None:
    chance = random.Random(seed)
    link = receiver.link()
    with httpx.Client(trust_env=False, timeout=30) as client:
        for number in range(many):
            body = made_up(chance)
            headers = {"Content-Type": chance.choice(TYPES)}
            content = _chunks(body, chance) if number % CHUNKED_EVERY == 0 else body
            try:
                answer = client.post(link, content=content, headers=headers)
            except httpx.HTTPError as error:
                with lock:
                    sent.broken.append(f"seed {seed}, body {number}: {error!r}")
                continue
            with lock:
                sent.statuses[answer.status_code] += 1
                if answer.status_code == 202:
                    sent.accepted.add(json.loads(answer.content)["delivery"])
                elif not 200 <= answer.status_code < 500:
                    sent.broken.append(f"seed {seed}, body {number}: {answer.status_code}")


def _chunks(body: bytes, chance: random.Random) -> Iterator[bytes]:
    at = 0
    while at < len(body):
        size = chance.randrange(1, 100_000)
        yield body[at : at + size]
        at += size

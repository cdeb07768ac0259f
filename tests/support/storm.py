"""Senders that report pushes without rest, and what they were answered."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import httpx

from receiver.signing import LinkSigner
from tests.support.receiver_process import KEY, REPOSITORY, webhook_body

ACCEPTED = 202
PAUSE_SECONDS = 0.02  # after a refusal, as a balancer takes a while to try the next


@dataclass
class SentPushes:
    """What the senders sent, and what they were answered."""

    accepted: dict[str, str] = field(default_factory=dict)  # the delivery's id: its tag
    answers: dict[str, int] = field(default_factory=dict)

    def count(self, answer: str) -> None:
        self.answers[answer] = self.answers.get(answer, 0) + 1

    @property
    def tags(self) -> set[str]:
        """The tags that were accepted at least once."""
        return set(self.accepted.values())


class Senders:
    """Threads that send new tags, and some of them again, round robin to all URLs."""

    def __init__(
        self, urls: Callable[[], Sequence[str]], *, at_once: int, pause: float, seed: int = 0
    ) -> None:
        self.sent = SentPushes()
        self._urls = urls
        self._pause = pause
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._sent_tags: list[str] = []
        self._threads = [
            threading.Thread(target=self._send, args=(number, random.Random(seed * 997 + number)))
            for number in range(at_once)
        ]

    def start(self) -> "Senders":
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> SentPushes:
        """Let each finish what it is sending."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        return self.sent

    def _send(self, number: int, chance: random.Random) -> None:
        with httpx.Client(trust_env=False, timeout=10) as client:
            for turn in range(1_000_000):
                if self._stop.wait(self._pause * chance.random() * 2):
                    return
                self._one(client, self._tag(number, turn, chance), (number + turn), chance)

    def _tag(self, number: int, turn: int, chance: random.Random) -> str:
        with self._lock:
            if self._sent_tags and chance.random() < 0.5:  # as Docker Hub reports some twice
                return chance.choice(self._sent_tags[-20:])
            tag = f"{number}.{turn}"
            self._sent_tags.append(tag)
            return tag

    def _one(self, client: httpx.Client, tag: str, turn: int, chance: random.Random) -> None:
        urls = self._urls()
        link = LinkSigner([KEY], {}).link(urls[turn % len(urls)], REPOSITORY) if urls else ""
        try:
            answer = client.post(link, json=webhook_body(tag))
        except (httpx.TransportError, httpx.UnsupportedProtocol) as error:
            with self._lock:
                self.sent.count(type(error).__name__)
            time.sleep(PAUSE_SECONDS)
            return
        with self._lock:
            self.sent.count(str(answer.status_code))
            if answer.status_code == ACCEPTED:
                self.sent.accepted[answer.json()["delivery"]] = tag

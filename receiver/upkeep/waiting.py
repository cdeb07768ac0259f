"""Waiting for the result of the newest push of an image: what counts as one, and who waits."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum

import msgspec

from receiver.images import ImageReference
from receiver.ledger.ledger import Ledger
from receiver.ledger.queries import newest_of_image
from receiver.ledger.transaction import Tx
from receiver.ledger.views import Delivery, Registration
from receiver.reasons import Outcome, State, Verdict
from receiver.rules.rule import Mode

MAX_WAITING = 50
LOOK_AGAIN_SECONDS = 1.0  # for what no worker of this process settles
OVER = frozenset({State.DONE, State.PARKED})


class Progress(StrEnum):
    """How far the newest push of an image is."""

    UNKNOWN = "unknown"
    OPEN = "open"
    NOT_DONE = "not_done"
    DONE = "done"


class AwaitedImage(msgspec.Struct, frozen=True):
    """The image whose newest push is waited for, and for how many seconds at most.

    With `digest`, only a push of that digest counts.
    """

    image: ImageReference
    digest: str | None
    seconds: float

    def __str__(self) -> str:
        name = f"{self.image.repository}:{self.image.tag}"
        return name if self.digest is None else f"{name}@{self.digest}"


def newest_push(tx: Tx, awaited: AwaitedImage) -> Delivery | None:
    """Return the newest push of the image, None if there is none.

    A move or a trial that a person requested is none. Without one of the digest, the newest that is
    open and whose digest is not known yet.
    """
    image = awaited.image
    found = newest_of_image(tx, image.repository, image.tag, awaited.digest)
    if found is not None or awaited.digest is None:
        return found
    newest = newest_of_image(tx, image.repository, image.tag)
    if newest is None or progress_of(newest) is not Progress.OPEN:
        return None
    known = [newest.digest, *(one.digest for one in newest.registrations)]
    return newest if known.count(None) == len(known) else None


def progress_of(delivery: Delivery | None) -> Progress:
    """Return how far a delivery is; it is over once each registration is done or parked."""
    if delivery is None:
        return Progress.UNKNOWN
    if delivery.verdict is not Verdict.ACCEPTED:
        return Progress.NOT_DONE
    if any(one.state not in OVER for one in delivery.registrations):
        return Progress.OPEN
    failed = any(_has_failed(one) for one in delivery.registrations)
    return Progress.NOT_DONE if failed else Progress.DONE


def is_over(delivery: Delivery | None) -> bool:
    """Return whether the result of a delivery is known."""
    return progress_of(delivery) in {Progress.DONE, Progress.NOT_DONE}


def _has_failed(one: Registration) -> bool:
    """Return whether the image is not at Edgegap as the push wanted it.

    A failed trial counts only if it parks. A channel that a newer push or a hold kept is as wanted.
    """
    if one.state is State.PARKED or one.outcome is Outcome.DISMISSED or one.deleted_at is not None:
        return True
    return one.outcome is Outcome.SUPERSEDED and one.mode is Mode.CREATE


def sentence_of(awaited: AwaitedImage, delivery: Delivery | None) -> str:
    """Return what is known of the push, and what to do."""
    if delivery is None:
        return (
            f"no push of {awaited} is known: check the name, and the webhook of "
            f"{awaited.image.repository} on Docker Hub"
        )
    named = (one for one in delivery.registrations if one.state != State.DONE or _has_failed(one))
    what = [_of_registration(one) for one in named]
    if delivery.verdict is not Verdict.ACCEPTED:
        what.append(f"it was {delivery.verdict} ({delivery.reason}): {delivery.sentence}")
    result = " ".join(what) or "everything is done."
    return f"the push of {awaited}: {result} Details: `receiver show {delivery.id}`"


def _of_registration(one: Registration) -> str:
    detail = one.outcome or one.reason
    state = one.state.value + (f" {detail}" if detail else "")
    if one.deleted_at is not None:
        return f"{one.app}/{one.version} was deleted later: {one.deleted_why}."
    return f"{one.app}/{one.version} is {state}" + (f": {one.sentence}" if one.sentence else ".")


class TooManyWaiting(Exception):
    """As many requests as allowed are waiting already."""


class Waiting:
    """The requests that wait for a result: each is woken when its image has a new one."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._waiting: dict[ImageReference, set[asyncio.Event]] = {}
        self.count = 0  # requests that wait
        self.ending = False

    def wake(self, image: ImageReference) -> None:
        """Look again at what waits for this image: something of it was settled."""
        for event in self._waiting.get(image, ()):
            event.set()

    def end(self) -> None:
        """Answer everything that waits with what is known now: the server stops."""
        self.ending = True
        for events in self._waiting.values():
            for event in events:
                event.set()

    async def until_over(
        self, awaited: AwaitedImage, is_gone: Callable[[], Awaitable[bool]]
    ) -> Delivery | None:
        """Return the newest push once it is over, or what is known of it when time is up.

        `is_gone`: whether nobody reads the response any more.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + awaited.seconds
        with self._place(awaited.image) as event:
            while True:
                event.clear()
                found = await self._ledger.read(lambda tx: newest_push(tx, awaited))
                left = until - loop.time()
                if is_over(found) or left <= 0 or self.ending or await is_gone():
                    return found
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(left, LOOK_AGAIN_SECONDS)):
                        await event.wait()

    @contextmanager
    def _place(self, image: ImageReference) -> Iterator[asyncio.Event]:
        if self.count >= MAX_WAITING:
            raise TooManyWaiting
        event, events = asyncio.Event(), self._waiting.setdefault(image, set())
        events.add(event)
        self.count += 1
        try:
            yield event
        finally:
            self.count -= 1
            events.discard(event)
            if not events:
                self._waiting.pop(image, None)

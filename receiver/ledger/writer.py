"""Group commit: one connection, many accepts to a transaction.

A thread takes one piece of work, drains what has come meanwhile, commits all in one transaction,
and answers each after the COMMIT. Nothing is delayed on purpose; under load the groups grow by
themselves. What comes in a crowd is written where it is, on the event loop's own thread: all of a
crowd wait for that one commit, and to hand them over and back costs a tenth of an accept.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from receiver.errors import LedgerError
from receiver.ledger.committing import Committer, Work
from receiver.ledger.transactions import Tx

Item = TypeVar("Item")
T = TypeVar("T")

LARGEST_GROUP = 256
MOST_PENDING = 20_000
CLOSING_SECONDS = 5.0
CROWD = 16
# A disk that takes longer must not hold up the loop, and with it all doors, a second time.
LONGEST_ON_LOOP_SECONDS = 0.05
SLOW_FOR_SECONDS = 10.0
LOOK_EVERY_SECONDS = 0.5  # after the ledger's files, while nothing is written


class Writer:
    """The one that has all writes committed: in its own thread, or a crowd's on the loop."""

    def __init__(self, committer: Committer) -> None:
        self._committer = committer
        self._queue: SimpleQueue[list[Work] | None] = SimpleQueue()
        self._turns: dict[asyncio.AbstractEventLoop, list[Work]] = {}
        self._pending = 0
        self._on_loop_from = 0.0
        self._closed = False
        self._thread = Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    async def write(self, write: Callable[[Tx], T]) -> T:
        """Run the function in a transaction and return its result once that is on disk.

        Raises LedgerError when it could not be committed: then nothing of it happened.
        """
        loop = asyncio.get_running_loop()
        result: T = await self._queued(Work(write, loop, loop.create_future()))
        return result

    def write_alike(
        self, write: Callable[[Tx, Sequence[Item]], Sequence[T]], item: Item
    ) -> Awaitable[T]:
        """As `write`, for what comes in crowds: one call writes the items of the whole group.

        The function returns a result for each item, in order.
        """
        loop = asyncio.get_running_loop()
        return self._queued(Work(write, loop, loop.create_future(), item, alike=True))

    def close(self) -> None:
        """Finish what is queued and end the thread; one that waits for a lock is left behind.

        Nobody was told that what it holds is on disk.
        """
        self._closed = True
        self._queue.put(None)
        self._thread.join(CLOSING_SECONDS)
        self._committer.abandoned = self._thread.is_alive()

    def _queued(self, work: Work) -> asyncio.Future[Any]:
        """Hand it over together with what else comes in these turns of the loop.

        Waking the thread for each would have both wait for each other all the time.
        """
        if self._pending >= MOST_PENDING:
            raise LedgerError(f"over {MOST_PENDING} writes are waiting for the disk")
        self._pending += 1
        turn = self._turns.get(work.loop)
        if turn is None:
            self._turns[work.loop] = [work]
            work.loop.call_soon(self._hand_over, work.loop)
        else:
            turn.append(work)
        return work.future

    def _hand_over(self, loop: asyncio.AbstractEventLoop, known: int = 0) -> None:
        """Hand over once a turn of the loop brought nothing more; one alone waits for one turn."""
        turn = self._turns[loop]
        if known < len(turn) < LARGEST_GROUP:
            loop.call_soon(self._hand_over, loop, len(turn))
            return
        group = self._turns.pop(loop)
        if self._closed:
            for work in group:
                work.error = LedgerError("the ledger was closed before this was written")
            self._resolve(group)
        elif self._is_for_the_loop(group) and self._on_loop(group):
            self._resolve(group)
        else:
            self._queue.put(group)

    def _is_for_the_loop(self, group: list[Work]) -> bool:
        """Only accepts come in crowds; what else is written may take its time."""
        return (
            CROWD <= len(group) <= LARGEST_GROUP
            and all(work.alike for work in group)
            and time.monotonic() >= self._on_loop_from
        )

    def _on_loop(self, group: list[Work]) -> bool:
        """Write it here and now; False, and nothing written, where it would have to wait."""
        began = time.monotonic()
        written = self._committer.commit_at_once(group)
        ended = time.monotonic()
        if ended - began > LONGEST_ON_LOOP_SECONDS:
            self._on_loop_from = ended + SLOW_FOR_SECONDS
        return written

    def _run(self) -> None:
        open_for_work = True
        while open_for_work:
            group, open_for_work = self._next_group()
            for part in self._committer.commit(group):
                self._answer(part)
        self._committer.close()

    def _next_group(self) -> tuple[list[Work], bool]:
        group: list[Work] = []
        turn = self._first_turn()
        while turn is not None:
            group += turn
            if len(group) >= LARGEST_GROUP:
                return group, True
            try:
                turn = self._queue.get_nowait()
            except Empty:
                return group, True
        return group, False

    def _first_turn(self) -> list[Work] | None:
        while True:
            try:
                return self._queue.get(timeout=LOOK_EVERY_SECONDS)
            except Empty:
                self._committer.look_around()

    def _answer(self, group: list[Work]) -> None:
        loops: dict[asyncio.AbstractEventLoop, list[Work]] = {}
        for work in group:
            loops.setdefault(work.loop, []).append(work)
        for loop, works in loops.items():
            with suppress(RuntimeError):  # the loop is closed: nobody waits for the answer
                loop.call_soon_threadsafe(self._resolve, works)

    def _resolve(self, works: list[Work]) -> None:
        self._pending -= len(works)
        for work in works:
            if work.future.done():
                continue
            if work.error is not None:
                work.future.set_exception(work.error)
            else:
                work.future.set_result(work.result)

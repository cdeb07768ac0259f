"""Group commit: one thread, one connection, many accepts to a transaction.

Take one piece of work, drain what has come meanwhile, one transaction for all, and answer each
after the COMMIT. Nothing is delayed on purpose; under load the groups grow by themselves.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from receiver.errors import LedgerError
from receiver.ledger.causes import cause_of
from receiver.ledger.engines import empty_log
from receiver.ledger.transactions import Tx

Item = TypeVar("Item")
T = TypeVar("T")

LARGEST_GROUP = 256
MOST_PENDING = 20_000
MOST_TRIES = 5
CLOSING_SECONDS = 5.0
# Replicas got into each other's way (serialization, deadlock, both claimed a target): tried again,
# the loser sees what the winner wrote.
COLLISIONS = frozenset({"40001", "40P01", "23505"})


@dataclass(slots=True)
class _Work:
    """Something to write; with an `item`, together with all of its group that write alike."""

    write: Callable[..., Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    item: Any = None
    alike: bool = False
    result: Any = None
    error: Exception | None = None


class Writer:
    """The one thread that writes; `usable` is asked before each group whether it still may."""

    def __init__(self, engine: Engine, usable: Callable[[], None]) -> None:
        self._engine = engine
        self._usable = usable
        self._queue: SimpleQueue[list[_Work] | None] = SimpleQueue()
        self._turns: dict[asyncio.AbstractEventLoop, list[_Work]] = {}
        self._pending = 0
        self._left = False
        self._connection: Connection | None = None
        self._thread = Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    async def write(self, write: Callable[[Tx], T]) -> T:
        """Run the function in a transaction and return its result once that is on disk.

        Raises LedgerError when it could not be committed: then nothing of it happened.
        """
        loop = asyncio.get_running_loop()
        result: T = await self._queued(_Work(write, loop, loop.create_future()))
        return result

    def write_alike(
        self, write: Callable[[Tx, Sequence[Item]], Sequence[T]], item: Item
    ) -> Awaitable[T]:
        """As `write`, for what comes in crowds: one call writes the items of the whole group.

        The function returns a result for each item, in order.
        """
        loop = asyncio.get_running_loop()
        return self._queued(_Work(write, loop, loop.create_future(), item, alike=True))

    def _queued(self, work: _Work) -> asyncio.Future[Any]:
        """Hand it to the thread, together with what else comes in these turns of the loop.

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
        else:
            self._queue.put(self._turns.pop(loop))

    def close(self) -> None:
        """Finish what is queued and end the thread; one that waits for a lock is left behind.

        Nobody was told that what it holds is on disk.
        """
        self._queue.put(None)
        self._thread.join(CLOSING_SECONDS)
        self._left = self._thread.is_alive()

    def _run(self) -> None:
        open_for_work = True
        while open_for_work:
            group, open_for_work = self._next_group()
            away: LedgerError | None = None
            for part in self._parts(group):
                if away is None:
                    away = self._commit(part)
                else:  # each would wait anew for a database that does not answer
                    self._fail(part, away)
                self._answer(part)
        self._disconnect()

    def _next_group(self) -> tuple[list[_Work], bool]:
        group: list[_Work] = []
        turn = self._queue.get()
        while turn is not None:
            group += turn
            if len(group) >= LARGEST_GROUP:
                return group, True
            try:
                turn = self._queue.get_nowait()
            except Empty:
                return group, True
        return group, False

    def _parts(self, group: list[_Work]) -> Iterator[list[_Work]]:
        """Part the group into its transactions: one for all, where nobody else writes.

        Among replicas only what writes alike, and in one order, shares one: else two would hold
        what the other waits for, and both stand still until PostgreSQL ends one of them.
        """
        if self._engine.dialect.name == "sqlite":
            if group:
                yield group
            return
        for _, works in _alike(group):
            if works[0].alike:
                yield works
            else:
                yield from ([work] for work in works)

    def _commit(self, group: list[_Work]) -> LedgerError | None:
        """Write it; where the ledger is away, return what was told of that."""
        for left in reversed(range(MOST_TRIES)):
            try:
                self._transaction(group)
            except Exception as error:  # noqa: BLE001 - whoever waits for it is told
                if left and _may_pass(error):
                    self._disconnect()
                    continue
                return self._give_up(group, error)
            return None
        return None

    def _give_up(self, group: list[_Work], error: Exception) -> LedgerError | None:
        """Tell all of them when the ledger is away; else one bad one must not fail the others."""
        if isinstance(error, LedgerError | OperationalError | OSError):
            return self._fail(group, error)
        if len(group) == 1:
            told = isinstance(error, SQLAlchemyError)
            group[0].error = LedgerError(cause_of(error)) if told else error
            self._disconnect()
        else:
            for work in group:
                self._commit([work])
        return None

    def _transaction(self, group: list[_Work]) -> None:
        self._usable()
        if self._connection is None:
            self._connection = self._engine.connect()
            empty_log(self._connection)
        with self._connection.begin():
            tx = Tx(self._connection)
            for write, works in _alike(group):
                if works[0].alike:
                    results = write(tx, [work.item for work in works])
                    for work, result in zip(works, results, strict=True):
                        work.result = result
                else:
                    for work in works:
                        work.result = work.write(tx)

    def _fail(self, group: list[_Work], error: Exception) -> LedgerError:
        told = error if isinstance(error, LedgerError) else LedgerError(cause_of(error))
        for work in group:
            work.error = told
        self._disconnect()
        return told

    def _answer(self, group: list[_Work]) -> None:
        loops: dict[asyncio.AbstractEventLoop, list[_Work]] = {}
        for work in group:
            loops.setdefault(work.loop, []).append(work)
        for loop, works in loops.items():
            with suppress(RuntimeError):  # the loop is closed: nobody waits for the answer
                loop.call_soon_threadsafe(self._resolve, works)

    def _resolve(self, works: list[_Work]) -> None:
        self._pending -= len(works)
        for work in works:
            if work.future.done():
                continue
            if work.error is not None:
                work.future.set_exception(work.error)
            else:
                work.future.set_result(work.result)

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(SQLAlchemyError):
                if self._left:  # its pool is gone
                    self._connection.invalidate()
                self._connection.close()
            self._connection = None


def _alike(group: list[_Work]) -> Iterator[tuple[Callable[..., Any], list[_Work]]]:
    """Part the group into runs of those that write alike, in the order in which they came."""
    for write, works in groupby(group, key=attrgetter("write")):
        yield write, list(works)


def _may_pass(error: Exception) -> bool:
    """Tell whether to try at once again: replicas collided, or the server has been restarted."""
    if not isinstance(error, DBAPIError):
        return False
    return error.connection_invalidated or getattr(error.orig, "sqlstate", None) in COLLISIONS

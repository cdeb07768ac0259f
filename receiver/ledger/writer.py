"""Group commit: one connection, many accepts to a transaction.

A thread takes one piece of work, drains what has come meanwhile, commits all in one transaction,
and answers each after the COMMIT. Nothing is delayed on purpose; under load the groups grow by
themselves.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from operator import attrgetter
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from receiver.errors import LedgerError
from receiver.ledger.engine import checkpoint, describe_error
from receiver.ledger.sqlite_file import LogNotSaved, SqliteFile
from receiver.ledger.transaction import Tx

MAX_TRIES = 5
# Conflicts between replicas (serialization, deadlock, both claimed a target): tried again,
# the loser sees what the winner wrote.
COLLISIONS = frozenset({"40001", "40P01", "23505"})
MAX_GROUP = 256
MAX_PENDING = 20_000
CLOSING_SECONDS = 5.0
LOOK_EVERY_SECONDS = 0.5  # how often to check the ledger's files while nothing is written

Item = TypeVar("Item")
T = TypeVar("T")


class Work(msgspec.Struct):
    """Something to write; with an `item`, together with all of its group that write alike."""

    write: Callable[..., Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    item: Any = None
    alike: bool = False
    result: Any = None
    quiet: bool = False
    error: Exception | None = None


class Committer:
    """The one connection that writes, for the writer's thread.

    `usable` is asked before each transaction whether to go on with the connection, and raises if
    the ledger may not be written; `look` is the same for a time in which nothing is. `file` is the
    ledger's, if it is one.
    """

    def __init__(
        self,
        engine: Engine,
        usable: Callable[[Connection | None], bool],
        look: Callable[[Connection], bool],
        file: SqliteFile | None = None,
    ) -> None:
        self._engine = engine
        self._usable = usable
        self._look = look
        self._file = file
        self._connection: Connection | None = None
        self.abandoned = False  # the engine's pool is gone, though a thread is still committing

    def commit(self, group: list[Work]) -> Iterator[list[Work]]:
        """Write the group; yield the items that are written, each with its result or its error.

        The whole group is yielded at once unless other replicas write, too.
        """
        away: LedgerError | None = None
        for part in self._parts(group):
            if away is None:
                away = self._commit(part)
            else:  # each would wait again for a database that does not answer
                self._fail(part, away)
            yield part

    def check_files(self) -> None:
        """Check the files while nothing is written, so that damage is repaired in time."""
        if self._connection is not None:
            try:
                good = self._look(self._connection)
            except LogNotSaved:
                good = True
            except (LedgerError, OSError, SQLAlchemyError):
                good = False  # the next write says why
            if not good:
                self.close()

    def _parts(self, group: list[Work]) -> Iterator[list[Work]]:
        """Split the group into transactions: a single one if no other process writes.

        Among replicas a transaction has only writes of one kind, in one order: otherwise two
        replicas could deadlock until PostgreSQL aborts one of the transactions.
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

    def _commit(self, group: list[Work]) -> LedgerError | None:
        """Write it; if the ledger is unavailable, return the error that was reported."""
        for left in reversed(range(MAX_TRIES)):
            try:
                self._transaction(group)
            except Exception as error:  # noqa: BLE001 - passed on to the waiting caller
                if left and _is_transient(error):
                    self.close()
                    continue
                return self._give_up(group, error)
            return None
        return None

    def _give_up(self, group: list[Work], error: Exception) -> LedgerError | None:
        """Fail all if the ledger is unavailable; else one bad item must not fail the others."""
        if isinstance(error, LedgerError | OperationalError | OSError):
            return self._fail(group, error)
        if len(group) == 1:
            answer = isinstance(error, SQLAlchemyError)
            group[0].error = LedgerError(describe_error(error)) if answer else error
            self.close()
        else:
            for work in group:
                self._commit([work])
        return None

    def _transaction(self, group: list[Work]) -> None:
        while not self._usable(self._connection):
            self.close()
        if self._connection is None:
            self._connection = self._engine.connect()
            checkpoint(self._connection)
            if self._file is not None:
                self._file.connected()
        with self._connection.begin():
            tx = Tx(self._connection)
            for write, works in _alike(group):
                if works[0].alike:
                    results = write(tx, [work.item for work in works])
                    for work, result in zip(works, results, strict=True):
                        work.result = result
                else:
                    for work in works:
                        tx.quiet = False
                        work.result = work.write(tx)
                        work.quiet = tx.quiet
            if self._file is not None:
                self._file.log.committing()
        if self._file is not None:
            self._file.committed(self._connection)

    def _fail(self, group: list[Work], error: Exception) -> LedgerError:
        answer = error if isinstance(error, LedgerError) else LedgerError(describe_error(error))
        for work in group:
            work.error = answer
        if not isinstance(error, LogNotSaved):
            self.close()
        return answer

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            with suppress(SQLAlchemyError):
                if self.abandoned:
                    self._connection.invalidate()
                self._connection.close()
            self._connection = None


class Writer:
    """Commits all writes, in its own thread."""

    def __init__(self, committer: Committer) -> None:
        self._committer = committer
        self._queue: SimpleQueue[list[Work] | None] = SimpleQueue()
        self._turns: dict[asyncio.AbstractEventLoop, list[Work]] = {}
        self._pending = 0
        self.commits = 0
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

    def write_batched(
        self, write: Callable[[Tx, Sequence[Item]], Sequence[T]], item: Item
    ) -> Awaitable[T]:
        """As `write`, for frequent writes of one kind: one call writes the whole group of items.

        The function returns a result for each item, in order.
        """
        loop = asyncio.get_running_loop()
        return self._queued(Work(write, loop, loop.create_future(), item, alike=True))

    def close(self) -> None:
        """Finish what is queued and end the thread; one that waits for a lock is left behind.

        No caller was given a result for what that thread was writing.
        """
        self._closed = True
        self._queue.put(None)
        self._thread.join(CLOSING_SECONDS)
        self._committer.abandoned = self._thread.is_alive()

    def _queued(self, work: Work) -> asyncio.Future[Any]:
        """Hand it over together with what else comes in these turns of the loop.

        Waking the thread for each would have both wait for each other all the time.
        """
        if self._pending >= MAX_PENDING:
            raise LedgerError(f"over {MAX_PENDING} writes are waiting for the disk")
        self._pending += 1
        turn = self._turns.get(work.loop)
        if turn is None:
            self._turns[work.loop] = [work]
            work.loop.call_soon(self._hand_over, work.loop)
        else:
            turn.append(work)
        return work.future

    def _hand_over(self, loop: asyncio.AbstractEventLoop, known: int = 0) -> None:
        """Hand over once an iteration of the event loop adds no more; one alone waits for one."""
        turn = self._turns[loop]
        if known < len(turn) < MAX_GROUP:
            loop.call_soon(self._hand_over, loop, len(turn))
            return
        group = self._turns.pop(loop)
        if self._closed:
            for work in group:
                work.error = LedgerError("the ledger was closed before this was written")
            self._resolve(group)
        else:
            self._queue.put(group)

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
            if len(group) >= MAX_GROUP:
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
                self._committer.check_files()

    def _answer(self, group: list[Work]) -> None:
        loops: dict[asyncio.AbstractEventLoop, list[Work]] = {}
        for work in group:
            loops.setdefault(work.loop, []).append(work)
        for loop, works in loops.items():
            with suppress(RuntimeError):  # the loop is closed: nobody waits for the answer
                loop.call_soon_threadsafe(self._resolve, works)

    def _resolve(self, works: list[Work]) -> None:
        self._pending -= len(works)
        self.commits += not all(work.quiet for work in works)
        for work in works:
            if work.future.done():
                continue
            if work.error is not None:
                work.future.set_exception(work.error)
            else:
                work.future.set_result(work.result)


def _alike(group: list[Work]) -> Iterator[tuple[Callable[..., Any], list[Work]]]:
    """Split the group into runs of writes of the same kind, in the order of their arrival."""
    for write, works in groupby(group, key=attrgetter("write")):
        yield write, list(works)


def _is_transient(error: Exception) -> bool:
    """Return whether to retry at once: replicas collided, or the server has been restarted."""
    if not isinstance(error, DBAPIError):
        return False
    return error.connection_invalidated or getattr(error.orig, "sqlstate", None) in COLLISIONS

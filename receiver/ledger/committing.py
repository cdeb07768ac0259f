"""Committing a group of writes in transactions, and telling each what came of it."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from threading import Lock
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from receiver.errors import LedgerError
from receiver.ledger.causes import cause_of
from receiver.ledger.engines import empty_log, waiting_for_no_lock
from receiver.ledger.own_file import LogNotSaved, OwnFile
from receiver.ledger.transactions import Tx

MOST_TRIES = 5
# Replicas got into each other's way (serialization, deadlock, both claimed a target): tried again,
# the loser sees what the winner wrote.
COLLISIONS = frozenset({"40001", "40P01", "23505"})


@dataclass(slots=True)
class Work:
    """Something to write; with an `item`, together with all of its group that write alike."""

    write: Callable[..., Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    item: Any = None
    alike: bool = False
    result: Any = None
    error: Exception | None = None


class Committer:
    """The one connection that writes, for one thread at a time.

    `usable` is asked before each transaction whether to go on with the connection, and raises if
    the ledger may not be written; `look` is the same for a time in which nothing is. `file` is the
    ledger's, if it is one.
    """

    def __init__(
        self,
        engine: Engine,
        usable: Callable[[Connection | None], bool],
        look: Callable[[Connection], bool],
        file: OwnFile | None = None,
    ) -> None:
        self._engine = engine
        self._usable = usable
        self._look = look
        self._file = file
        self._connection: Connection | None = None
        self._mine = Lock()
        self.abandoned = False  # the engine's pool is gone, though a thread is still committing

    def commit(self, group: list[Work]) -> Iterator[list[Work]]:
        """Write the group; yield of it what is written: each holds its result then, or its error.

        Only where others write, too, is that not the whole group at once.
        """
        away: LedgerError | None = None
        for part in self._parts(group):
            with self._mine:
                if away is None:
                    away = self._commit(part)
                else:  # each would wait anew for a database that does not answer
                    self._fail(part, away)
            yield part

    def commit_at_once(self, group: list[Work]) -> bool:
        """Write the group, waiting for nobody; where that cannot be, write nothing.

        What is the matter, and with which of them, `commit` finds out.
        """
        if self._file is None or not self._mine.acquire(blocking=False):
            return False
        try:
            if self._connection is None or not self._file.is_unchanged():
                return False
            with waiting_for_no_lock(self._connection):
                self._write(self._connection, group)
            try:
                self._file.committed(self._connection)
            except LedgerError as error:
                self._fail(group, error)
        except Exception:  # noqa: BLE001 - whatever it is, it is met again, and told
            return False
        finally:
            self._mine.release()
        return True

    def look_around(self) -> None:
        """Look after the files while nothing is written: what is amiss is saved in time."""
        with self._mine:
            if self._connection is not None:
                try:
                    good = self._look(self._connection)
                except LogNotSaved:
                    good = True
                except (LedgerError, OSError, SQLAlchemyError):
                    good = False  # the next write says why
                if not good:
                    self._disconnect()

    def close(self) -> None:
        """Let go of the connection."""
        with self._mine:
            self._disconnect()

    def _parts(self, group: list[Work]) -> Iterator[list[Work]]:
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

    def _commit(self, group: list[Work]) -> LedgerError | None:
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

    def _give_up(self, group: list[Work], error: Exception) -> LedgerError | None:
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

    def _transaction(self, group: list[Work]) -> None:
        while not self._usable(self._connection):
            self._disconnect()
        if self._connection is None:
            self._connection = self._engine.connect()
            empty_log(self._connection)
            if self._file is not None:
                self._file.connected()
        self._write(self._connection, group)
        if self._file is not None:
            self._file.committed(self._connection)

    def _write(self, connection: Connection, group: list[Work]) -> None:
        with connection.begin():
            tx = Tx(connection)
            for write, works in _alike(group):
                if works[0].alike:
                    results = write(tx, [work.item for work in works])
                    for work, result in zip(works, results, strict=True):
                        work.result = result
                else:
                    for work in works:
                        work.result = work.write(tx)
            if self._file is not None:
                self._file.log.committing()

    def _fail(self, group: list[Work], error: Exception) -> LedgerError:
        told = error if isinstance(error, LedgerError) else LedgerError(cause_of(error))
        for work in group:
            work.error = told
        if not isinstance(error, LogNotSaved):
            self._disconnect()
        return told

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(SQLAlchemyError):
                if self.abandoned:
                    self._connection.invalidate()
                self._connection.close()
            self._connection = None


def _alike(group: list[Work]) -> Iterator[tuple[Callable[..., Any], list[Work]]]:
    """Part the group into runs of those that write alike, in the order in which they came."""
    for write, works in groupby(group, key=attrgetter("write")):
        yield write, list(works)


def _may_pass(error: Exception) -> bool:
    """Tell whether to try at once again: replicas collided, or the server has been restarted."""
    if not isinstance(error, DBAPIError):
        return False
    return error.connection_invalidated or getattr(error.orig, "sqlstate", None) in COLLISIONS

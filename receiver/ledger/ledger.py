"""The ledger as one object: opened, written in groups, read beside, closed; and its revision.

The revision is a short text that changes whenever what the pages show changes: they are then sent
again.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from receiver.errors import LedgerError, NoLedger
from receiver.ledger.engine import (
    check_durability,
    describe_error,
    is_deadlock,
    open_engine,
    sqlite_path,
)
from receiver.ledger.files import ROLLING_RESTART_SECONDS, access_fault
from receiver.ledger.migrate import check_file_ours, check_schema, migrate
from receiver.ledger.replicas import replica_lock
from receiver.ledger.schema import SCHEMA
from receiver.ledger.sqlite_file import LedgerReplaced, SqliteFile
from receiver.ledger.transaction import Tx
from receiver.ledger.writer import Committer, Writer
from receiver.logs import get_logger

Item = TypeVar("Item")
T = TypeVar("T")

TURN_SECONDS = 0.25  # how often a waiting process asks for its turn
ASK_EVERY_SECONDS = 1.0
# For replicas, which also write: each part is read from the end of an index, or is small.
_SHARED = """SELECT (SELECT max(id) FROM deliveries) AS d, (SELECT max(id) FROM registrations) AS r,
 (SELECT count(*) FROM registrations
   WHERE state IN ('queued', 'waiting', 'working', 'parked')) AS o,
 (SELECT max(updated_at) FROM registrations
   WHERE state IN ('queued', 'waiting', 'working', 'parked')) AS u,
 (SELECT max(updated_at) FROM (SELECT updated_at FROM registrations ORDER BY id DESC LIMIT 100) n)
  AS n,
 (SELECT max(id) FROM channel_moves) AS m, (SELECT sum(coalesce(held_at, 0)) FROM channels) AS h,
 (SELECT max(id) FROM deletions WHERE ended_at IS NULL) AS b, (SELECT max(id) FROM deletions) AS e,
 (SELECT sum(since) FROM pauses) AS p, (SELECT sum(since) FROM gates WHERE closed) AS g,
 (SELECT max(id) FROM trials) AS t, (SELECT max(at) FROM approvals) AS a,
 (SELECT sum(coalesce(ran_at, 0)) FROM cursors) AS c, (SELECT sum(requests) FROM refused_links) AS l
"""

log = get_logger()


class Ledger:
    """Write with `write`, look with `read`; both take a function over a transaction."""

    def __init__(self, url: URL) -> None:
        self._url = url
        self.path = sqlite_path(url)
        self.schema = SCHEMA  # of the ledger, once it is open; a newer one may serve us, too
        self._file = SqliteFile(self.path) if self.path is not None else None
        self._write_engine = open_engine(url)
        self._read_engine = open_engine(url, read_only=True)
        self._lock_engine = open_engine(url, pooled=False)
        self._reading: Connection | None = None
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ledger-reader")
        self._writer: Writer | None = None
        self._under_way: set[str] = set()

    @property
    def shared(self) -> bool:
        """Whether other replicas work on the same ledger (PostgreSQL)."""
        return self.path is None

    def open_to_write(self, *, wait_seconds: float = ROLLING_RESTART_SECONDS) -> None:
        """Take the lock, bring the schema up to date, check durability, start the writer.

        Raises LedgerInUse when another process holds the file, LedgerError when it cannot be used.
        """
        try:
            if self._file is not None:
                self._file.check_place()
                self._file.lock.acquire(wait_seconds)
                self._file.check()
                self._file.make()
                self._check_log(self._file)
            try:
                self._prepare()
            except SQLAlchemyError:
                self._prepare()  # a full disk: closing emptied the log, so there may be room now
        except (SQLAlchemyError, OSError) as error:
            self._release()
            raise LedgerError(f"the ledger cannot be opened: {self._describe(error)}") from None
        except LedgerError:
            self._release()
            raise
        if self._file is not None:
            self._file.take_ownership(self._write_engine)
        self._writer = Writer(Committer(self._write_engine, self._usable, self._look, self._file))

    def _check_log(self, file: SqliteFile) -> None:
        """Log what was done to the write-ahead log; raises LedgerError if the file is damaged.

        A power cut can also leave such a log, without any commit in it.
        """
        harm = file.log_harm()
        if harm is not None:
            log.error("ledger_log_unreadable", ledger=str(file.path), sentence=harm)
            with self._read_engine.connect() as connection:
                found = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar()
            if found != "ok":
                raise LedgerError(f"{harm}. And {file.path} is damaged ({found}): restore a backup")

    def _prepare(self) -> None:
        with self._write_engine.connect() as connection:
            check_durability(connection)
        self.schema = migrate(self._write_engine)
        with self._write_engine.connect() as connection:
            Tx(connection).continue_after_newest()

    def open_readonly(self) -> None:
        """Check that there is a ledger of this program's schema; raises LedgerError."""
        try:
            if self._file is not None:
                self._file.check_place()
                if not self._file.exists():
                    fault = access_fault(self._file.path)
                    if fault is not None:
                        raise LedgerError(f"there is no ledger yet: {fault}")
                    raise NoLedger(
                        f"there is no ledger at {self.path} yet; `receiver serve` makes it"
                    )
                self._file.check()
            self.schema = check_schema(self._read_engine)
        except (SQLAlchemyError, OSError) as error:
            raise LedgerError(f"the ledger cannot be read: {self._describe(error)}") from None

    def _describe(self, error: SQLAlchemyError | OSError) -> str:
        fault = access_fault(self.path) if self.path is not None else None
        if fault is not None:
            return fault
        return f"{describe_error(error)} ({self.path or 'PostgreSQL'}; see DATABASE_URL)"

    @property
    def commits(self) -> int:
        """How often this process has changed what the pages show."""
        return 0 if self._writer is None else self._writer.commits

    async def write(self, write: Callable[[Tx], T]) -> T:
        """Run the function in a transaction; its result means that it is on disk."""
        return await self._open_writer.write(write)

    def write_batched(
        self, write: Callable[[Tx, Sequence[Item]], Sequence[T]], item: Item
    ) -> Awaitable[T]:
        """As `write`, for frequent writes of one kind: one call writes a whole group of items."""
        return self._open_writer.write_batched(write, item)

    @property
    def _open_writer(self) -> Writer:
        if self._writer is None:
            raise LedgerError("the ledger is not open for writing")
        return self._writer

    async def read(self, read: Callable[[Tx], T]) -> T:
        """Run the function over what is committed, beside the writer; raises LedgerError."""
        return await asyncio.get_running_loop().run_in_executor(self._reader, self._read, read)

    def read_sync(self, read: Callable[[Tx], T]) -> T:
        """Do as `read`, and wait for it: for commands, which use no loop."""
        return self._reader.submit(self._read, read).result()

    def _read(self, read: Callable[[Tx], T]) -> T:
        """Read in the reader's thread only: its connection is not thread-safe."""
        try:
            try:
                return self._read_once(read)
            except DBAPIError as error:
                if not (error.connection_invalidated or is_deadlock(error)):
                    raise
                self._forget_reader()  # the server was restarted, or a migration is under way
                return self._read_once(read)
        except SQLAlchemyError as error:
            self._forget_reader()
            raise LedgerError(f"the ledger cannot be read: {describe_error(error)}") from None

    def _read_once(self, read: Callable[[Tx], T]) -> T:
        if self._file is not None and self._file.replaced():
            raise LedgerError(f"{self.path} was replaced; it is read again in a moment")
        if self._file is not None and self._file.trouble is not None:
            raise LedgerError(self._file.trouble)
        if self._reading is None:
            if self._file is not None:
                self._file.check_there()
            self._reading = self._read_engine.connect()
        with self._reading.begin():
            return read(Tx(self._reading))

    @asynccontextmanager
    async def try_lock(self, name: str) -> AsyncIterator[bool]:
        """Yield whether this task of all replicas' has the named lock, until it ends or is dead.

        Raises LedgerError if the lock was lost meanwhile.
        """
        if name in self._under_way:
            yield False
            return
        self._under_way.add(name)
        try:
            if self.path is not None:  # one receiver alone
                yield True
                return
            async with replica_lock(self._lock_engine, name) as mine:
                yield mine
        finally:
            self._under_way.discard(name)

    @asynccontextmanager
    async def lock(self, name: str, timeout_seconds: float) -> AsyncIterator[bool]:
        """Wait for the lock; yields False if it was not free in that time."""
        until = time.monotonic() + timeout_seconds
        while True:
            async with self.try_lock(name) as mine:
                if mine or time.monotonic() >= until:
                    yield mine
                    return
            await asyncio.sleep(TURN_SECONDS)

    def close(self) -> None:
        """Finish pending writes, and release all connections and locks."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        self._reader.submit(self._forget_reader).result()
        self._reader.shutdown()
        self._write_engine.dispose()
        self._read_engine.dispose()
        self._lock_engine.dispose()
        self._release()

    def _usable(self, connection: Connection | None) -> bool:
        """Return whether to go on with the connection that writes; if not, it is to be closed.

        Refuses to write into a file that was moved, deleted or overwritten under us.
        """
        if self._file is None:
            return True
        try:
            reopened = connection is not None and self._file.reopen
            ours = reopened or self._file.check_ours()
            kept = not reopened and (not ours or self._file.is_kept(connection))
        except LedgerReplaced:
            # The old file's log goes with its last connection, and must not pass into the new.
            self._reader.submit(self._forget_reader).result()
            raise
        if not ours:
            check_file_ours(self._file.path)
            check_schema(self._write_engine)
            self._file.take_ownership(self._write_engine)
        if not kept:
            self._reader.submit(self._forget_reader).result()
        return kept

    def _look(self, connection: Connection) -> bool:
        """Do as `_usable` while nothing is written; what was replaced waits for the next write."""
        if self._file is None or self._file.replaced() or not self._file.exists():
            return True
        return self._usable(connection)

    def _forget_reader(self) -> None:
        if self._reading is not None:
            self._reading.invalidate()
            self._reading.close()
            self._reading = None

    def _release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file.lock.release()


class Revision:
    """The revision: our own commits, and for replicas what the others have changed.

    What others changed is asked for at most once a second, however many tabs poll.
    """

    def __init__(self) -> None:
        self._shared = ""
        self._asked_at = float("-inf")

    async def read(self, ledger: Ledger) -> str:
        """Return it for the ledger, which is always the same one."""
        if not ledger.shared:
            return str(ledger.commits)
        if time.monotonic() - self._asked_at >= ASK_EVERY_SECONDS:
            self._asked_at = time.monotonic()
            self._shared = await ledger.read(shared_revision)
        return f"{ledger.commits} {self._shared}"


def shared_revision(tx: Tx) -> str:
    """Return a text that changes whenever a replica changes what the pages show."""
    row = tx.run(_SHARED).one()
    minute = tx.now // 60_000  # for what no part of it shows
    return " ".join(str(part) for part in (*row, minute))

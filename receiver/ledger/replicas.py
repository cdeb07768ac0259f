"""Replicas on one ledger: which of them are alive, so that they share Edgegap's limits."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from receiver.errors import LedgerError
from receiver.ledger.engine import describe_error
from receiver.ledger.transaction import Tx

ALIVE_MS = 10_000
FORGOTTEN_MS = 3_600_000

_SEEN = """INSERT INTO replicas (owner, seen_at) VALUES (:owner, :now)
 ON CONFLICT (owner) DO UPDATE SET seen_at = excluded.seen_at"""

_AT_WORK = """SELECT EXISTS (SELECT 1 FROM replicas WHERE seen_at >= :since)
 OR EXISTS (SELECT 1 FROM registrations WHERE state = 'working' AND lease_until >= :now)"""

_IN_PROGRESS = """SELECT count(*) FROM registrations
 WHERE state = 'working' AND lease_owner IN (SELECT owner FROM replicas WHERE seen_at >= :since)"""
IDLE_MS = 30_000
SHOWN_SECONDS = 10.0

# Versions before 14 have no such setting: there a turn is kept until the session ends.
_ENDED_WHEN_IDLE = """SELECT set_config(name, %(idle)s, false) FROM pg_settings
 WHERE name = 'idle_session_timeout'"""
_TAKE = "SELECT pg_try_advisory_lock(hashtext(%(name)s))"


def heartbeat(tx: Tx, owner: str) -> int:
    """Record that this replica is alive, and return how many are."""
    tx.run(_SEEN, owner=owner, now=tx.now)
    tx.run("DELETE FROM replicas WHERE seen_at < :before", before=tx.now - FORGOTTEN_MS)
    alive = tx.run("SELECT count(*) FROM replicas WHERE seen_at >= :since", since=tx.now - ALIVE_MS)
    return max(1, int(alive.scalar_one()))


def is_there(tx: Tx, owner: str) -> bool:
    """Return whether this replica is alive."""
    row = tx.run(
        "SELECT 1 FROM replicas WHERE owner = :owner AND seen_at >= :since",
        owner=owner,
        since=tx.now - ALIVE_MS,
    )
    return row.first() is not None


def is_any_running(tx: Tx) -> bool:
    """Return whether any replica is alive."""
    look = "SELECT 1 FROM replicas WHERE seen_at >= :since LIMIT 1"
    return tx.run(look, since=tx.now - ALIVE_MS).first() is not None


def at_work(tx: Tx) -> bool:
    """Return whether any replica is alive, or left unfinished work with an unexpired lease."""
    return bool(tx.run(_AT_WORK, since=tx.now - ALIVE_MS, now=tx.now).scalar())


def try_lock_claims(tx: Tx) -> bool:
    """Return whether no other replica claims during this transaction: all share one limit."""
    return bool(tx.run("SELECT pg_try_advisory_xact_lock(hashtext('receiver claim'))").scalar())


def leave(tx: Tx, owner: str) -> None:
    """Record that this replica has stopped: the others may take its share at once."""
    tx.run("DELETE FROM replicas WHERE owner = :owner", owner=owner)


def working_now(tx: Tx) -> int:
    """Return how many registrations are claimed by replicas that are alive.

    Those of a dead replica wait until their lease expires; counting them would keep all others
    idle until then.
    """
    return int(tx.run(_IN_PROGRESS, since=tx.now - ALIVE_MS).scalar_one())


@asynccontextmanager
async def replica_lock(engine: Engine, name: str) -> AsyncIterator[bool]:
    """Yield whether the turn is ours; of replicas the first to ask has it, until done or dead.

    Raises LedgerError if it was lost meanwhile: then another replica may have it.
    """
    connection = await _taken(engine, name)
    if connection is None:
        yield False
        return
    turn = _ReplicaLock(connection, asyncio.current_task())
    try:
        try:
            yield True
        finally:
            await turn.end()
    except asyncio.CancelledError:
        if turn.lost_alone():
            raise LedgerError(f"the turn to do the {name} was lost: another may have it") from None
        raise


async def _taken(engine: Engine, name: str) -> Connection | None:
    """Take the turn in a thread; a task that is cancelled meanwhile gives it back."""
    taking = asyncio.ensure_future(asyncio.to_thread(_take, engine, name))
    try:
        return await asyncio.shield(taking)
    except asyncio.CancelledError:
        with suppress(LedgerError):
            connection = await taking
            if connection is not None:
                await asyncio.to_thread(_give_back, connection)
        raise


class _ReplicaLock:
    """A turn that we have: it is shown to be alive until it ends; lost, the task is cancelled."""

    def __init__(self, connection: Connection, task: asyncio.Task[object] | None) -> None:
        self._connection = connection
        self._using = threading.Lock()  # a cancelled task leaves a thread behind
        self._over = asyncio.Event()
        self._task = task
        self._cancelled_before = task.cancelling() if task is not None else 0
        self._lost = False
        self._showing = asyncio.create_task(self._show())

    async def end(self) -> None:
        """Let others have it."""
        self._over.set()
        try:
            await self._showing
        finally:
            await asyncio.to_thread(self._give_back)

    def _give_back(self) -> None:
        with self._using:
            _give_back(self._connection)

    def _is_held(self) -> bool:
        with self._using:
            try:
                self._connection.exec_driver_sql("SELECT 1")
                self._connection.commit()
            except SQLAlchemyError:
                return False
            return True

    def lost_alone(self) -> bool:
        """Return whether the task was cancelled for the lost turn, and for nothing else."""
        if not self._lost or self._task is None:
            return False
        return self._task.uncancel() <= self._cancelled_before

    async def _show(self) -> None:
        while not self._over.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(SHOWN_SECONDS):
                    await self._over.wait()
                return
            if not await asyncio.to_thread(self._is_held) and not self._over.is_set():
                self._lost = True
                if self._task is not None:
                    self._task.cancel()
                return


def _take(engine: Engine, name: str) -> Connection | None:
    connection: Connection | None = None
    taken = False
    try:
        connection = engine.connect()
        connection.exec_driver_sql(_ENDED_WHEN_IDLE, {"idle": str(IDLE_MS)})
        found = connection.exec_driver_sql(_TAKE, {"name": f"receiver {name}"})
        taken = bool(found.scalar())
        connection.commit()
    except SQLAlchemyError as error:
        taken = False
        raise LedgerError(f"the ledger cannot be read: {describe_error(error)}") from None
    finally:
        if connection is not None and not taken:
            _close(connection)
    return connection if taken else None


def _give_back(connection: Connection) -> None:
    """Release the lock before the connection closes: the server notices an end only later."""
    with suppress(SQLAlchemyError):
        connection.exec_driver_sql("SELECT pg_advisory_unlock_all()")
    _close(connection)


def _close(connection: Connection) -> None:
    with suppress(SQLAlchemyError):  # it may be broken: then the lock is gone with it
        connection.close()

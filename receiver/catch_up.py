"""Catch-up: what Docker Hub has and no webhook told of goes through the same rules.

Before that, channels are compared with Edgegap.

Each repository has a cursor. A run lists the tags pushed since the cursor less an hour and takes
those the ledger does not know; the cursor moves to the run's start only when the run completed.

Replicas share the cursors: once in a period one of them lists a repository, and the others leave it
alone. What did not complete is for whoever comes next.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from receiver.background import Background, surviving
from receiver.dockerhub.fetching import Unavailable
from receiver.dockerhub.hub import Hub, seconds_to_wait, waiting_as_asked
from receiver.ledger.cursors import (
    Cursor,
    begin_cursors,
    move_cursor,
    note_problem,
    read_cursors,
)
from receiver.ledger.ledger import Ledger
from receiver.logs import get_logger
from receiver.missed import (
    Found,
    Missed,
    login_for,
    not_known,
    pushed_since,
    take_all,
    tell_caught_up,
)
from receiver.settings import Current, Settings

LONGEST_WAIT_SECONDS = 3600.0
SHORTEST_WAIT_SECONDS = 5.0  # where Docker Hub asks to wait
ONE_START_MS = 60_000  # replicas that begin or reload within it are one start: the first lists
ANOTHERS_TURN_SECONDS = 60.0  # then it is seen whether the replica that was at it completed

wait_for = asyncio.sleep

log = get_logger()


class CatchUp:
    """Runs at the start, after each reload, and every so often; one repository after another."""

    def __init__(
        self,
        ledger: Ledger,
        current: Current,
        hub: Hub,
        wake: Callable[[], None],
        *,
        compare: Callable[[int], Awaitable[None]],
    ) -> None:
        self._ledger = ledger
        self._current = current
        self._hub = hub
        self._wake = wake
        self._compare = compare
        self._background = Background(self._once, every=self._every, fault="catch_up_fault")
        self._asked = False
        self._up_since: int | None = None

    async def start(self) -> None:
        """Begin the cursors of repositories seen for the first time, then run by itself."""
        self._up_since = await self._ledger.read(lambda tx: tx.now)
        await self.begin()
        self._background.start()

    async def begin(self) -> None:
        """Begin the cursors, without network, and run soon."""
        self._asked = True
        try:
            await self._begin_cursors()
        finally:  # the period may be another, whether the ledger can be written or not
            self._background.wake()

    async def _begin_cursors(self) -> None:
        repositories = [rule.repository for rule in self._current.settings.rules]
        await self._ledger.write(lambda tx: begin_cursors(tx, repositories))

    async def stop(self) -> None:
        """Stop; a run that has not completed leaves its cursor where it was."""
        await self._background.stop()

    def _every(self) -> float | None:
        every = self._current.settings.catch_up_every
        return None if every is None else every / 1000

    async def _once(self) -> float | None:
        every, asked = self._current.settings.catch_up_every, self._asked
        self._asked = False
        if every is None:
            return None
        async with self._ledger.alone("catch-up") as mine:
            if not mine:  # whoever is at it may end before it completes
                return min(ANOTHERS_TURN_SECONDS, every / 1000)
            await self._begin_cursors()  # a reload may have met a ledger that was away
            # Asked, it is after an outage; of all replicas, unless one has listed just now.
            lately = ONE_START_MS if self._ledger.shared else 0
            within = lately if asked else every
            with surviving("compare_fault"):
                await self._compare(within)
            return await self.run(within) or await self._till_due(every)

    async def run(self, within: int = 0) -> float:
        """Catch up once with every repository that no run has completed for within so long (ms).

        Returns 0, or the seconds to wait where Docker Hub asked for it: then nothing more was
        asked of it.
        """
        settings = self._current.settings
        for cursor, now in await self._cursors():
            if cursor.completed_within(within, now):
                continue
            wait = await self._one(settings, cursor, now)
            if wait is not None:
                return min(max(wait, SHORTEST_WAIT_SECONDS), LONGEST_WAIT_SECONDS)
        return 0.0

    async def _till_due(self, every: int) -> float:
        """Return the seconds until the first repository has not been run for `every` (ms)."""
        left = [(cursor.ran_at or 0) + every - now for cursor, now in await self._cursors()]
        seconds = max(min(left, default=every) / 1000, SHORTEST_WAIT_SECONDS)
        return min(seconds, every / 1000)

    async def _cursors(self) -> list[tuple[Cursor, int]]:
        """Return the cursors of the repositories wanted, and the time: longest not run first."""
        wanted = {rule.repository for rule in self._current.settings.rules}
        cursors, now = await self._ledger.read(lambda tx: (read_cursors(tx), tx.now))
        mine = [cursor for cursor in cursors if cursor.repository in wanted]
        return [(cursor, now) for cursor in sorted(mine, key=lambda cursor: cursor.ran_at or 0)]

    async def _one(self, settings: Settings, cursor: Cursor, began: int) -> float | None:
        """Catch up with one repository; return the seconds Docker Hub asked to wait, if it did.

        `began` is the ledger's time: of replicas, each one's own clock may be wrong.
        """
        repository = cursor.repository
        login = login_for(settings.rules, repository)
        found = pages = 0
        waiting = waiting_as_asked(wait_for, longest=LONGEST_WAIT_SECONDS)

        async def between_pages(error: Unavailable) -> bool:
            # A list begun again from its first page might never fit into the limit.
            return pages > 0 and await waiting(error)

        try:
            # What is older was purged from the ledger and would look like a missed push.
            since = max(cursor.looks_back_to, began - settings.keep)
            async for missed, _ in pushed_since(self._hub, repository, login, since, between_pages):
                pages += 1
                found += await self._take(settings, missed)
        except Unavailable as error:
            problem = str(error)
            await self._ledger.write(lambda tx: note_problem(tx, repository, problem))
            log.warning("catch_up_not_completed", repository=repository, why=problem)
            return seconds_to_wait(error)
        await self._ledger.write(lambda tx: move_cursor(tx, repository, began))
        log.info("catch_up_completed", repository=repository, found=found)
        return None

    async def _take(self, settings: Settings, missed: Sequence[Missed]) -> int:
        """Record a page's missed pushes; return how many there were.

        They are looked for beside the writer, which is for the door, and once more by it.
        """
        fresh = await self._ledger.read(lambda tx: not_known(tx, missed))
        if not fresh:
            return 0
        return len((await self.take(settings, fresh)).recorded)

    async def take(self, settings: Settings, missed: Sequence[Missed]) -> Found:
        """Record missed pushes, whoever found them, and let the worker work on them."""
        rules, notices, up_since = settings.rules, settings.notices, self._up_since
        found = await self._ledger.write(
            lambda tx: take_all(tx, rules, missed, notices, up_since=up_since)
        )
        tell_caught_up(found)
        if found.recorded:
            self._wake()
        return found

"""Catch-up: tags on Docker Hub that no webhook reported are processed by the same rules.

After each run, channels are compared with Edgegap: a ledger that was restored learns first which
pushes it has lost.

Each repository has a cursor. A run lists the tags pushed since one hour before the cursor and
records those that are not in the ledger. The cursor moves to the run's start only if the run
completes.

Replicas share the cursors: in each period only one replica lists a repository. If its run does not
complete, the next replica to run lists the repository.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from receiver import metrics
from receiver.config.settings import LiveSettings, Settings
from receiver.dockerhub.api import Hub, Waiting, seconds_to_wait, waiting_as_asked
from receiver.dockerhub.http import DockerHubUnavailable
from receiver.dockerhub.records import Tag
from receiver.dockerhub.webhook import Push
from receiver.images import Login
from receiver.ledger.cursors import (
    SILENT_AFTER,
    Cursor,
    begin_cursors,
    count_unreported,
    is_known,
    last_webhook,
    move_cursor,
    note_problem,
    read_cursors,
)
from receiver.ledger.deliveries import NOT_RECEIVED, NewDelivery, RecordedDelivery, record
from receiver.ledger.ledger import Ledger
from receiver.ledger.outbox import enqueue
from receiver.ledger.transaction import Tx
from receiver.logs import get_logger, log_operation, requested_by
from receiver.notifications.destinations import Notice, NotificationEvent, wanting
from receiver.periodic import PeriodicTask, log_errors
from receiver.pipeline.intake import CATCH_UP, count_delivery, notify_of_parked_at_once
from receiver.rules.rule import Rule, rule_on

log = get_logger()
MAX_WAIT_SECONDS = 3600.0
MIN_WAIT_SECONDS = 5.0  # if Docker Hub asks to wait
ONE_START_MS = 60_000  # if replicas start or reload within this time, only the first lists
ANOTHERS_TURN_SECONDS = 60.0  # then check whether the other replica's run completed

wait_for = asyncio.sleep


def credentials_for(rules: Sequence[Rule], repository: str) -> Login | None:
    """Return the login for listing a repository: that of its first rule with a login."""
    own = (rule.login for rule in rules if rule.repository == repository)
    return next((login for login in own if login is not None), None)


async def iter_pushes_since(
    hub: Hub,
    repository: str,
    login: Login | None,
    since: int,
    waiting: Waiting,
) -> AsyncIterator[tuple[list[Push], int]]:
    """Yield the tags pushed since then, one page at a time, with the total number of tags.

    Stops at the first page that was last updated before `since`, if the pages are sorted newest
    first. Tags without a time are skipped: they may be old. Raises DockerHubUnavailable.
    """
    newest_first = True
    before: int | None = None
    async for page in hub.pages(repository, login, waiting):
        times = [tag.updated_at for tag in page.tags if tag.updated_at is not None]
        for moment in times:
            newest_first = newest_first and (before is None or moment <= before)
            before = moment
        fresh = [tag for tag in page.tags if tag.pushed_at is not None and tag.pushed_at >= since]
        yield [_push(repository, tag) for tag in fresh], page.total
        if newest_first and times and times[0] < since:
            return


def not_known(tx: Tx, missed: Sequence[Push]) -> list[Push]:
    """Return the pushes that are not in the ledger, oldest first."""
    return [push for push in _by_age(missed) if not is_known(tx, push)]


class Found(msgspec.Struct, frozen=True):
    """The missed pushes that were recorded. `silent`: the fix, by repository without webhooks."""

    recorded: tuple[RecordedDelivery, ...]
    silent: Mapping[str, str]


def record_missed(
    tx: Tx,
    rules: Sequence[Rule],
    missed: Sequence[Push],
    notices: Sequence[Notice],
    *,
    up_since: int | None,
    by: str | None = None,
) -> Found:
    """Record the pushes that no webhook reported; pushes in the ledger are skipped.

    `up_since` is the time when the receiver started (epoch ms), None if none is running: a push
    that was missed while no receiver was running is not the webhook's fault. `by` is the person who
    asked for it, None if nobody did.
    """
    recorded: list[RecordedDelivery] = []
    unheard: dict[str, dict[str, Push]] = {}
    for push in _by_age(missed):
        if is_known(tx, push):  # checked for each push: a tag may be on two pages
            continue
        ruling = rule_on(push, rules)
        report = NewDelivery.of(push, CATCH_UP, received=NOT_RECEIVED, requested_by=by)
        new = record(tx, report, ruling)
        recorded.append(new)
        notify_of_parked_at_once(tx, notices, new)
        event, taken_by = NotificationEvent.CAUGHT_UP, {match.rule for match in ruling.matches}
        text = f"{push.repository}:{push.tag} was pushed, and no webhook reported it."
        enqueue(tx, wanting(notices, event, taken_by), event, text, about=new.delivery)
        if up_since is not None and (push.pushed_at or 0) >= up_since:
            unheard.setdefault(push.repository, {})[new.delivery] = push
    silent = {
        repository: sentence
        for repository, pushes in unheard.items()
        if (sentence := _webhook_is_silent(tx, rules, repository, pushes, notices)) is not None
    }
    return Found(tuple(recorded), silent)


def _webhook_is_silent(
    tx: Tx,
    rules: Sequence[Rule],
    repository: str,
    missed: Mapping[str, Push],
    notices: Sequence[Notice],
) -> str | None:
    """Return the fix if these pushes, by delivery, show that no webhook arrives, otherwise None.

    The fix is also sent as a notification. All tags of one image are one push.
    """
    pushes = {push.digest or push.tag for push in missed.values()}
    if not count_unreported(tx, repository, len(pushes)):
        return None
    sentence = (
        f"{repository}: catch-up found the last {SILENT_AFTER} pushes or more; no webhook reported "
        "them. Check the repository's Webhooks tab on Docker Hub: its history shows failures, and "
        f"`receiver link {repository}` prints the URL that belongs there."
    )
    own = [rule.name for rule in rules if rule.repository == repository]
    event = NotificationEvent.WEBHOOK_SILENT
    about = last_webhook(tx, repository) or max(missed)
    enqueue(tx, wanting(notices, event, own), event, sentence, about=about)
    return sentence


def report_missed(found: Found, source: str | None = None) -> None:
    """Log and count each delivery that was caught up, and log that no webhook arrives.

    `source` is `api` or `command` if a person asked for it.
    """
    for one in found.recorded:
        count_delivery(CATCH_UP, one.ruling)
        facts: dict[str, Any] = {
            "delivery": one.delivery,
            "verdict": one.ruling.verdict,
            "reason": one.ruling.reason,
            "registrations": list(one.registrations),
        }
        if source is None:
            log.info("delivery_caught_up", **facts)
        else:
            log_operation("delivery_caught_up", source=source, **facts)
    metrics.catch_up_found.inc(len(found.recorded))
    for repository, sentence in found.silent.items():
        log.warning("webhook_silent", repository=repository, sentence=sentence)


def _push(repository: str, tag: Tag) -> Push:
    return Push(
        repository,
        tag.tag,
        media_type=tag.media_type,
        pushed_at=tag.pushed_at,
        digest=tag.digest,
    )


def _by_age(missed: Sequence[Push]) -> list[Push]:
    return sorted(missed, key=lambda push: push.pushed_at or 0)


class CatchUp:
    """Runs at start, after each reload, and periodically; lists one repository at a time."""

    def __init__(
        self,
        ledger: Ledger,
        current: LiveSettings,
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
        self._background = PeriodicTask(self._once, every=self._every, fault="catch_up_fault")
        self._asked = False
        self._up_since: int | None = None

    async def start(self) -> None:
        """Create the cursors of new repositories, then run in the background."""
        self._up_since = await self._ledger.read(lambda tx: tx.now)
        await self.begin()
        self._background.start()

    async def begin(self) -> None:
        """Create the missing cursors, without network access, and run soon."""
        self._asked = True
        try:
            await self._begin_cursors()
        finally:  # the period may have changed, even if the ledger cannot be written
            self._background.wake()

    async def _begin_cursors(self) -> None:
        repositories = [rule.repository for rule in self._current.settings.rules]
        await self._ledger.write(lambda tx: begin_cursors(tx, repositories))

    async def stop(self) -> None:
        """Stop; a run that has not completed does not move its cursor."""
        await self._background.stop()

    def _every(self) -> float | None:
        every = self._current.settings.catch_up_every
        return None if every is None else every / 1000

    async def _once(self) -> float | None:
        every, asked = self._current.settings.catch_up_every, self._asked
        self._asked = False
        if every is None:
            return None
        async with self._ledger.try_lock("catch-up") as mine:
            if not mine:  # the other replica may stop before its run completes
                return min(ANOTHERS_TURN_SECONDS, every / 1000)
            await self._begin_cursors()  # the ledger may have been unavailable at a reload
            # A requested run lists all repositories, unless another replica has just listed them.
            lately = ONE_START_MS if self._ledger.shared else 0
            within = lately if asked else every
            wait = await self.run(within)
            with log_errors("compare_fault"):
                await self._compare(within)
            return wait or await self._seconds_until_due(every)

    async def run(self, within: int = 0) -> float:
        """Catch up once with every repository without a completed run in the last `within` ms.

        Returns 0, or the seconds to wait if Docker Hub asked to wait: the remaining repositories
        were then not listed.
        """
        settings = self._current.settings
        for cursor, now in await self._cursors():
            if cursor.completed_within(within, now):
                continue
            wait = await self._one(settings, cursor, now)
            if wait is not None:
                return min(max(wait, MIN_WAIT_SECONDS), MAX_WAIT_SECONDS)
        return 0.0

    async def _seconds_until_due(self, every: int) -> float:
        """Return the seconds until the last run of some repository is `every` ms ago."""
        left = [(cursor.ran_at or 0) + every - now for cursor, now in await self._cursors()]
        seconds = max(min(left, default=every) / 1000, MIN_WAIT_SECONDS)
        return min(seconds, every / 1000)

    async def _cursors(self) -> list[tuple[Cursor, int]]:
        """Return the cursors of the rules' repositories, oldest run first, each with the time."""
        wanted = {rule.repository for rule in self._current.settings.rules}
        cursors, now = await self._ledger.read(lambda tx: (read_cursors(tx), tx.now))
        mine = [cursor for cursor in cursors if cursor.repository in wanted]
        return [(cursor, now) for cursor in sorted(mine, key=lambda cursor: cursor.ran_at or 0)]

    async def _one(self, settings: Settings, cursor: Cursor, began: int) -> float | None:
        """Catch up with one repository; return the seconds to wait if Docker Hub asked to wait.

        `began` is the ledger's time, because the clocks of replicas may differ.
        """
        repository = cursor.repository
        login = credentials_for(settings.rules, repository)
        found = pages = 0
        waiting = waiting_as_asked(wait_for, longest=MAX_WAIT_SECONDS)

        async def between_pages(error: DockerHubUnavailable) -> bool:
            # If each wait restarted the list at its first page, the list might never complete.
            return pages > 0 and await waiting(error)

        try:
            # Older pushes were purged from the ledger and would look like missed pushes.
            since = max(cursor.looks_back_to, began - settings.keep)
            async for missed, _ in iter_pushes_since(
                self._hub, repository, login, since, between_pages
            ):
                pages += 1
                found += await self._take(settings, missed)
        except DockerHubUnavailable as error:
            problem = str(error)
            await self._ledger.write(lambda tx: note_problem(tx, repository, problem))
            log.warning("catch_up_not_completed", repository=repository, why=problem)
            return seconds_to_wait(error)
        await self._ledger.write(lambda tx: move_cursor(tx, repository, began))
        log.info("catch_up_completed", repository=repository, missed_pushes=found)
        return None

    async def _take(self, settings: Settings, missed: Sequence[Push]) -> int:
        """Record a page's missed pushes; return how many there were.

        The ledger is searched on a reader first, to keep the writer free for webhooks; the writer
        checks each push again.
        """
        fresh = await self._ledger.read(lambda tx: not_known(tx, missed))
        if not fresh:
            return 0
        return len((await self.take(settings, fresh)).recorded)

    async def take(
        self, settings: Settings, missed: Sequence[Push], *, source: str | None = None
    ) -> Found:
        """Record missed pushes, and wake the worker; `source` is a person's, None for our own."""
        rules, notices, up_since = settings.rules, settings.notices, self._up_since
        by = None if source is None else requested_by(source)
        found = await self._ledger.write(
            lambda tx: record_missed(tx, rules, missed, notices, up_since=up_since, by=by)
        )
        report_missed(found, source)
        if found.recorded:
            self._wake()
        return found

"""Edgegap's list of each app's versions, read in the background: no page waits for Edgegap."""

import asyncio
import time
from collections.abc import Sequence

import msgspec

from receiver.edgegap.listing import partly_listed
from receiver.edgegap.responses import Body
from receiver.images import ImageReference
from receiver.ledger.channels import channel_images
from receiver.periodic import log_errors
from receiver.pipeline.prune import (
    rules_for_app,
    why_refused,
)
from receiver.pipeline.retry import Operation
from receiver.service import Service
from receiver.timestamps import Time

FRESH_SECONDS = 15.0
PAGE_WAITS_SECONDS = 0.1  # a list that arrives within this time is on the page at once
MOST_APPS = 100


class VersionList(msgspec.Struct, frozen=True):
    """An app's versions at Edgegap. `listed_at`: when they were listed, None if never.

    `problem`: why the last request failed. `channels`: each channel's image in the ledger before
    the request. `changes`: how often we had changed something at Edgegap before it.
    """

    rows: Sequence[Body] = ()
    listed_at: Time | None = None
    problem: str = ""
    channels: dict[str, ImageReference] = msgspec.field(default_factory=dict)
    asked_at: float = 0.0
    changes: int = -1


class VersionLists:
    """A cache of the lists, by app; at most one request for each app at a time."""

    def __init__(self) -> None:
        self.wanted = False  # the overview shows them, too
        self.revision = 0  # grows with each change of a list
        self._lists: dict[str, VersionList] = {}
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._changes = 0

    def expire(self) -> None:
        """List the versions again next time: we changed something at Edgegap."""
        self._changes += 1

    async def stop(self) -> None:
        """Cancel all requests."""
        asking = list(self._asking.values())
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)

    async def fresh(self, service: Service, app: str) -> VersionList:
        """Return the current list; waits for Edgegap if the cached one is old."""
        for _ in range(2):  # the first may have begun before our last change
            if (task := self._refresh(service, app)) is not None:
                await asyncio.shield(task)
        return self.known(app)

    async def refresh(self, service: Service, apps: Sequence[str]) -> None:
        """Start to read the old lists, and wait a moment for those that arrive at once."""
        tasks = [task for app in apps if (task := self._refresh(service, app)) is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=PAGE_WAITS_SECONDS)

    def known(self, app: str) -> VersionList:
        """Return the list as it was last read."""
        return self._lists.get(app, VersionList())

    def _refresh(self, service: Service, app: str) -> asyncio.Task[None] | None:
        """Return the request for a list that is old, and start it if there is none."""
        asking = self._asking.get(app)
        if asking is None and not self._is_fresh(app):
            asking = self._asking[app] = asyncio.create_task(self._ask(service, app))
            asking.add_done_callback(lambda _: self._asking.pop(app, None))
        return asking

    def _is_fresh(self, app: str) -> bool:
        known = self.known(app)
        is_recent = time.monotonic() - known.asked_at < FRESH_SECONDS
        return is_recent and known.changes == self._changes

    async def _ask(self, service: Service, app: str) -> None:
        with log_errors("version_list_fault", app=app):
            changes = self._changes
            channels = await service.ledger.read(lambda tx: channel_images(tx, app))
            before, now = self.known(app), await service.ledger.read(lambda tx: tx.now)
            listing = await service.client.versions(app)
            answer, problem = listing.answer, ""
            rows: Sequence[Body] = listing.rows
            listed_at: Time | None = Time(now)
            if answer.ok and not listing.complete:
                problem = partly_listed(listing).capitalize() + "."
            elif not answer.ok:
                rules = ", ".join(rule.name for rule in rules_for_app(service.settings, app))
                facts = {"app": app, "rule": rules}
                _, problem = await why_refused(service.client, Operation.LIST, answer, **facts)
                rows, listed_at, channels = before.rows, before.listed_at, before.channels
            if len(self._lists) >= MOST_APPS:
                self._lists.clear()
            asked_at = time.monotonic()
            self._lists[app] = VersionList(rows, listed_at, problem, channels, asked_at, changes)
            self.revision += 1

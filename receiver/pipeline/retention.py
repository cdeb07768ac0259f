"""Retention: old versions are deleted after a success, and when Edgegap's limit is reached."""

import asyncio
import random
import re
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial

from msgspec.structs import replace

from receiver.config.settings import LiveSettings
from receiver.edgegap.client import EdgegapClient
from receiver.edgegap.responses import Answer, version_path
from receiver.ledger.claims import Claimed
from receiver.ledger.ledger import Ledger
from receiver.ledger.results import Result
from receiver.ledger.targets import are_all_later
from receiver.periodic import log_errors
from receiver.pipeline.prune import (
    MAX_BATCH,
    NO_ANSWER,
    Pruned,
    RetentionBusy,
    RetryLater,
    Scope,
    keep_count,
    prune,
    respected,
    settle_overdue,
)
from receiver.pipeline.retry import AGAIN, Action, Operation, next_result, policy_for, summary_of
from receiver.reasons import Outcome, Reason, State, explain

_LIMIT = re.compile(r"limit of (\d{1,6})", re.IGNORECASE)

ALL_LATER = (
    "Edgegap's version limit of the app {app} is reached, and all versions there are of later "
    "pushes: they stay. To create this one, delete a version in Edgegap and replay."
)
NOT_ALL_LISTED = "the list of the app's versions ends before its last one"


class Retention:
    """Deletes old versions after a success, and makes room when Edgegap's limit is reached.

    `wake` is called when a version's target is free again.
    """

    def __init__(
        self, ledger: Ledger, current: LiveSettings, client: EdgegapClient, wake: Callable[[], None]
    ) -> None:
        self._ledger = ledger
        self._current = current
        self._client = client
        self._wake = wake
        self._one_at_a_time = asyncio.Lock()
        self._waiting: set[str] = set()
        self._settling = False
        self.under_way: set[asyncio.Task[None]] = set()

    def begin(self, app: str) -> None:
        """Delete old versions of the app in the background: the work does not wait for this."""
        if keep_count(self._current.settings, app) is None or app in self._waiting:
            return
        self._waiting.add(app)
        self._start(self._prune(app))

    def settle_overdue(self) -> None:
        """Check in the background deletions that have no recorded response."""
        if not self._settling:
            self._settling = True
            self._start(self._settle_overdue())

    async def make_room(self, claimed: Claimed, result: Result) -> Result:
        """Delete the oldest version if Edgegap's limit is reached and the rule allows it.

        Returns the attempt as due now if a version was deleted, as waiting if Edgegap may not be
        called now, as superseded if only versions of later pushes could be deleted for it, else
        unchanged. For an older push that a person requested, nothing is deleted.
        """
        settings = self._current.settings
        rule = settings.rule_named(claimed.rule)
        limited = result.reason is Reason.VERSION_LIMIT
        if rule is None or not rule.make_room or not limited or claimed.by_hand:
            return result
        pruned: list[Pruned] = []
        with log_errors("retention_fault", app=claimed.app), suppress(RetentionBusy):
            try:
                pruned = await self._make_room(claimed, result.sentence)
            except RetryLater as later:
                return _later(claimed, result, later, await self._ledger.read(lambda tx: tx.now))
        gone = next((one for one in reversed(pruned) if one.deleted), None)
        if gone is not None:
            return _going_on(result, gone)
        app, pushed_at = claimed.app, claimed.push_time
        if not pruned and await self._ledger.read(partial(are_all_later, app=app, than=pushed_at)):
            superseded = Result.done(Outcome.SUPERSEDED, ALL_LATER.format(app=app))
            return result.ending_as(superseded)
        return result

    async def _make_room(self, claimed: Claimed, sentence: str) -> list[Pruned]:
        """Delete one version if that is enough. Raises RetryLater if it must be retried later."""
        if not await self._one_is_enough(claimed, sentence):
            return []
        why = f"room for {claimed.version} at Edgegap's version limit"
        scope = Scope(claimed.app, most=1, keep=1, pushed_by=claimed.push_time, why=why)
        pruned = await prune(self._ledger, self._client, self._current, scope)
        if any(one.why == NO_ANSWER for one in pruned):
            raise RetryLater(AGAIN, detail=NO_ANSWER)
        unsure = next((one for one in pruned if one.unsure), None)
        if unsure is not None and not any(one.deleted for one in pruned):
            raise RetryLater(AGAIN, detail=f"{unsure.version} is kept: {unsure.why}")
        return pruned

    async def _one_is_enough(self, claimed: Claimed, sentence: str) -> bool:
        """Return whether deleting one version gets below the limit that Edgegap named.

        If a version was deleted before, only if another push used that room: the app is full again.
        Raises RetryLater if Edgegap does not respond now.
        """
        limit = _LIMIT.search(sentence)
        if limit is None:
            return not claimed.deleted_for_room
        listing = await self._client.versions(claimed.app)
        answer = await respected(self._ledger, listing.answer)
        policy = policy_for(Operation.LIST, answer)
        if policy.then is Action.RETRY:
            raise RetryLater(policy, answer.retry_after, summary_of(answer))
        if answer.ok and not listing.complete:
            raise RetryLater(AGAIN, detail=NOT_ALL_LISTED)
        over = len(listing.rows) - int(limit[1])
        return listing.complete and (over == 0 if claimed.deleted_for_room else over <= 0)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)

    async def _prune(self, app: str) -> None:
        async with self._one_at_a_time:
            self._waiting.discard(app)  # versions created from now on are for the next run
            with log_errors("retention_fault", app=app), suppress(RetentionBusy):
                scope = Scope(app, most=MAX_BATCH)
                await prune(self._ledger, self._client, self._current, scope)
        self._wake()

    async def _settle_overdue(self) -> None:
        try:
            with log_errors("retention_fault"), suppress(RetentionBusy):
                await settle_overdue(self._ledger, self._client, self._current.settings)
        finally:
            self._settling = False
        self._wake()


def _going_on(result: Result, gone: Pruned) -> Result:
    """Try again now: a version was deleted."""
    reason = Reason.MAKING_ROOM
    waiting = Result.waiting(reason, explain(reason, detail=gone.version), 0, result.waited)
    deletion = Answer("DELETE", version_path(gone.app, gone.version), 200, message=gone.why)
    return replace(result.ending_as(waiting), calls=(*result.calls, deletion))


def _later(claimed: Claimed, result: Result, later: RetryLater, now: int) -> Result:
    """Retry when Edgegap may be called again: this does not count as a deleted version."""
    found = next_result(
        later.policy,
        waited=claimed.waited,
        detail=later.detail,
        retry_after=later.wait,
        facts=claimed.names,
        now=now,
        jitter=random.random(),  # noqa: S311 - spreads retries, hides nothing
    )
    return result.ending_as(found) if found.state is State.WAITING else result

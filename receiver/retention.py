"""Retention: old versions go after a success, and room is made where Edgegap's limit is met."""

import asyncio
import random
import re
from contextlib import suppress
from dataclasses import replace

from receiver.background import surviving
from receiver.edgegap.answers import Answer, version_path
from receiver.edgegap.client import EdgegapClient
from receiver.explanations import explain
from receiver.ledger.ledger import Ledger
from receiver.ledger.registrations import Claimed
from receiver.reasons import Reason, State
from receiver.retiring import HeldBack, NotItsTurn, Retired, heeded, kept_by, retire
from receiver.retry import Call, Then, Wait, detail_of, row_for, wait_or_park
from receiver.settings import Current
from receiver.settling import Tried

_LIMIT = re.compile(r"limit of (\d{1,6})", re.IGNORECASE)
MOST_AT_ONCE = 20


class Retention:
    """Lets old versions go after a success, and makes room where the limit is met."""

    def __init__(self, ledger: Ledger, current: Current, client: EdgegapClient) -> None:
        self._ledger = ledger
        self._current = current
        self._client = client
        self._one_at_a_time = asyncio.Lock()
        self._waiting: set[str] = set()
        self.under_way: set[asyncio.Task[None]] = set()

    def begin(self, app: str) -> None:
        """Let old versions of the app go, beside the work: it must not wait for this."""
        if kept_by(self._current.settings, app) is None or app in self._waiting:
            return
        self._waiting.add(app)
        task = asyncio.create_task(self._retire(app))
        self.under_way.add(task)
        task.add_done_callback(self.under_way.discard)

    async def make_room(self, claimed: Claimed, tried: Tried) -> Tried:
        """Retire the oldest version where Edgegap's limit is met and the rule allows it, once.

        Returns the attempt as going on when room was made, as waiting where Edgegap may not be
        called now, else as it was.
        """
        settings = self._current.settings
        rule = settings.rule_named(claimed.rule)
        limited = tried.settlement.reason is Reason.VERSION_LIMIT
        if rule is None or not rule.make_room or not limited or claimed.retired:
            return tried
        went: list[Retired] = []
        with surviving("retention_fault", app=claimed.app), suppress(NotItsTurn):
            try:
                if await self._one_is_enough(claimed.app, tried.settlement.sentence):
                    went = await retire(
                        self._ledger, self._client, settings, claimed.app,
                        keep=1, most=1, pushed_by=claimed.push_time,
                    )  # fmt: skip
            except HeldBack as held:
                return _later(claimed, tried, held, await self._ledger.read(lambda tx: tx.now))
        gone = next((one for one in reversed(went) if one.retired), None)
        return tried if gone is None else _going_on(tried, gone)

    async def _one_is_enough(self, app: str, sentence: str) -> bool:
        """Tell whether retiring one version gets below the limit that Edgegap named.

        Raises HeldBack where Edgegap cannot tell now.
        """
        limit = _LIMIT.search(sentence)
        if limit is None:
            return True
        listing = await self._client.versions(app)
        answer = await heeded(self._ledger, listing.answer)
        row = row_for(Call.LIST, answer)
        if row.then is Then.RETRY:
            raise HeldBack(row, answer.retry_after, detail_of(answer))
        return listing.complete and len(listing.rows) <= int(limit[1])

    async def _retire(self, app: str) -> None:
        async with self._one_at_a_time:
            self._waiting.discard(app)  # what is made from now on is for the next turn
            with surviving("retention_fault", app=app), suppress(NotItsTurn):
                settings, most = self._current.settings, MOST_AT_ONCE
                await retire(self._ledger, self._client, settings, app, keep=None, most=most)


def _going_on(tried: Tried, gone: Retired) -> Tried:
    path = version_path(gone.app, gone.version)
    settlement = replace(
        tried.settlement,
        state=State.WAITING,
        reason=Reason.MAKING_ROOM,
        sentence=explain(Reason.MAKING_ROOM, detail=gone.version),
        due_at=0,
        calls=(*tried.settlement.calls, Answer("DELETE", path, 200, message=gone.why)),
    )
    return Tried(settlement)


def _later(claimed: Claimed, tried: Tried, held: HeldBack, now: int) -> Tried:
    """Try the whole again when Edgegap may be called: the room is not used up by that."""
    found = wait_or_park(
        held.row,
        waited=claimed.waited,
        detail=held.detail,
        retry_after=held.wait,
        facts={"app": claimed.app, "version": claimed.version, "rule": claimed.rule},
        now=now,
        jitter=random.random(),  # noqa: S311 - spreads retries, hides nothing
    )
    if not isinstance(found, Wait):
        return tried
    settlement = replace(
        tried.settlement,
        state=State.WAITING,
        reason=found.reason,
        sentence=found.sentence,
        due_at=found.due_at,
        waited=found.waited,
    )
    return Tried(settlement)

"""What one attempt asks of Edgegap, noted call by call, and what is done where it says no."""

from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from http import HTTPStatus
from typing import Any

from receiver.edgegap.answers import Answer, Body, version_path
from receiver.edgegap.client import EdgegapClient
from receiver.edgegap.versions import LOGIN_VARIABLES, Parking
from receiver.explanations import explain
from receiver.ledger.registrations import Claimed
from receiver.reasons import Reason
from receiver.retry import (
    Call,
    Row,
    Then,
    after_probe,
    detail_of,
    row_for,
    wait_or_park,
)
from receiver.rules import Rule
from receiver.settling import Tried, gate_of, parked_as, waiting

Sent = Callable[[int, str, str], Awaitable[None]]


class Asking:
    """The calls of one attempt; each write is noted on disk before it goes out, by `sent`."""

    def __init__(
        self,
        claimed: Claimed,
        client: EdgegapClient,
        *,
        sent: Sent,
        now: Callable[[], int],
        jitter: Callable[[], float],
    ) -> None:
        self._claimed = claimed
        self._client = client
        self._sent = sent
        self._now = now
        self._jitter = jitter
        self._calls: list[Answer] = []

    @property
    def calls(self) -> tuple[Answer, ...]:
        """What was asked and answered so far, in order."""
        return tuple(self._calls)

    def note(self, calls: Iterable[Answer]) -> None:
        """Note what others asked for this attempt."""
        self._calls += calls

    async def look(self) -> Answer:
        """GET the version that the registration names."""
        return self._noted(await self._client.look(self._claimed.app, self._claimed.version))

    async def create(self, body: Body) -> Answer:
        """POST it."""
        app = self._claimed.app
        return await self._write("POST", version_path(app), partial(self._client.create, app, body))

    async def update(self, body: Body) -> Answer:
        """PATCH it."""
        app, version = self._claimed.app, self._claimed.version
        call = partial(self._client.update, app, version, body)
        return await self._write("PATCH", version_path(app, version), call)

    async def _write(self, method: str, path: str, call: Callable[[], Awaitable[Answer]]) -> Answer:
        await self._sent(len(self._calls), method, path)
        return self._noted(await call())

    async def not_now(self, rule: Rule, row: Row, answer: Answer) -> Tried:
        """Wait or park, as the table's row says of this answer.

        Before a 403 closes the gate for all, the token is tried: an app that it may not touch must
        not stop the others.
        """
        if row.then is Then.CLOSE_GATE and answer.status == HTTPStatus.FORBIDDEN:
            row, answer = after_probe(answer, self._noted(await self._client.probe()))
        found = wait_or_park(
            row,
            waited=self._claimed.waited,
            detail=detail_of(answer),
            retry_after=answer.retry_after,
            facts=self.facts(rule),
            now=self._now(),
            jitter=self._jitter(),
        )
        if isinstance(found, Parking):
            return parked_as(found)
        return Tried(waiting(found), gate_of(row, found))

    def parked(self, reason: Reason, rule: Rule | None, detail: str = "") -> Tried:
        """Park for the reason, with its sentence."""
        return parked_as(Parking(reason, explain(reason, detail=detail, **self.facts(rule))))

    def facts(self, rule: Rule | None) -> dict[str, Any]:
        """Return what the sentences of this registration may name."""
        claimed = self._claimed
        return {
            "app": claimed.app,
            "version": claimed.version,
            "rule": claimed.rule,
            "image": str(claimed.image),
            "repository": claimed.image.repository,
            "copy_from": rule.copy_from if rule else "",
            "tag": claimed.image.tag,
            "login": rule.login.variables if rule and rule.login else LOGIN_VARIABLES,
        }

    def _noted(self, answer: Answer) -> Answer:
        self._calls.append(answer)
        return answer


async def why_refused(
    client: EdgegapClient, call: Call, answer: Answer, **facts: object
) -> tuple[Reason, str]:
    """Return what an answer that is not good means, as an attempt would tell it: for who looks on.

    After a 403 the token is tried.
    """
    row = row_for(call, answer)
    if row.then is Then.CLOSE_GATE and answer.status == HTTPStatus.FORBIDDEN:
        row, answer = after_probe(answer, await client.probe())
    reason = row.reason or Reason.REFUSED_BY_EDGEGAP
    return reason, explain(reason, detail=detail_of(answer), **facts)

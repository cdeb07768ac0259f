"""One attempt at one registration: look, plan, make or move the version, look again, decide.

Every attempt begins with a look, so that nothing is made twice whatever happened before.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Any

from receiver.edgegap.answers import Answer, Body, version_path
from receiver.edgegap.catalogue import NEWEST, Catalogue
from receiver.edgegap.client import EdgegapClient
from receiver.edgegap.versions import (
    Parking,
    Plan,
    Wanted,
    differences,
    image_of,
    plan_creation,
    plan_update,
    same_image,
)
from receiver.ledger.registrations import Claimed, Settlement, may_have_made
from receiver.reasons import Outcome, Reason, State, explain
from receiver.retry import Call, Row, Then, Wait, row_for, wait_or_park
from receiver.rules import Mode, Rule, match_of
from receiver.settings import Settings

MOST_CONFLICTS = 2

Sent = Callable[[int, str, str], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Gate:
    """All work must wait: until then (epoch ms), or, with None, until the token is good."""

    until: int | None
    sentence: str


@dataclass(frozen=True, slots=True)
class Tried:
    """What an attempt came to, and whether others must wait too."""

    settlement: Settlement
    gate: Gate | None = None


class Attempt:
    """One try of a claimed registration. `sent` makes a note on disk before each write call."""

    def __init__(
        self,
        claimed: Claimed,
        settings: Settings,
        client: EdgegapClient,
        catalogue: Catalogue,
        *,
        sent: Sent,
        now: Callable[[], int],
        jitter: Callable[[], float],
    ) -> None:
        self._claimed = claimed
        self._settings = settings
        self._client = client
        self._catalogue = catalogue
        self._sent = sent
        self._now = now
        self._jitter = jitter
        self._calls: list[Answer] = []
        self._notes: tuple[str, ...] = ()
        self._ours = claimed.ours
        self._moved = claimed.moved

    async def run(self) -> Tried:
        """Do what can be done now, and say what came of it."""
        tried = await self._run()
        settlement = replace(tried.settlement, calls=tuple(self._calls), notes=self._notes)
        return replace(tried, settlement=settlement)

    async def _run(self) -> Tried:
        claimed = self._claimed
        rule = self._settings.rule_named(claimed.rule)
        if rule is None or rule.repository != claimed.image.repository:
            return self._parked(Reason.RULE_GONE, rule)
        match = match_of(rule, claimed.image.tag)
        if (match.app, match.version) != (claimed.app, claimed.version):
            return self._parked(Reason.RULE_CHANGED, rule)
        if claimed.superseded:
            return _done(Outcome.SUPERSEDED, "A later push already moves this version.")
        look = await self._look()
        row = row_for(Call.LOOK, look)
        if row.then is Then.ABSENT:
            return await self._create(rule)
        if row.then is Then.GO_ON and look.body is not None:
            return await self._present(rule, look.body)
        return self._not_now(rule, row, look)

    async def _create(self, rule: Rule) -> Tried:
        claimed = self._claimed
        source = await self._catalogue.source(claimed.app, rule.copy_from)
        self._calls += source.calls
        if source.calls and not source.calls[-1].ok:
            if rule.copy_from != NEWEST and source.calls[-1].status == HTTPStatus.NOT_FOUND:
                return self._parked(Reason.COPY_FROM_MISSING, rule)
            return self._not_now(rule, row_for(Call.LIST, source.calls[-1]), source.calls[-1])
        plan = plan_creation(wanted_by(rule, claimed, self._settings), source.version)
        if isinstance(plan, Parking):
            return _parked_as(plan)
        self._notes = plan.notes
        answer = await self._write(
            "POST", version_path(claimed.app), self._client.create(claimed.app, plan.body)
        )
        row = row_for(Call.CREATE, answer)
        self._ours = self._ours or may_have_made(answer.status)
        if row.then is Then.GO_ON:
            return await self._check(rule, plan, Outcome.CREATED)
        if row.then is Then.TAKEN:
            return await self._taken(rule)
        if row.then is Then.RETRY:
            look = await self._look()
            if look.ok and look.body is not None and same_image(look.body, claimed.image):
                return self._held(look.body, Outcome.CREATED)
        return self._not_now(rule, row, answer)

    async def _taken(self, rule: Rule) -> Tried:
        """409: the name is taken, so look by whom."""
        look = await self._look()
        row = row_for(Call.LOOK, look)
        if row.then is Then.GO_ON and look.body is not None:
            return await self._present(rule, look.body)
        if row.then is not Then.ABSENT:
            return self._not_now(rule, row, look)
        if self._claimed.taken + 1 >= MOST_CONFLICTS:
            return self._parked(Reason.NAME_CONFLICT, rule)
        again = Row(Then.RETRY, Reason.EDGEGAP_ERROR)
        return self._not_now(rule, again, replace(look, message="409 and then 404"))

    async def _present(self, rule: Rule, body: Body) -> Tried:
        """Tell of a version that is there whether it is ours, to be moved, or another's."""
        claimed = self._claimed
        same = same_image(body, claimed.image)
        if claimed.mode is Mode.CREATE:
            if not same:
                return self._parked(Reason.NAME_TAKEN, rule, detail=image_of(body))
            return self._held(body, Outcome.CREATED if self._ours else Outcome.UNCHANGED)
        plan = plan_update(wanted_by(rule, claimed, self._settings), body)
        if isinstance(plan, Parking):
            return _parked_as(plan)
        self._notes = plan.notes
        if not plan.body:
            moved = Outcome.UPDATED if self._moved else Outcome.UNCHANGED
            return self._held(body, Outcome.CREATED if self._ours else moved)
        answer = await self._write(
            "PATCH",
            version_path(claimed.app, claimed.version),
            self._client.update(claimed.app, claimed.version, plan.body),
        )
        row = row_for(Call.UPDATE, answer)
        if row.then is Then.GO_ON:
            return await self._check(rule, plan, Outcome.UPDATED)
        return self._not_now(rule, row, answer)

    async def _check(self, rule: Rule, plan: Plan, outcome: Outcome) -> Tried:
        """Look at what Edgegap made of our request."""
        look = await self._look()
        if not look.ok or look.body is None:
            row = row_for(Call.LOOK, look)
            gone = Row(Then.RETRY, Reason.EDGEGAP_ERROR) if row.then is Then.ABSENT else row
            return self._not_now(rule, gone, look)
        if not same_image(look.body, self._claimed.image):
            return self._parked(Reason.STORED_OTHERWISE, rule, detail=image_of(look.body))
        self._notes += tuple(differences(plan.body, look.body))
        return self._held(look.body, outcome)

    async def _look(self) -> Answer:
        answer = await self._client.look(self._claimed.app, self._claimed.version)
        self._calls.append(answer)
        return answer

    async def _write(self, method: str, path: str, call: Awaitable[Answer]) -> Answer:
        try:
            await self._sent(len(self._calls), method, path)
        except BaseException:
            _forget(call)
            raise
        answer = await call
        self._calls.append(answer)
        return answer

    def _held(self, body: Body, outcome: Outcome) -> Tried:
        if outcome is Outcome.CREATED:
            self._catalogue.made(self._claimed.app, body)
        return _done(outcome)

    def _facts(self, rule: Rule | None) -> dict[str, Any]:
        claimed = self._claimed
        login = "DOCKERHUB_USERNAME and DOCKERHUB_TOKEN"
        return {
            "app": claimed.app,
            "version": claimed.version,
            "rule": claimed.rule,
            "image": str(claimed.image),
            "repository": claimed.image.repository,
            "copy_from": rule.copy_from if rule else "",
            "login": rule.login.variables if rule and rule.login else login,
        }

    def _parked(self, reason: Reason, rule: Rule | None, detail: str = "") -> Tried:
        return _parked_as(Parking(reason, explain(reason, detail=detail, **self._facts(rule))))

    def _not_now(self, rule: Rule, row: Row, answer: Answer) -> Tried:
        """Wait or park, as the table's row says of this answer."""
        status = f"HTTP {answer.status}: " if answer.status is not None else ""
        found = wait_or_park(
            row,
            waited=self._claimed.waited,
            detail=f"{status}{answer.message}" if answer.message != status[:-2] else status[:-2],
            retry_after=answer.retry_after,
            facts=self._facts(rule),
            now=self._now(),
            jitter=self._jitter(),
        )
        if isinstance(found, Parking):
            return _parked_as(found)
        return Tried(_waiting(found), _gate(row, found))


def wanted_by(rule: Rule, claimed: Claimed, settings: Settings) -> Wanted:
    """Return the version that the rule, as it is now, wants of a claimed registration."""
    return Wanted(
        app=claimed.app,
        version=claimed.version,
        rule=rule.name,
        image=claimed.image,
        copy_from=rule.copy_from,
        settings=rule.settings,
        username=rule.login.username if rule.login else None,
        token=rule.login.token if rule.login else None,
        api_token=settings.edgegap_token,
    )


def _gate(row: Row, wait: Wait) -> Gate | None:
    if row.then is Then.SLOW_DOWN:
        return Gate(wait.due_at, wait.sentence)
    if row.then is Then.CLOSE_GATE:
        return Gate(None, wait.sentence)
    return None


def _waiting(wait: Wait) -> Settlement:
    return Settlement(
        state=State.WAITING,
        reason=wait.reason,
        sentence=wait.sentence,
        due_at=wait.due_at,
        waited=wait.waited,
    )


def _done(outcome: Outcome, sentence: str = "") -> Tried:
    return Tried(Settlement(state=State.DONE, outcome=outcome, sentence=sentence))


def _parked_as(parking: Parking) -> Tried:
    return Tried(Settlement(state=State.PARKED, reason=parking.reason, sentence=parking.sentence))


def _forget(call: Awaitable[Answer]) -> None:
    """Close a call that is never made, so that Python does not warn of it."""
    close = getattr(call, "close", None)
    if close is not None:
        close()

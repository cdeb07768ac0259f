"""One attempt at one registration: look, plan, make or move the version, look again, decide.

Every attempt begins with a look, so that nothing is made twice whatever happened before.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Any

from receiver.edgegap.answers import Answer, Body, version_path
from receiver.edgegap.catalogue import NEWEST, Catalogue
from receiver.edgegap.client import EdgegapClient
from receiver.edgegap.versions import (
    Parking,
    Plan,
    differences,
    image_of,
    plan_creation,
    plan_update,
    same_image,
)
from receiver.ledger.registrations import Claimed, may_have_made
from receiver.preflight import Cleared, NotYet, Out, Preflight, Stopped
from receiver.reasons import Outcome, Reason, explain
from receiver.retry import Call, Row, Then, hold_back, row_for, wait_or_park
from receiver.rules import Mode, OnOverwrite, Rule, names_target
from receiver.settings import Settings
from receiver.settling import Tried, done, gate_of, parked_as, waiting
from receiver.wanting import wanted_by

Sent = Callable[[int, str, str], Awaitable[None]]


class Attempt:
    """One try of a claimed registration. `sent` makes a note on disk before each write call."""

    def __init__(
        self,
        claimed: Claimed,
        settings: Settings,
        client: EdgegapClient,
        catalogue: Catalogue,
        *,
        preflight: Preflight,
        sent: Sent,
        now: Callable[[], int],
        jitter: Callable[[], float],
    ) -> None:
        self._claimed = claimed
        self._settings = settings
        self._client = client
        self._catalogue = catalogue
        self._preflight = preflight
        self._sent = sent
        self._now = now
        self._jitter = jitter
        self._calls: list[Answer] = []
        self._notes: tuple[str, ...] = ()
        self._ours = claimed.ours
        self._moved = claimed.moved
        self._digest: str | None = None
        self._overwritten = False

    async def run(self) -> Tried:
        """Do what can be done now, and say what came of it."""
        tried = await self._run()
        settlement = replace(
            tried.settlement,
            calls=tuple(self._calls),
            notes=self._notes,
            digest=self._digest,
            overwritten=self._overwritten,
        )
        return replace(tried, settlement=settlement)

    async def _run(self) -> Tried:
        claimed = self._claimed
        rule = self._settings.rule_named(claimed.rule)
        if rule is None or rule.repository != claimed.image.repository:
            return self._parked(Reason.RULE_GONE, rule)
        if not names_target(rule, claimed.mode, claimed.image.tag, claimed.app, claimed.version):
            return self._parked(Reason.RULE_CHANGED, rule)
        if claimed.superseded:
            return done(Outcome.SUPERSEDED, "A later push already moves this version.")
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
            return parked_as(plan)
        stopped = await self._look_at_image(rule)
        if stopped is not None:
            return stopped
        self._notes += plan.notes
        answer = await self._write(
            "POST", version_path(claimed.app), partial(self._client.create, claimed.app, plan.body)
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
        if self._claimed.waited.reason is Reason.NAME_CONFLICT:
            return self._parked(Reason.NAME_CONFLICT, rule)
        again = Row(Then.RETRY, Reason.NAME_CONFLICT)
        return self._not_now(rule, again, replace(look, message="409 and then 404"))

    async def _present(self, rule: Rule, body: Body) -> Tried:
        """Tell of a version that is there whether it is ours, to be moved, or another's."""
        claimed = self._claimed
        same = same_image(body, claimed.image)
        if claimed.mode is Mode.CREATE:
            if not same:
                return self._parked(Reason.NAME_TAKEN, rule, detail=image_of(body))
            outcome = Outcome.CREATED if self._ours else Outcome.UNCHANGED
            return await self._already_there(rule, body, outcome)
        plan = plan_update(wanted_by(rule, claimed, self._settings), body)
        if isinstance(plan, Parking):
            return parked_as(plan)
        self._notes += plan.notes
        if not plan.body:
            moved = Outcome.UPDATED if self._moved else Outcome.UNCHANGED
            outcome = Outcome.CREATED if self._ours else moved
            return await self._already_there(rule, body, outcome)
        stopped = None if same else await self._look_at_image(rule)
        if stopped is not None:
            return stopped
        answer = await self._write(
            "PATCH",
            version_path(claimed.app, claimed.version),
            partial(self._client.update, claimed.app, claimed.version, plan.body),
        )
        row = row_for(Call.UPDATE, answer)
        if row.then is Then.GO_ON:
            return await self._check(rule, plan, Outcome.UPDATED)
        return self._not_now(rule, row, answer)

    async def _already_there(self, rule: Rule, body: Body, outcome: Outcome) -> Tried:
        """Tell of a tag that Edgegap has whether it is still the image it was."""
        if rule.preflight and self._digest is None:
            findings = await self._preflight.look(self._claimed.image, rule)
            self._calls += findings.calls
            if isinstance(findings, Cleared):
                self._digest = findings.digest
                self._notes += findings.notes
            else:
                self._notes += ("the image could not be looked at; Edgegap has the tag already",)
        stopped = self._overwritten_tag(rule)
        return stopped if stopped is not None else self._held(body, outcome)

    def _overwritten_tag(self, rule: Rule) -> Tried | None:
        """Note that the tag was pushed over since; park it where the rule says so.

        Edgegap's edge caches by tag, so it matters however the version stands now.
        """
        claimed, known = self._claimed, self._claimed.known_digest
        fresh = None not in {known, self._digest} and known != self._digest
        if not fresh and not claimed.overwritten:
            return None
        self._overwritten = True
        detail = f"{known} before, {self._digest} now" if fresh else "as found before"
        if rule.on_overwrite is OnOverwrite.PARK and not claimed.forgives(self._digest):
            return self._parked(Reason.TAG_OVERWRITTEN, rule, detail=detail)
        self._notes += (f"the tag was pushed over: {detail}; the edge may run the old image",)
        return None

    async def _look_at_image(self, rule: Rule) -> Tried | None:
        """Look at the image before it is registered; None when nothing stands against it."""
        if not rule.preflight:
            return None
        findings = await self._preflight.look(self._claimed.image, rule)
        self._calls += findings.calls
        match findings:
            case Cleared():
                self._digest = findings.digest
                self._notes += findings.notes
                return self._overwritten_tag(rule)
            case Stopped():
                self._digest = findings.digest
                return parked_as(findings.parking)
            case NotYet():
                row = Row(Then.WAIT_FOR_IMAGE, Reason.IMAGE_NOT_READY)
                return self._not_now(rule, row, findings.calls[-1])
            case Out():
                return self._held_back(rule, findings)

    def _held_back(self, rule: Rule, out: Out) -> Tried | None:
        facts = {**self._facts(rule), "detail": out.detail}
        wait = hold_back(
            Reason.DOCKER_HUB_UNAVAILABLE,
            waited=self._claimed.waited,
            longest=out.longest,
            lasted=out.lasted,
            asked=out.asked,
            sentence=explain(Reason.DOCKER_HUB_UNAVAILABLE, **facts),
            now=self._now(),
            jitter=self._jitter(),
        )
        if wait is not None:
            return Tried(waiting(wait))
        self._notes += (f"made without preflight: Docker Hub could not tell ({out.detail})",)
        return None

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

    async def _write(self, method: str, path: str, call: Callable[[], Awaitable[Answer]]) -> Answer:
        await self._sent(len(self._calls), method, path)
        answer = await call()
        self._calls.append(answer)
        return answer

    def _held(self, body: Body, outcome: Outcome) -> Tried:
        if outcome is Outcome.CREATED:
            self._catalogue.made(self._claimed.app, body)
        return done(outcome)

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
            "tag": claimed.image.tag,
            "login": rule.login.variables if rule and rule.login else login,
        }

    def _parked(self, reason: Reason, rule: Rule | None, detail: str = "") -> Tried:
        return parked_as(Parking(reason, explain(reason, detail=detail, **self._facts(rule))))

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
            return parked_as(found)
        return Tried(waiting(found), gate_of(row, found))

"""One attempt at one registration: GET, plan, create the version, GET again, decide.

Every attempt begins with a GET, so that no version is created twice, whatever happened before.
"""

import dataclasses
import random
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar

from msgspec.structs import replace

from receiver.config.settings import Settings
from receiver.edgegap.client import EdgegapClient
from receiver.edgegap.comparison import compare, differences
from receiver.edgegap.copied_settings import listed
from receiver.edgegap.deployment_answers import Meaning, Read
from receiver.edgegap.plans import (
    DesiredVersion,
    Plan,
    Rejected,
    image_of,
    is_disabled,
    plan_creation,
    same_image,
)
from receiver.edgegap.pull_profiles import (
    PullProfile,
    link,
    link_path,
    pull_profiles,
    read_pull_profile,
)
from receiver.edgegap.responses import Answer, Body, Effect, version_path
from receiver.edgegap.sent_settings import SentSettings, sent_settings
from receiver.edgegap.version_cache import NEWEST, Source, VersionCache
from receiver.images import size_note, variables_of
from receiver.ledger.claims import Claimed
from receiver.ledger.results import Result
from receiver.pipeline.attempt_ledger import AttemptLedger
from receiver.pipeline.preflight import (
    DockerHubOut,
    Findings,
    ImageOk,
    ImagePending,
    ImageRejected,
    Preflight,
    too_large,
)
from receiver.pipeline.retry import (
    AGAIN,
    NO_IMAGE,
    Action,
    Operation,
    Policy,
    next_result,
    policy_for,
    resolve_forbidden,
    summary_of,
    wait_at_most,
)
from receiver.reasons import Outcome, Reason, State, explain
from receiver.rules.rule import Mode, OnOverwrite, Rule, moving_versions, names_target

T = TypeVar("T")

NOT_AGAIN = (
    "{version} was deleted since ({why}), and this push was reported before: it is not created "
    "again. To create it, replay this delivery by its id."
)
DISABLED = "is disabled at Edgegap: no player can be sent there. Enable it in Edgegap's dashboard"


class Attempt:
    """One attempt at a claimed registration; `jitter` returns a random number from 0 to 1.

    `digest` is the image's, None if it is not known; `overwritten`: the tag was overwritten.
    """

    def __init__(
        self,
        claimed: Claimed,
        settings: Settings,
        client: EdgegapClient,
        catalogue: VersionCache,
        *,
        preflight: Preflight,
        ledger: AttemptLedger,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._claimed = claimed
        self._settings = settings
        self._client = client
        self._catalogue = catalogue
        self._preflight = preflight
        self._ledger = ledger
        self._jitter = jitter
        self._calls: tuple[Answer, ...] = ()
        self._notes: tuple[str, ...] = ()
        self._warnings: tuple[str, ...] = ()
        self._pullable = False
        self._ours = claimed.ours
        self._known_digest = claimed.known_digest
        self.digest: str | None = None
        self.overwritten = False
        self._moved = False
        self._linked: tuple[str, ...] = ()
        self._size: int | None = None
        self._sent: Plan | None = None
        self._shown: Body | None = None
        self._planned_again = False
        self._values: str | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes about the version so far."""
        return (*self._warnings, *self._notes)

    async def run(self) -> Result:
        """Do what can be done now, and return the result."""
        result = await self._run()
        warnings = tuple(dict.fromkeys((*self._warnings, *result.warnings)))
        return replace(
            result,
            calls=self._calls,
            warnings=warnings,
            notes=(*warnings, *self._notes),
            digest=self.digest,
            overwritten=self.overwritten,
            sent=self._values,
            moved=self._moved,
            settings=self._settings_sent(),
            linked=self._linked,
            planned_again=self._planned_again,
        )

    async def _run(self) -> Result:
        claimed = self._claimed
        rule = self._settings.rule_named(claimed.rule)
        if rule is None or rule.repository != claimed.image.repository:
            return self._park(Reason.RULE_GONE, rule)
        if not names_target(rule, claimed.mode, claimed.image.tag, claimed.app, claimed.version):
            return self._park(Reason.RULE_CHANGED, rule)
        stopped = await self._end_early(rule)
        return stopped or await self._read_then_act(rule, partial(self._create, rule))

    async def _read_then_act(
        self, rule: Rule, if_absent: Callable[[], Awaitable[Result]]
    ) -> Result:
        look = await self._get()
        policy = policy_for(Operation.LOOK, look)
        if policy.then is Action.ABSENT:
            return await if_absent()
        if policy.then is Action.GO_ON and look.body is not None:
            return await self._present(rule, look.body)
        return await self._retry_or_park(rule, policy, look)

    async def _end_early(self, rule: Rule) -> Result | None:  # noqa: ARG002 - for a channel
        """Return the result if no call to Edgegap is needed, None if one is."""
        return None

    async def _create(self, rule: Rule) -> Result:
        claimed = self._claimed
        if claimed.deleted is not None:
            why = NOT_AGAIN.format(version=claimed.version, why=claimed.deleted)
            return Result.done(Outcome.SUPERSEDED, why)
        source = await self._source(rule)
        if isinstance(source, Result):
            return source
        plan = self._plan(rule, source)
        if isinstance(plan, Rejected):
            return Result.rejected(plan)
        self._warnings += plan.notes
        stopped = await self._check_image(rule)
        if stopped is not None:
            return stopped
        self._notes += (source.note,) if source.note else ()
        if plan.unless_public is not None and not self._pullable:
            self._warnings = ()  # the parked registration has its own
            return Result.rejected(plan.unless_public)
        answer = await self._send(plan)
        policy = policy_for(Operation.CREATE, answer)
        self._ours = self._ours or answer.effect is not Effect.NONE
        if policy.then is Action.GO_ON:
            return await self._check(rule, plan, Outcome.CREATED)
        if policy.then is Action.TAKEN:
            return await self._read_then_act(rule, partial(self._in_conflict, rule, answer))
        if policy.then is Action.RETRY:
            look = await self._get()
            if look.ok and look.body is not None and same_image(look.body, claimed.image):
                return await self._compared(rule, plan, look.body, Outcome.CREATED)
        return await self._retry_or_park(rule, policy, answer)

    async def _source(self, rule: Rule, before: Body | None = None) -> Source | Result:
        """Find the version to copy settings from; with `before`, only among older versions."""
        app, version = self._claimed.app, self._claimed.version
        channels = unproven = frozenset[str]()
        if rule.copy_from == NEWEST:
            known = await self._ledger.not_copied(app)
            channels = known.channels | moving_versions(self._settings.rules, app)
            unproven = known.unproven
        source = await self._catalogue.source(
            app, rule.copy_from, of=version, without=channels | unproven, before=before
        )
        self._calls += source.calls
        if source.calls and not source.calls[-1].ok:
            last = source.calls[-1]
            if rule.copy_from != NEWEST and last.says(HTTPStatus.NOT_FOUND):
                return self._park(Reason.COPY_FROM_MISSING, rule)
            return await self._retry_or_park(rule, policy_for(Operation.LIST, last), last)
        skipped = [name for name in source.skipped if name in channels]
        return dataclasses.replace(source, skipped=tuple(skipped))

    def _plan(self, rule: Rule, source: Source) -> Plan | Rejected:
        return plan_creation(self._wanted(rule), source.version, source.skipped)

    def _wanted(self, rule: Rule) -> DesiredVersion:
        claimed, token = self._claimed, self._settings.edgegap_token
        return rule.wanted(claimed.app, claimed.version, claimed.image, token)

    async def _in_conflict(self, rule: Rule, refusal: Answer) -> Result:
        """Try once more: the name is taken, but there is no version of this name."""
        if self._claimed.waited.reason is Reason.NAME_CONFLICT:
            return self._park(Reason.NAME_CONFLICT, rule, detail=summary_of(refusal))
        again = Policy(Action.RETRY, Reason.NAME_CONFLICT)
        return await self._retry_or_park(rule, again, refusal)

    async def _present(self, rule: Rule, body: Body) -> Result:
        """Decide on an existing version: this receiver created it, or the name is taken."""
        if not same_image(body, self._claimed.image):
            return self._park(Reason.NAME_TAKEN, rule, detail=image_of(body))
        if self._ours:
            return await self._made_before(rule, body)
        self._notes += tuple(differences(rule.settings, body))
        return await self._already_there(rule, body, Outcome.UNCHANGED)

    async def _made_before(self, rule: Rule, body: Body) -> Result:
        """Compare a version that our request created, but that was not yet recorded as created.

        The request is not stored, because it contains secrets: it is planned again from the source.
        """
        source = await self._source(rule, before=body)
        if isinstance(source, Result) and source.state is not State.PARKED:
            return source
        plan = source if isinstance(source, Result) else self._plan(rule, source)
        asked = plan.body if isinstance(plan, Plan) else rule.settings
        if isinstance(plan, Plan):
            self._sent, self._planned_again = plan, True
        else:
            self._warnings += ("compared with the rule's own settings only: nothing to copy from",)
        differs = self._differs(rule, asked, body)
        return differs or await self._already_there(rule, body, Outcome.CREATED)

    async def _already_there(self, rule: Rule, body: Body, outcome: Outcome) -> Result:
        """Decide on a tag that Edgegap already has: check that it is still the same image."""
        if rule.preflight and self.digest is None:
            findings = await self._find_image(rule)
            if isinstance(findings, ImageOk):
                self.digest, self._size = findings.digest, findings.size
                self._notes += findings.notes
            else:
                self._notes += ("the image could not be checked; Edgegap has the tag already",)
        return self._overwritten_tag(rule) or await self._finish(rule, body, outcome)

    def _overwritten_tag(self, rule: Rule) -> Result | None:
        """Note that the tag was overwritten since; park the push if the rule says so.

        Edgegap's edge caches images by tag, so this matters whatever the version contains now.
        """
        claimed, known = self._claimed, self._known_digest
        fresh = None not in {known, self.digest} and known != self.digest
        if not fresh and not claimed.overwritten:
            return None
        self.overwritten = True
        detail = f"{known} before, {self.digest} now" if fresh else "as found before"
        if rule.on_overwrite is OnOverwrite.PARK and not claimed.allows_overwrite(self.digest):
            return self._park(Reason.TAG_OVERWRITTEN, rule, detail=detail)
        self._notes += (f"the tag was overwritten: {detail}; the edge may run the old image",)
        return None

    async def _check_image(self, rule: Rule) -> Result | None:
        """Check the image before it is registered; return None if the version may be created."""
        if not rule.preflight:
            return None
        match findings := await self._find_image(rule):
            case ImageOk():
                self.digest, self._pullable = findings.digest, True
                self._notes += findings.notes
                return self._overwritten_tag(rule) or await self._check_size(rule, findings)
            case ImageRejected():
                self.digest = findings.digest
                return Result.rejected(findings.parking)
            case ImagePending():
                return await self._retry_or_park(rule, NO_IMAGE, findings.calls[-1])
            case DockerHubOut():
                return self._wait_for_docker_hub(rule, findings)

    async def _find_image(self, rule: Rule) -> Findings:
        findings = await self._preflight.check(self._claimed.image, rule)
        self._calls += findings.calls
        return findings

    async def _check_size(self, rule: Rule, found: ImageOk) -> Result | None:
        """Note the size, if it is known; park an image that is larger than the rule allows."""
        self._size = found.size
        parking = too_large(self._claimed.image, rule, found.size)
        if parking is not None:
            return Result.rejected(parking)
        if found.size is not None:
            self._notes += (size_note(found.size, await self._ledger.size_before()),)
        return None

    def _wait_for_docker_hub(self, rule: Rule, out: DockerHubOut) -> Result | None:
        waiting = wait_at_most(
            Reason.DOCKER_HUB_UNAVAILABLE,
            waited=self._claimed.waited,
            longest=out.longest,
            lasted=out.lasted,
            asked=out.asked,
            sentence=explain(Reason.DOCKER_HUB_UNAVAILABLE, detail=out.detail, **self._facts(rule)),
            now=self._ledger.now(),
            jitter=self._jitter(),
        )
        if waiting is None:
            note = f"created without preflight: Docker Hub could not be queried ({out.detail})"
            self._notes += (note,)
        return waiting

    async def _check(self, rule: Rule, plan: Plan, outcome: Outcome) -> Result:
        """Compare the version that Edgegap created with our request."""
        look = await self._get()
        if not look.ok or look.body is None:
            policy = policy_for(Operation.LOOK, look)
            if policy.then is Action.ABSENT:
                policy = AGAIN
            return await self._retry_or_park(rule, policy, look)
        return await self._compared(rule, plan, look.body, outcome)

    async def _compared(self, rule: Rule, plan: Plan, held: Body, outcome: Outcome) -> Result:
        differs = self._differs(rule, plan.body, held, plan.before)
        return differs or await self._finish(rule, held, outcome)

    def _differs(
        self, rule: Rule, asked: Mapping[str, Any], held: Body, before: Body | None = None
    ) -> Result | None:
        """Park a version that differs from the request in settings that players would notice."""
        self._shown = held
        found = compare(asked, held, before)
        self._warnings += found.notes
        noticed = found.noticed
        if not same_image(held, self._claimed.image):
            image = f"asked for {self._claimed.image}, Edgegap holds {image_of(held)}"
            noticed = (image, *noticed)
        if not noticed:
            return None
        return self._park(Reason.STORED_DIFFERENTLY, rule, detail="; ".join(noticed))

    async def _finish(self, rule: Rule, body: Body, outcome: Outcome) -> Result:
        """Finish a version that has what was requested: it counts once its profiles are linked."""
        stopped = await self._link(rule)
        if stopped is not None:
            return stopped
        if is_disabled(body) and rule.settings.get("is_active") is not False:
            self._warnings += (f"{self._claimed.version} {DISABLED}",)
        if outcome is Outcome.CREATED and self._claimed.mode is Mode.CREATE:
            self._catalogue.made(self._claimed.app, body)
        return Result.done(outcome)

    async def _link(self, rule: Rule) -> Result | None:
        """Link the rule's pull profiles, once in each attempt; return None if all are linked.

        No call lists the links of a version; to link a profile a second time changes nothing.
        """
        if self._linked == rule.pull_profiles:
            return None
        app, version, names = self._claimed.app, self._claimed.version, rule.pull_profiles
        for place, profile in enumerate(map(read_pull_profile, names)):
            await self._record("PUT", link_path(profile, app, version))
            read = self._read(await link(self._client, profile, app, version))
            if read.meaning is not Meaning.DONE:
                self._linked = names[:place]
                return await self._not_linked(rule, profile, read)
        self._notes += (f"it has the pull profiles {listed(names)}",)
        self._linked = names
        return None

    async def _not_linked(self, rule: Rule, profile: PullProfile, read: Read[None]) -> Result:
        """Find out which name is not known: if the profile exists, the version is gone again."""
        answer = read.answer
        if read.meaning is not Meaning.UNKNOWN_NAME:
            return await self._retry_or_park(rule, policy_for(Operation.LINK, answer), answer)
        found = self._read(await pull_profiles(self._client))
        if found.value is None:
            policy = policy_for(Operation.LIST, found.answer)
            if policy.then is Action.PARK:  # that is for an app that is missing
                policy = AGAIN
            return await self._retry_or_park(rule, policy, found.answer)
        if profile in found.value.profiles:
            return await self._retry_or_park(rule, AGAIN, answer)
        unknown = Policy(Action.PARK, Reason.PULL_PROFILE_UNKNOWN)
        facts = {"profile": str(profile), "known": str(found.value)}
        return await self._retry_or_park(rule, unknown, answer, **facts)

    async def _get(self) -> Answer:
        return self._recorded(
            await self._client.get_version(self._claimed.app, self._claimed.version)
        )

    async def _send(self, plan: Plan) -> Answer:
        """POST the version, or PATCH the one that the plan changes."""
        app, version = self._claimed.app, self._claimed.version
        if plan.before is None:
            await self._record("POST", version_path(app))
            answer = await self._client.create(app, plan.body)
        else:
            await self._record("PATCH", version_path(app, version))
            answer = await self._client.update(app, version, plan.body)
        if answer.effect is not Effect.NONE:
            self._sent = plan
        return self._recorded(answer)

    def _settings_sent(self) -> SentSettings | None:
        """Return what the version was sent, with what Edgegap shows of the rest."""
        if self._sent is None:
            return None
        return sent_settings(
            self._sent.body,
            self._settings.secret_keys,
            before=self._shown or self._sent.before,
            pull_profiles=self._linked,
            size=self._size,
        )

    async def _record(self, method: str, path: str) -> None:
        await self._ledger.record_request(len(self._calls), method, path)

    def _recorded(self, answer: Answer) -> Answer:
        self._calls += (answer,)
        return answer

    def _read(self, read: Read[T]) -> Read[T]:
        self._recorded(read.answer)
        return read

    async def _retry_or_park(
        self, rule: Rule | None, policy: Policy, answer: Answer, **facts: str
    ) -> Result:
        """Wait or park, as the policy for this response says.

        Before a 403 closes the gate for all registrations, the token is tested: an app that the
        token has no access to must not stop the other apps.
        """
        if policy.then is Action.CLOSE_GATE and answer.status == HTTPStatus.FORBIDDEN:
            policy, answer = resolve_forbidden(answer, self._recorded(await self._client.probe()))
        facts = {**self._facts(rule), **facts}
        return self._next(policy, summary_of(answer), answer.retry_after, facts)

    def _wait_for_digest(self, rule: Rule, out: DockerHubOut, sentence: str) -> Result:
        """Wait, for at most 24 hours, until the registry can be queried: `sentence` says why."""
        policy = Policy(Action.RETRY, Reason.DOCKER_HUB_UNAVAILABLE)
        waits = self._next(policy, out.detail, out.asked or None, self._facts(rule))
        return replace(waits, sentence=sentence) if waits.state is State.WAITING else waits

    def _next(self, policy: Policy, detail: str, wait: int | None, facts: dict[str, Any]) -> Result:
        return next_result(
            policy,
            waited=self._claimed.waited,
            detail=detail,
            retry_after=wait,
            facts=facts,
            now=self._ledger.now(),
            jitter=self._jitter(),
        )

    def _park(self, reason: Reason, rule: Rule | None, detail: str = "") -> Result:
        """Park the registration for this reason, with the reason's sentence."""
        return Result.parked(reason, explain(reason, detail=detail, **self._facts(rule)))

    def _facts(self, rule: Rule | None) -> dict[str, Any]:
        """Return the facts that sentences about this registration may contain."""
        claimed = self._claimed
        return {
            **claimed.names,
            "image": str(claimed.image),
            "repository": claimed.image.repository,
            "copy_from": rule.copy_from if rule else "",
            "tag": claimed.image.tag,
            "login": variables_of(rule.login if rule else None),
        }

"""One attempt at moving a channel: check that this push may move it, GET, PATCH, GET again."""

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from receiver.backoff import MINUTE
from receiver.edgegap.plans import (
    Plan,
    Rejected,
    hidden_values,
    image_in,
    image_of,
    plan_update,
    same_image,
)
from receiver.edgegap.responses import Body
from receiver.ledger.results import Result
from receiver.pipeline.attempt import Attempt
from receiver.pipeline.preflight import DockerHubOut, Findings, ImageOk, ImagePending, ImageRejected
from receiver.pipeline.retry import Action, Operation, policy_for
from receiver.reasons import Outcome, Reason, explain
from receiver.rules.channel_order import (
    Channel,
    ManualAction,
    Need,
    below_what_is_there,
    held_sentence,
    is_ordered,
    overtaken,
    unmet,
    why_not,
    with_image_at_edgegap,
)
from receiver.rules.rule import OnOverwrite, Rule
from receiver.secret import hash_of, is_hash_of

NEEDS = {Need.TRIAL: Reason.NEEDS_TRIAL, Need.APPROVAL: Reason.NEEDS_APPROVAL}
DECIDED_AGAIN = 30 * MINUTE  # at the latest: a trial or an approval wakes it
REPORTED = "This push was already reported, and moves nothing again."
NOT_COMPARED = (
    "the rule has preflight = false, so it was not checked that the tag still has the image that "
    "was tried, approved or shown, or that the channel's source has"
)
UNPROVEN = (
    "the tag {tag} has another image now ({digest}) than the one that passed its trial; a person "
    "rolled back to it anyway"
)
UNREAD = (
    "Docker Hub could not be queried about {image} ({detail}); {app}/{version} is moved to it only "
    "once the registry confirms that the tag still has the image that was tried, approved "
    "or shown, or that the channel's source has. It is retried for 24 hours."
)


class ChannelAttempt(Attempt):
    """One attempt at a claimed registration that moves a channel.

    The decision is made from the ledger's records at the time of the claim, and again from the
    version that Edgegap has. A channel that Edgegap does not have is created.
    """

    _repeated = False
    _pushed_again = False
    _seen = False  # the image, in this attempt

    async def _end_early(self, rule: Rule) -> Result | None:
        claimed = self._claimed
        if not self._is_ordered:  # the version has the digest that the channel is to have
            self._known_digest = claimed.known_digest or claimed.digest
        why = why_not(rule.channel(claimed.version), claimed.pushed, claimed.channel_state)
        if why is not None:
            return Result.done(Outcome.SUPERSEDED, why)
        repeated = claimed.known is not None and not self._is_ordered
        stopped = await self._check_repeat(rule) if repeated else None
        if stopped is not None or self._repeated:
            return stopped
        waits = None if self._is_undone else await self._unmet(rule)
        return waits or await self._check_digest(rule)

    @property
    def _is_undone(self) -> bool:
        """Whether a person, or the receiver, puts back what the channel had: it needs nothing."""
        return self._is_rollback or self._is_restored

    @property
    def _is_rollback(self) -> bool:
        return self._is_ordered and self._claimed.channel_state.action == ManualAction.ROLLBACK

    @property
    def _is_restored(self) -> bool:
        return self._is_ordered and self._claimed.channel_state.action == ManualAction.RESTORE

    async def _unmet(self, rule: Rule) -> Result | None:
        """Return the result while the move waits for a trial or an approval, which is of a digest.

        It is unknown if the version was created while the registry could not be queried.
        """
        claimed, channel = self._claimed, rule.channel(self._claimed.version)
        found = unmet(channel, claimed.image, claimed.evidence, ordered=self._is_ordered)
        if found is None:
            return None
        if found.need is None:
            return replace(Result.done(Outcome.SUPERSEDED, found.sentence), undecided=True)
        reason, now = NEEDS[found.need], self._ledger.now()
        waited = claimed.waited.so_far(reason, now).incremented()
        self.digest = claimed.digest
        if found.need is Need.APPROVAL:  # of a digest, and only of one that may then move it
            looks = self.digest is None
            stopped = await self._check_image(rule) if looks else self._overwritten_tag(rule)
            if stopped is not None:
                return stopped
        return Result.waiting(reason, found.sentence, now + DECIDED_AGAIN, waited)

    async def _check_digest(self, rule: Rule) -> Result | None:
        """Return the result unless the tag has the image that was tried, approved or promoted."""
        if self._is_ordered and self._claimed.channel_state.registration == self._claimed.id:
            return None  # it was made, and a push of the tag joined it meanwhile
        if self._is_compared(rule) and not (rule.preflight or self._is_undone):
            self._notes += (NOT_COMPARED,)
        return await self._check_image(rule) if self._expected(rule) else None

    def _is_compared(self, rule: Rule) -> bool:
        """Return whether it moves to one digest only: of a trial, approval, source or order."""
        channel = rule.channel(self._claimed.version)
        needs = bool(channel.needs) or channel.source is not None or rule.trial is not None
        if self._is_restored and not needs:
            return rule.on_overwrite is not OnOverwrite.MOVE
        return needs or self._is_ordered

    def _expected(self, rule: Rule) -> frozenset[str]:
        """Return the digests that the tag may have; none if they are not known or not compared.

        A rollback to a version that a person named has none: it may be urgent.
        """
        evidence = self._claimed.evidence
        if not rule.preflight or not self._is_compared(rule):
            return frozenset()
        if evidence.digest is not None:
            return frozenset({evidence.digest})
        tried = Need.TRIAL in rule.channel(self._claimed.version).needs
        return evidence.proven if tried and not self._is_undone else frozenset()

    async def _check_image(self, rule: Rule) -> Result | None:
        if self._seen:
            return None
        stopped = await super()._check_image(rule)
        self._seen = stopped is None
        return stopped

    async def _check_size(self, rule: Rule, found: ImageOk) -> Result | None:
        """Note the size; what the channel had before may be larger than the rule allows now."""
        result = await super()._check_size(rule, found)
        return None if self._is_undone else result

    async def _find_image(self, rule: Rule) -> Findings:
        """Look at the image; one with another digest than expected is rejected."""
        findings = await super()._find_image(rule)
        expected = self._expected(rule)
        if isinstance(findings, ImagePending | DockerHubOut):
            return findings
        if not expected or findings.digest in expected:
            proven = self._claimed.evidence.proven
            if self._is_rollback and proven and findings.digest not in {None, *proven}:
                self._warnings += (UNPROVEN.format(digest=findings.digest, **self._facts(rule)),)
            return findings
        if findings.digest is None:
            if isinstance(findings, ImageRejected):
                return findings
            return DockerHubOut("the registry returned no digest", longest=0, calls=findings.calls)
        then = " or ".join(sorted(expected))
        facts = {**self._facts(rule), "detail": f"{then} then, {findings.digest} now"}
        sentence = explain(Reason.DIGEST_CHANGED, **facts) + self._anyway()
        changed = Rejected(Reason.DIGEST_CHANGED, sentence)
        # It is still the expected digest that a replay compares.
        return ImageRejected(changed, findings.calls, self._claimed.evidence.digest)

    def _anyway(self) -> str:
        """Return how to roll back to the tag whatever its digest is."""
        claimed = self._claimed
        if not self._is_rollback:
            return ""
        command = f"receiver rollback {claimed.app} {claimed.version} --to {claimed.image.tag}"
        return f" To roll back to it anyway: `{command}`."

    def _wait_for_docker_hub(self, rule: Rule, out: DockerHubOut) -> Result | None:
        """Wait as long as the digest cannot be read: a move to another image would be worse.

        What is restored does not wait: what the channel has meanwhile is known to be wrong.
        """
        approved = Need.APPROVAL in rule.channel(self._claimed.version).needs
        of_digest = bool(self._expected(rule)) or (approved and not self._is_ordered)
        if self._is_restored or not of_digest:
            return super()._wait_for_docker_hub(rule, out)
        sentence = UNREAD.format(detail=out.detail, **self._facts(rule)) + self._anyway()
        return self._wait_for_digest(rule, out, sentence)

    @property
    def _is_ordered(self) -> bool:
        return is_ordered(self._claimed.pushed, self._claimed.channel_state)

    async def _check_repeat(self, rule: Rule) -> Result | None:
        """Decide on a tag that was reported before: it moves no channel unless overwritten."""
        claimed = self._claimed
        self.digest = claimed.digest or await self._digest_now(rule)
        stopped = self._overwritten_tag(rule)
        if stopped is not None:
            return stopped
        self._pushed_again = rule.on_overwrite is OnOverwrite.MOVE and self._may_be_another_image
        if self._pushed_again:
            state = claimed.channel_state
            if state.hold is None:
                return None
            why = held_sentence(rule.channel(claimed.version), state, state.hold)
            return Result.done(Outcome.SUPERSEDED, why)
        if not claimed.channel_state.has(claimed.pushed):
            return Result.done(Outcome.SUPERSEDED, REPORTED)
        self._repeated = True
        return None

    async def _digest_now(self, rule: Rule) -> str | None:
        """Return the tag's digest, None if it is not available: the tag may have been deleted."""
        if not rule.preflight:
            return None
        findings = await self._find_image(rule)
        return findings.digest if isinstance(findings, ImageOk) else None

    @property
    def _may_be_another_image(self) -> bool:
        """Whether the tag's image differs from the reported image, by their digests or times."""
        known = self._claimed.known
        if known is None or None not in {known.digest, self.digest}:
            return self.overwritten
        return self.overwritten or self._claimed.push_time > known.push_time

    async def _present(self, rule: Rule, body: Body) -> Result:
        claimed, channel = self._claimed, rule.channel(self._claimed.version)
        same = same_image(body, claimed.image)
        if self._repeated and not same:
            return Result.done(Outcome.SUPERSEDED, self._moved_by_another(body))
        if self._repeated and claimed.channel_state.hold is not None:
            return await self._finish(rule, body, self._outcome)
        self._moved = same and (claimed.moved or self._ours)
        why = None if same or self._is_ordered else self._why_not(channel, body)
        if why is not None:
            return Result.done(Outcome.SUPERSEDED, why)
        wanted = self._wanted(rule)
        values, keys = hidden_values(wanted), self._settings.secret_keys
        sent = claimed.channel_state.sent
        changed = bool(sent and values) and not is_hash_of(sent, values, keys)
        plan = plan_update(wanted, body, resend=changed or self._pushed_again)
        if isinstance(plan, Rejected):
            return Result.rejected(plan)
        self._warnings += plan.notes
        if not plan.body:
            if self._repeated:
                return await self._finish(rule, body, self._outcome)
            if self._ours:
                return await self._made_before(rule, body)
            return await self._already_there(rule, body, self._outcome)
        stopped = None if same or self.digest is not None else await self._check_image(rule)
        if stopped is not None:
            return stopped
        stopped = await self._link(rule)  # first: a deployment of the new image needs its files
        if stopped is not None:
            return stopped
        if same and not self._pushed_again:
            self._warnings += ("it had the image already: only the rule's settings are new",)
        answer = await self._send(plan)
        policy = policy_for(Operation.UPDATE, answer)
        if policy.then is Action.GO_ON:
            return await self._check(rule, plan, Outcome.UPDATED)
        return await self._retry_or_park(rule, policy, answer)

    def _why_not(self, channel: Channel, body: Body) -> str | None:
        """Return why the push does not replace the image that Edgegap has; None if it may."""
        channel_state, there = self._claimed.channel_state, image_in(body)
        if there is None:
            return None
        others = tuple(one for one in channel_state.asked if one.registration != self._claimed.id)
        channel_state = replace(channel_state, asked=others)
        shown = with_image_at_edgegap(channel, channel_state, there.repository, there.tag)
        if shown is not channel_state:
            return why_not(channel, self._claimed.pushed, shown)
        if there.repository == self._claimed.image.repository and there.tag in self._claimed.later:
            return overtaken(channel, self._claimed.image.tag, there.tag)
        if channel.restore:
            return None
        return below_what_is_there(channel, self._claimed.image.tag, there.tag)

    async def _check(self, rule: Rule, plan: Plan, outcome: Outcome) -> Result:
        self._values = hash_of(hidden_values(self._wanted(rule)), self._settings.secret_keys)
        self._moved = True  # Edgegap confirmed it; the next GET counts more
        return await super()._check(rule, plan, outcome)

    def _differs(
        self, rule: Rule, asked: Mapping[str, Any], held: Body, before: Body | None = None
    ) -> Result | None:
        self._moved = self._moved and same_image(held, self._claimed.image)
        return super()._differs(rule, asked, held, before)

    def _overwritten_tag(self, rule: Rule) -> Result | None:
        """Move no channel to a tag that was overwritten: Edgegap's edge may run the old image."""
        stopped = super()._overwritten_tag(rule)
        if stopped is not None or not self.overwritten or self._is_ordered:
            return stopped
        if rule.on_overwrite is OnOverwrite.MOVE:
            return None
        return Result.done(
            Outcome.SUPERSEDED,
            f"The tag {self._claimed.image.tag} was overwritten, and on_overwrite is not "
            f'"move" in the rule {rule.name}: Edgegap\'s edge may run the old image. Push under a '
            "new tag.",
        )

    @property
    def _outcome(self) -> Outcome:
        """The outcome if the channel already has the image."""
        if self._ours:
            return Outcome.CREATED
        return Outcome.UPDATED if self._claimed.moved else Outcome.UNCHANGED

    def _moved_by_another(self, body: Body) -> str:
        claimed = self._claimed
        back = f"receiver promote {claimed.app} {claimed.version} --to {claimed.image.tag}"
        return (
            f"{REPORTED} But Edgegap has {image_of(body)} in the channel, which is not what was "
            f"put there last; `{back}` puts it back."
        )

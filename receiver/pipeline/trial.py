"""One step of a trial: deploy, look, judge, stop. No step waits; the registration is due again.

The request is in the ledger before it is sent, and the deployment carries the registration's id as
a tag: so it is found again after a lost response, and stopped whatever happens.
"""

import dataclasses
from collections.abc import Sequence

from msgspec.structs import replace

from receiver.backoff import MAX_CALL, MINUTE, SECOND, WaitState
from receiver.edgegap.deployment_answers import (
    LAST_LINES,
    Deployment,
    DeploymentState,
    Logs,
    Meaning,
    Read,
    read_near,
)
from receiver.edgegap.deployments import deploy, deployments_of, logs, status, stop, usage
from receiver.edgegap.fields import is_hidden
from receiver.edgegap.plans import image_of, same_image
from receiver.edgegap.responses import Answer, Body, one_line
from receiver.ledger.results import Result
from receiver.pipeline.attempt import Attempt
from receiver.pipeline.preflight import DockerHubOut, ImageOk, ImagePending, ImageRejected
from receiver.pipeline.retry import (
    AGAIN,
    BUSY,
    NO_IMAGE,
    TOKEN_REFUSED,
    Action,
    Operation,
    Policy,
    policy_for,
    summary_of,
)
from receiver.reasons import Outcome, Reason, State, explain
from receiver.rules.rule import Rule
from receiver.rules.trial import (
    TAG,
    OnFailure,
    Phase,
    Trial,
    TrialRun,
    crash,
    failure,
    has_no_capacity,
    is_steady,
    next_look,
    next_look_at_end,
    seconds,
    unproven,
    usage_notes,
    with_status,
)
from receiver.secret import Secret
from receiver.timestamps import format_time

DEPLOYMENTS = "/v2/deployments"
MAX_LOOKED_UP = 20  # deployments whose tags the list does not show
UNREADABLE_FOR = 60 * SECOND  # what a verdict needs is waited for at most that long
MAX_PAUSE_MINUTES = 60  # before a run that proved nothing is repeated
UNREAD = (
    "Docker Hub could not be queried about {image} ({detail}); {app}/{version} is tried once the "
    "registry returns the digest of the tag. It is retried for 24 hours."
)
OVERWRITTEN = (
    "The tag {tag} was overwritten ({before} before, {now} now) after {app}/{version} was created, "
    "so the version was not tried. Push the new image under a new tag, or replay this push to try "
    "what the tag has now."
)
PASSED_ALREADY = "Its digest passed a trial under another tag."
NO_LOGS = (
    "Edgegap returns no logs of it ({detail}), so restarts cannot be ruled out; if the server "
    "writes none, let it write a line at its start"
)
_NO_SERVER = Policy(Action.WAIT_FOR_SERVER, Reason.NO_CAPACITY)
_REFUSED = Policy(Action.PARK, Reason.TRIAL_REFUSED)
_OF_REQUEST = {
    Meaning.NO_CAPACITY: _NO_SERVER,
    Meaning.DEPLOYMENT_LIMIT: _NO_SERVER,
    Meaning.UNKNOWN_NAME: _REFUSED,
    Meaning.REFUSED: _REFUSED,
}
_OF_ANY = {
    Meaning.RATE_LIMITED: BUSY,
    Meaning.TOKEN_REFUSED: TOKEN_REFUSED,
    Meaning.FORBIDDEN: TOKEN_REFUSED,
}
_FOR_ALL = frozenset({Action.SLOW_DOWN, Action.CLOSE_GATE})  # says nothing of this one run


class TrialAttempt(Attempt):
    """One attempt at a registration that tries a version."""

    _run_now: TrialRun | None = None

    async def run(self) -> Result:
        """Do the next step, and return when the one after it is due."""
        return replace(await super().run(), trial=self._run_now)

    async def _run(self) -> Result:
        claimed = self._claimed
        rule, run = self._settings.rule_named(claimed.rule), claimed.trial or TrialRun()
        of = claimed.image.repository, claimed.app
        if rule is not None and (rule.repository, rule.app) != of:
            rule = None  # another one has its name now
        self.digest = claimed.digest
        if run.phase is Phase.STOPPING:
            return await self._stop(rule, run)
        if rule is None:
            return self._park(Reason.RULE_GONE, rule)
        if run.phase is Phase.ENDED and run.passed and claimed.evidence.passed:
            return await self._end(rule, run)  # its rule is back
        planned = claimed.trial if run.passed is None else None
        trial = _trial(rule, planned)
        if trial is None:
            return self._park(Reason.TRIAL_GONE, rule)
        if run.phase is Phase.REQUESTED:
            return await self._find(rule, trial, run)
        if run.phase is Phase.WATCHED:
            return await self._watch(rule, trial, run)
        return await self._begin(rule, trial, planned)

    async def _begin(self, rule: Rule, trial: Trial, planned: TrialRun | None) -> Result:
        """Request a deployment, as a person planned it; again after a run without a verdict."""
        claimed = self._claimed
        stopped = await self._check_version(rule) or await self._find_digest(rule)
        if stopped is not None:
            return stopped
        evidence = claimed.evidence
        if evidence.tried_first is not None:
            first = f"waits for that of {evidence.tried_first}, which has its digest"
            return self._waiting(self._ledger.now() + MINUTE, first)
        passed = evidence.digest is not None and evidence.passed
        if passed and evidence.reported and planned is None and not claimed.replayed:
            return Result.done(Outcome.PASSED, PASSED_ALREADY)
        last = planned or TrialRun()
        run = TrialRun(
            near=last.near,
            keep=last.keep,
            requested_at=self._ledger.now(),
            repeats=last.repeats + bool(last.why),
        )
        await self._record("POST", DEPLOYMENTS)
        tags = (TAG, claimed.id)
        app, version = claimed.app, claimed.version
        read = self._read(await deploy(self._client, app, version, trial.near, tags))
        if read.meaning is Meaning.DONE:
            return self._look_later(replace(run, request_id=read.value), trial)
        if read.meaning is Meaning.NO_CAPACITY and read.value is not None:  # it may exist anyway
            return self._stop_later(replace(run, request_id=read.value, stop_at=self._ledger.now()))
        if read.meaning is Meaning.UNCERTAIN:
            self._run_now = run
        else:
            self._run_now = replace(run, stopped_at=self._ledger.now())
        policy = _OF_REQUEST.get(read.meaning) or _policy(read)
        return await self._retry_or_park(rule, policy, read.answer)

    async def _check_version(self, rule: Rule) -> Result | None:
        """Return the result unless the version has the image of the push.

        What is deployed is the version's image. Edgegap refuses to deploy a missing version.
        """
        look = await self._get()
        policy = policy_for(Operation.LOOK, look)
        if policy.then is Action.ABSENT:
            return None
        if policy.then is not Action.GO_ON or look.body is None:
            return await self._retry_or_park(rule, policy, look)
        if same_image(look.body, self._claimed.image):
            return None
        return self._park(Reason.NAME_TAKEN, rule, detail=image_of(look.body))

    async def _find_digest(self, rule: Rule) -> Result | None:
        """Return the result unless the tag has the digest of the registration: it gets the verdict.

        The registration may have none, if the version was created while the registry could not be
        queried, or an old one, if the tag was pushed again during a run.
        """
        if not rule.preflight:
            return None
        before, newest = self._claimed.digest, self._claimed.known_digest
        match await self._find_image(rule):
            case ImageOk(digest=digest) if digest == before:
                return None
            case ImageOk(digest=str(digest)) if before is None or digest == newest:
                self.digest = digest  # it is in the ledger before the deployment is requested
                begins = self._waiting(self._ledger.now(), "is about to begin")
                return replace(begins, waited=self._claimed.waited)
            case ImageOk(digest=str(digest)):
                facts = {**self._facts(rule), "before": before, "now": digest}
                return Result.parked(Reason.DIGEST_CHANGED, OVERWRITTEN.format(**facts))
            case ImageRejected(parking=parking):
                return Result.rejected(parking)
            case ImagePending(calls=calls):
                return await self._retry_or_park(rule, NO_IMAGE, calls[-1])
            case ImageOk(calls=calls):
                unread = DockerHubOut("the registry returned no digest", longest=0, calls=calls)
                return self._wait_until_read(rule, unread)
            case DockerHubOut() as out:
                return self._wait_until_read(rule, out)

    def _wait_until_read(self, rule: Rule, out: DockerHubOut) -> Result:
        sentence = UNREAD.format(detail=out.detail, **self._facts(rule))
        return self._wait_for_digest(rule, out, sentence)

    async def _find(self, rule: Rule, trial: Trial, run: TrialRun) -> Result:
        """Find the deployment of a request whose response is not known, or request it again."""
        ids, answer = await self._active(run)
        if ids is None:
            return await self._retry_or_park(rule, AGAIN, answer)
        if ids:
            return await self._watch(rule, trial, replace(run, request_id=ids[0]))
        sent_at = run.requested_at or self._ledger.now()
        if self._ledger.now() - sent_at < MAX_CALL:  # Edgegap may carry out the request late
            self._run_now = run
            return self._waiting(sent_at + MAX_CALL, "no response yet")
        self._run_now = replace(run, stopped_at=self._ledger.now())
        return self._waiting(self._ledger.now(), "the request had no effect")

    async def _watch(self, rule: Rule, trial: Trial, run: TrialRun) -> Result:
        self._run_now = run
        seen, result = await self._look(rule, run)
        if result is not None:
            return result
        now = self._ledger.now()
        if seen is not None:
            run = self._run_now = with_status(run, seen, now)
            if has_no_capacity(run, seen):
                return self._stop_later(replace(run, stop_at=now))
        why = unproven(seen, unwatched=now - self._claimed.waited.since)
        if why:
            return self._stop_later(replace(run, why=why, stop_at=now))
        failed = failure(trial, run, seen, now)
        if not failed and not is_steady(trial, run, now):
            return self._look_later(run, trial)
        return await self._judge(rule, trial, run, failed)

    async def _judge(self, rule: Rule, trial: Trial, run: TrialRun, failed: str) -> Result:
        """Read logs and metrics while the deployment is there, then decide and have it stopped.

        It is a run of the image only if the version has it still; otherwise there is no verdict.
        """
        request_id, now = run.request_id or "", self._ledger.now()
        unread_at = now if run.unread_at is None else run.unread_at
        run = self._run_now = replace(run, unread_at=unread_at)
        look = await self._get()
        policy, version = policy_for(Operation.LOOK, look), look.body if look.ok else None
        unread = policy.then not in {Action.GO_ON, Action.ABSENT}
        if unread and self._reads_again(run, policy):
            again = AGAIN if policy.then is Action.PARK else policy
            return await self._retry_or_park(rule, again, look)
        if version is None or not same_image(version, self._claimed.image):
            shown = "cannot be read" if version is None else f"has {image_of(version)}"
            why = f"the version {shown}, so it is not known which image ran"
            return self._stop_later(replace(run, why=why, stop_at=now))
        hidden = _hidden_values(version)
        failed = one_line(failed, hidden)
        read = self._read(await logs(self._client, request_id, hidden))
        if read.value is None and not (failed and read.meaning is Meaning.GONE):
            if self._reads_again(run, _policy(read)):
                return await self._retry_or_park(rule, _policy(read), read.answer)
            if not failed and read.meaning is Meaning.UNCERTAIN:
                why = f"its logs cannot be read: {summary_of(read.answer)}"
                return self._stop_later(replace(run, why=why, stop_at=now))
            failed = failed or NO_LOGS.format(detail=summary_of(read.answer))
        found = read.value or Logs(())
        failed = "; ".join(part for part in (failed, crash(found)) if part)
        measured = self._read(await usage(self._client, request_id))
        keep = run.keep if run.keep is not None else trial.keep_failed if failed else 0
        run = replace(
            run,
            passed=not failed,
            why=failed,
            exit_code=found.crash.exit_code if found.crash is not None else None,
            log=found.last(LAST_LINES) if failed else (),
            notes=usage_notes(measured.value, version),
            decided_at=now,
            stop_at=now + keep,
            unread_at=None,
        )
        return await self._end(rule, run) if run.is_kept else self._stop_later(run)

    async def _stop(self, rule: Rule | None, run: TrialRun) -> Result:
        """Stop the deployment, and look until Edgegap shows that it is gone.

        If it cannot be stopped, the verdict still counts, and the sweep continues to stop it.
        """
        self._run_now = run
        seen, result = await self._look(rule, run)
        if result is None and (seen is None or seen.state is DeploymentState.TERMINATED):
            run = replace(run, stopped_at=self._ledger.now())
            return self._begin_later(run) if run.is_kept else await self._end(rule, run)
        if result is None:
            await self._record("DELETE", f"/v1/stop/{run.request_id}")
            read = self._read(await stop(self._client, run.request_id or ""))
            if read.meaning in {Meaning.DONE, Meaning.GONE}:
                return self._stop_later(run)
            result = await self._retry_or_park(rule, _policy(read), read.answer)
        if result.state is State.WAITING or run.passed is None or run.is_kept:
            return result
        return await self._end(rule, replace(run, stop_at=self._ledger.now()))

    async def _end(self, rule: Rule | None, run: TrialRun) -> Result:
        self._run_now = run
        if run.passed is None and run.why:
            pause = MINUTE * min(MAX_PAUSE_MINUTES, 2**run.repeats - 1)  # a run costs money
            due = self._ledger.now() + pause
            return self._waiting(due, f"proves nothing, because {run.why}; it is repeated")
        if run.passed is None:  # there was no capacity; each look ended the wait that backs off
            looked = self._claimed.waited.reason is Reason.TRIAL_RUNNING
            answer = Answer("POST", DEPLOYMENTS, None, message="no server was found")
            answer = dataclasses.replace(answer, retry_after=MINUTE) if looked else answer
            return await self._retry_or_park(rule, _NO_SERVER, answer)
        self._notes += run.notes
        if run.passed and rule is None:
            return self._park(Reason.RULE_GONE, rule)  # its channels are not known
        if run.passed:
            steady = (run.decided_at or 0) - (run.ready_at or 0)
            sentence = f"It ran for {seconds(steady)} without an error."
            sentence += "" if run.stopped_at is not None else f" Its deployment {self._left(run)}."
            return Result.done(Outcome.PASSED, sentence)
        facts = {**self._facts(rule), "detail": run.why, "left": self._left(run)}
        sentence = explain(Reason.TRIAL_FAILED, **facts)
        if rule is None or rule.trial is None or rule.trial.on_failure is OnFailure.PARK:
            return Result.parked(Reason.TRIAL_FAILED, sentence)
        self._warnings += (f"the trial failed: {run.why}",)
        return Result.done(Outcome.FAILED, sentence)

    def _left(self, run: TrialRun) -> str:
        """Return what is left of the deployment, for a sentence about it."""
        if run.stopped_at is not None:
            return "is stopped"
        if run.stop_at is not None and run.stop_at > self._ledger.now():
            return f"runs on until {format_time(run.stop_at)}"
        return "could not be stopped yet, which is tried each minute"

    async def _look(
        self, rule: Rule | None, run: TrialRun
    ) -> tuple[Deployment | None, Result | None]:
        """Return the deployment, None if it is gone; or the result if that is not known now."""
        read = self._read(await status(self._client, run.request_id or ""))
        if read.meaning is Meaning.DONE:
            return read.value, None
        if read.meaning is not Meaning.GONE:
            return None, await self._retry_or_park(rule, _policy(read), read.answer)
        ids, answer = await self._active(run)  # a status that is not found may be a wrong answer
        if ids is None or run.request_id in ids:
            return None, await self._retry_or_park(rule, AGAIN, answer)
        return None, None

    async def _active(self, run: TrialRun) -> tuple[Sequence[str] | None, Answer]:
        """Return the active deployments of this registration; None if they are not known now.

        They have its tag, or the request id of the run: rows need not show tags.
        """
        claimed = self._claimed
        read = self._read(await deployments_of(self._client, claimed.app, claimed.version))
        if read.value is None or not read.value.complete:
            return None, read.answer
        if run.request_id in {row.request_id for row in read.value.rows}:
            return [run.request_id], read.answer
        ids = list(read.value.tagged(claimed.id))
        for request_id in read.value.without_tags[:MAX_LOOKED_UP]:
            seen = self._read(await status(self._client, request_id))
            if seen.value is not None and claimed.id in (seen.value.tags or ()):
                ids.append(request_id)
        return ids, read.answer

    def _reads_again(self, run: TrialRun, policy: Policy) -> bool:
        """Return whether what a verdict needs, and could not be read, is waited for."""
        since = run.unread_at or 0
        return policy.then in _FOR_ALL or self._ledger.now() - since < UNREADABLE_FOR

    def _begin_later(self, run: TrialRun) -> Result:
        self._run_now = run
        return self._waiting(self._ledger.now(), "is about to begin")

    def _look_later(self, run: TrialRun, trial: Trial) -> Result:
        run = self._run_now = replace(run, unread_at=None)
        what = "waits until it is Ready" if run.ready_at is None else "is Ready, and is watched"
        return self._waiting(next_look(trial, run, self._ledger.now()), what)

    def _stop_later(self, run: TrialRun) -> Result:
        self._run_now = run
        sent = any(call.method == "DELETE" for call in self._calls)
        without = "proves nothing" if run.why else "did not begin"
        verdict = {True: "passed", False: "failed", None: without}[run.passed]
        what = "is repeated once the last deployment" if run.is_kept else f"{verdict}, and"
        due = next_look_at_end(self._ledger.now(), sent=sent)
        waiting = self._waiting(due, f"{what} is stopped")
        if run.passed is None:  # the wait for capacity goes on
            return replace(waiting, waited=self._claimed.waited)
        return waiting

    def _waiting(self, due_at: int, detail: str) -> Result:
        reason, now = Reason.TRIAL_RUNNING, self._ledger.now()
        sentence = explain(reason, **{**self._facts(None), "detail": detail})
        times = self._claimed.waited.so_far(reason, now).times + 1
        return Result.waiting(reason, sentence, due_at, WaitState(reason, now, times, now))


def _policy(read: Read[str] | Read[Deployment] | Read[Logs] | Read[None]) -> Policy:
    """Return what to do about a response that is not what was requested.

    Only a refusal of the deployment itself parks: any other call may succeed later.
    """
    if read.meaning in _OF_ANY:
        return _OF_ANY[read.meaning]
    policy = policy_for(Operation.LIST, read.answer)
    return policy if policy.then is Action.RETRY else AGAIN


def _trial(rule: Rule, run: TrialRun | None) -> Trial | None:
    """Return the trial of the rule, near the location that a person named for this run."""
    if run is None or not run.near:
        return rule.trial
    near = read_near(run.near)
    return Trial(near) if rule.trial is None else replace(rule.trial, near=near)


def _hidden_values(version: Body) -> tuple[Secret, ...]:
    """Return the values of the version's hidden variables, as far as Edgegap shows them."""
    envs = version.get("envs")
    found = [env for env in envs if is_hidden(env)] if isinstance(envs, list) else []
    return tuple(Secret(str(env.get("value") or "")) for env in found)


def is_failed(result: Result) -> bool:
    """Return whether a trial ended with a failure."""
    parked = result.state is State.PARKED and result.reason is Reason.TRIAL_FAILED
    return parked or result.outcome is Outcome.FAILED

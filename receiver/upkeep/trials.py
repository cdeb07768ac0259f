"""Trials beside the worker: a person requests one, and what nobody works on any more is stopped."""

from collections.abc import Iterable, Sequence
from functools import partial

from receiver import metrics
from receiver.config.settings import LiveSettings
from receiver.edgegap.client import EdgegapClient
from receiver.edgegap.deployment_answers import Deployments, DeploymentState, Meaning
from receiver.edgegap.deployments import deployments_of, deployments_tagged, status, stop
from receiver.errors import ReceiverError
from receiver.ledger.deliveries import COMMAND, NewDelivery, RecordedDelivery, record, set_digest
from receiver.ledger.ledger import Ledger
from receiver.ledger.replicas import is_any_running
from receiver.ledger.targets import read_target, rule_to_repeat
from receiver.ledger.transaction import Tx
from receiver.ledger.trials import (
    OrphanedRun,
    is_ours,
    is_under_way,
    is_wanted,
    note_stop,
    note_stopped,
    orphaned_runs,
    plan_run,
    was_tried,
)
from receiver.logs import get_logger, log_operation
from receiver.periodic import PeriodicTask
from receiver.reasons import Verdict
from receiver.rules.rule import Decision, Match, Mode, Rule
from receiver.rules.trial import TAG

EVERY_SECONDS = 60.0
LISTS_EVERY = 60  # sweeps: once an hour Edgegap's list is read, too
MAX_LOOKED_UP = 50  # deployments whose tags the list does not show

log = get_logger()


class NotTried(ReceiverError):
    """The version cannot be tried, or not so now; the message says why."""


def log_requested(app: str, version: str, recorded: RecordedDelivery, source: str) -> None:
    """Log and count a trial by hand that is in the ledger."""
    metrics.count_delivery(COMMAND, recorded.ruling.verdict, recorded.ruling.reason)
    facts = {"app": app, "version": version, "delivery": recorded.delivery}
    log_operation("trial_requested", source=source, **facts)


def try_version(
    tx: Tx,
    rules: Sequence[Rule],
    app: str,
    version: str,
    *,
    near: str | None,
    keep: int | None,
    by: str | None = None,
) -> RecordedDelivery:
    """Record that a person, `by`, wants a version tried; the worker does it.

    `near` is a valid location, None for that of the rule. The deployment runs on for `keep` (ms)
    after the verdict; neither is possible for a trial that is under way. Raises NotTried.
    """
    found = read_target(tx, app, version)
    if found is None or found.mode != Mode.CREATE:
        raise NotTried(
            f"the ledger knows no version {version} of the app {app}; `receiver deliveries "
            f"--app {app}` lists those it knows. A channel is tried under the name of its version"
        )
    if found.deleted_at is not None:
        raise NotTried(
            f"{app}/{version} was deleted since: `receiver push {found.repository}:{found.tag}` "
            "creates it again"
        )
    able = [rule for rule in rules if rule.app == app and rule.repository == found.repository]
    rule = rule_to_repeat(tx, able, found.registration)
    if rule is None:
        raise NotTried(f"no rule maps {found.repository} to the app {app}: write one and reload")
    if near is None and rule.trial is None:
        raise NotTried(
            f"the rule {rule.name} has no [rule.trial]: say where to deploy, such as "
            "--at 45.5,-73.6, or add the table and reload"
        )
    if (near is not None or keep is not None) and is_under_way(tx, app, version, found.image):
        raise NotTried(
            f"{app}/{version} is being tried already, with other options: "
            "wait until that trial is over (`receiver show` shows it), then request it again"
        )
    sentence = f"A trial of {app}/{version} was requested."
    match = Match(rule.name, app, version, Mode.TRIAL)
    delivery = NewDelivery(
        source=COMMAND,
        repository=found.repository,
        tag=found.tag,
        pushed_at=found.push_time,  # it is no new push
        digest=found.digest,
        requested_by=by,
    )
    recorded = record(
        tx,
        delivery,
        Decision(Verdict.ACCEPTED, sentence=sentence, matches=(match,)),
        push_time=found.push_time,
    )
    (registration,) = recorded.registrations
    set_digest(tx, registration, found.digest, overwritten=False)
    if near is not None or keep is not None:
        plan_run(tx, registration, near=near or "", keep=keep)
    return recorded


class TrialSweep:
    """Stops deployments of trials that nobody works on any more, each minute and at the start.

    A trial stops its own deployment, unless that is kept after the verdict: then this does once its
    time is over. It also finds what is left when its registration was dismissed or parked
    meanwhile, and what Edgegap started although the receiver never saw its response. Only
    deployments of the ledger's registrations are stopped.
    """

    def __init__(self, ledger: Ledger, current: LiveSettings, client: EdgegapClient) -> None:
        self._ledger = ledger
        self._current = current
        self._client = client
        self._sweeps = 0
        self.background = PeriodicTask(
            self._once, every=lambda: EVERY_SECONDS, fault="trial_sweep_fault"
        )

    async def _once(self) -> None:
        async with self._ledger.try_lock("trials") as mine:
            if mine:
                await self.run(with_list=self._sweeps % LISTS_EVERY == 0)
                self._sweeps += 1

    async def end(self) -> None:
        """Stop all deployments, unless a replica is running that watches them after this process.

        This process must have left the replicas.
        """
        if not await self._ledger.read(is_any_running):
            for run in await self._ledger.read(partial(orphaned_runs, at_end=True)):
                await self._stop_run(run)

    async def run(self, *, with_list: bool) -> int:
        """Stop what is left; return how many deployments were found. `with_list`: ask Edgegap."""
        left = await self._ledger.read(orphaned_runs)
        found = 0
        for run in left:
            found += await self._stop_run(run)
        if with_list and await self._has_trials():
            listed = await deployments_tagged(self._client, TAG)
            if listed.value is not None:
                found += await self._stop_listed(listed.value)
        return found

    async def _has_trials(self) -> bool:
        """Return whether there may be any: without, Edgegap is not called."""
        if any(rule.trial is not None for rule in self._current.settings.rules):
            return True
        return await self._ledger.read(was_tried)

    async def _stop_run(self, run: OrphanedRun) -> int:
        """Stop the deployments of a run; note it once Edgegap shows none any more.

        The one that is known is stopped also while Edgegap's list cannot be read.
        """
        known = {run.request_id} if run.request_id is not None else set()
        there = {one for one in known if await self._is_there(one)}
        for request_id in there:
            await self._stop_left(run, request_id)
        listed = await deployments_of(self._client, run.app, run.version)
        if listed.value is None or not listed.value.complete:
            return len(there)
        tags = await self._tags(listed.value)
        ours = {one for one, found in tags.items() if run.registration in found}
        ours |= known & {row.request_id for row in listed.value.rows}
        for request_id in ours - there:
            await self._stop_left(run, request_id)
        if not there | ours and not run.may_appear:
            await self._ledger.write(lambda tx: note_stopped(tx, run.id))
        return len(there | ours)

    async def _stop_left(self, run: OrphanedRun, request_id: str) -> None:
        if await self._ledger.write(partial(note_stop, left=run, request_id=request_id)):
            await self._stop(request_id, run.registration, expected=run.is_kept)

    async def _stop_listed(self, listed: Deployments) -> int:
        found = 0
        for request_id, tags in (await self._tags(listed)).items():
            registration = await self._ledger.read(
                lambda tx, one=request_id, known=tags: _left_by(tx, one, known)  # type: ignore[misc]
            )
            if registration is not None:
                found += 1
                await self._stop(request_id, registration)
        return found

    async def _tags(self, listed: Deployments) -> dict[str, frozenset[str]]:
        """Return the tags of each deployment; those that the list does not show are looked up."""
        tags = {row.request_id: row.tags for row in listed.rows if row.tags is not None}
        for request_id in listed.without_tags[:MAX_LOOKED_UP]:
            seen = await status(self._client, request_id)
            if seen.value is not None and seen.value.tags is not None:
                tags[request_id] = seen.value.tags
        return tags

    async def _is_there(self, request_id: str) -> bool:
        seen = await status(self._client, request_id)
        if seen.meaning is Meaning.GONE:
            return False
        return seen.value is None or seen.value.state is not DeploymentState.TERMINATED

    async def _stop(self, request_id: str, registration: str, *, expected: bool = False) -> None:
        read = await stop(self._client, request_id)
        stopped = read.meaning in {Meaning.DONE, Meaning.GONE}
        if stopped and expected:
            return
        facts = {"deployment": request_id, "registration": registration, "stopped": stopped}
        log.warning("trial_left_behind", **facts, message=read.answer.message)


def _left_by(tx: Tx, request_id: str, tags: Iterable[str]) -> str | None:
    """Return the registration of ours that does not want this deployment any more, if any."""
    own = (tag for tag in tags if tag != TAG and is_ours(tx, tag))
    return next((tag for tag in own if not is_wanted(tx, tag, request_id)), None)

"""Pruning: old versions that this receiver created are deleted, the oldest first.

Each deletion is decided on twice: from a plan, and again in the transaction that locks the target
right before the DELETE. A version is kept unless it is certain that it has no running deployments,
and if Edgegap refuses to delete it (a matchmaker may use it).
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from http import HTTPStatus

import msgspec
from msgspec.structs import replace

from receiver.config.settings import LiveSettings, Settings
from receiver.edgegap.client import EdgegapClient
from receiver.edgegap.in_time import LIMIT_SECONDS, in_time
from receiver.edgegap.listing import running_in
from receiver.edgegap.plans import same_image
from receiver.edgegap.responses import Answer, version_path
from receiver.errors import ReceiverError
from receiver.ledger import gates
from receiver.ledger.deletions import (
    CALL_MS,
    Deletion,
    begin_deletion,
    end_deletion,
    is_in_use,
    leave_open,
    note_deletion,
    take_overdue,
)
from receiver.ledger.ledger import Ledger
from receiver.ledger.outbox import enqueue
from receiver.ledger.targets import live_targets, moving_targets, oldest_and_newest, read_target
from receiver.ledger.transaction import Tx
from receiver.logs import get_logger, log_operation
from receiver.notifications.destinations import NotificationEvent, wanting
from receiver.pipeline.retry import (
    BUSY,
    TOKEN_REFUSED,
    Action,
    Operation,
    Policy,
    policy_for,
    resolve_forbidden,
    summary_of,
)
from receiver.reasons import Reason, explain
from receiver.rules.retention import (
    Prunable,
    Retention,
    Target,
    channel_names,
    prunable,
    why_kept,
)
from receiver.rules.rule import Rule

ALREADY_GONE = "it was no longer at Edgegap"
NO_ANSWER = "Edgegap did not confirm that it was deleted; this is checked within a minute"
STILL_THERE = "Edgegap did not confirm that it was deleted, and still has it"
IN_USE = "a newer push, a registration or another deletion of it came in between"
TIMEOUT_SECONDS = 60.0  # while another replica prunes
REFUSALS = frozenset({400, 401, 403, 409, 422, 424, 429})  # after these nothing was deleted
FROM_A_GATEWAY = frozenset({408, 502, 503, 504})  # after these it may still be deleted

FIRST_EXAMINED, MAX_EXAMINED = 128, 2048  # versions at each end, for a page
COUNTED_AT_ONCE = 4
MAX_BATCH = 50  # five calls for each, at Edgegap's pace

log = get_logger()


class RetentionBusy(ReceiverError):
    """Another run is deleting versions, and did not end in time."""


class RetryLater(RetentionBusy):
    """Edgegap may not be called now, or did not respond: the policy says what to do.

    `wait` is the wait that Edgegap requested (ms), None if it requested none.
    """

    def __init__(self, policy: Policy, wait: int | None = None, detail: str = "") -> None:
        self.policy = policy
        self.wait = wait
        self.detail = detail
        self.why = explain(policy.reason or Reason.EDGEGAP_ERROR, detail=detail)
        super().__init__(f"nothing was deleted: {self.why}")


class Pruned(msgspec.Struct, frozen=True):
    """The result for one version to delete: whether it was deleted, and why or why not.

    `unsure`: it was kept because Edgegap did not say whether it may be deleted.
    """

    app: str
    version: str
    deleted: bool
    why: str
    unsure: bool = False


class Scope(msgspec.Struct, frozen=True):
    """What to delete: up to `most` versions of the app beyond the newest `keep`.

    Without `keep`, each rule's own `keep` counts. `pushed_by`: no version that was pushed later
    (epoch ms). `only`: only these versions. `why` replaces the usual reason. `by` is the person who
    requested it, empty if nobody did.
    """

    app: str
    most: int
    keep: int | None = None
    pushed_by: int | None = None
    only: Collection[str] | None = None
    why: str = ""
    by: str = ""


def rules_for_app(settings: Settings, app: str) -> list[Rule]:
    """Return the rules that create versions of the app."""
    return [rule for rule in settings.rules if rule.app == app]


def keep_count(settings: Settings, app: str) -> int | None:
    """Return how many versions of the app are kept: the largest `keep` of its rules, or None."""
    return max((rule.keep for rule in rules_for_app(settings, app) if rule.keep), default=None)


async def plan(ledger: Ledger, settings: Settings, scope: Scope) -> list[Prunable]:
    """Return the versions that would be deleted, before running deployments are checked."""
    return await ledger.read(lambda tx: _plan(tx, settings, scope))


class PrunePreview(msgspec.Struct, frozen=True):
    """The first versions that would be deleted, oldest first; `more`: perhaps there are more.

    `why`: why each version is kept, as far as the versions that were read show it.
    """

    planned: tuple[Prunable, ...] = ()
    more: bool = False
    why: Mapping[str, Retention] = msgspec.field(default_factory=dict)


async def prune_preview(ledger: Ledger, settings: Settings, scope: Scope) -> PrunePreview:
    """Return the first `most` versions of the plan, for a page: it does not read all versions."""
    return await ledger.read(lambda tx: read_prune_preview(tx, settings, scope))


def read_prune_preview(tx: Tx, settings: Settings, scope: Scope) -> PrunePreview:
    """Plan with the oldest and the newest versions, and all channels.

    Each version of this plan is in the whole plan, too: there are only more newer versions. The
    part that is read grows until it contains enough, and is limited.
    """
    rules = rules_for_app(settings, scope.app)
    kept = scope.keep or sum(rule.keep or 0 for rule in rules)
    size = max(FIRST_EXAMINED, 2 * scope.most + kept)
    largest = max(MAX_EXAMINED, size)
    moving = moving_targets(tx, scope.app, channel_names(rules))
    names = {target.version for target in moving}
    while True:
        oldest, newest = oldest_and_newest(tx, scope.app, size)
        own = [target for target in (*oldest, *newest) if target.version not in names]
        found = _planned([*moving, *own], rules, scope)
        is_all = len(oldest) + len(newest) < 2 * size
        first = {target.version for target in oldest}
        if not is_all:  # of the newest, which are not the next, only the number counts
            found = [one for one in found if one.target.version in first]
        if is_all or len(found) > scope.most or size >= largest:
            break
        size = min(largest, 4 * size)
    more = len(found) > scope.most or not is_all
    why = why_kept([*moving, *own], rules)
    if not is_all:  # versions between those that were read may be newer, or reported later
        why = {
            version: kept
            for version, kept in why.items()
            if kept is not Retention.REPORTED_LAST
            and not (kept is Retention.NEWEST and version in first)
        }
    return PrunePreview(tuple(found[: scope.most]), more, why)


async def prune(
    ledger: Ledger, client: EdgegapClient, current: LiveSettings, scope: Scope
) -> list[Pruned]:
    """Delete the versions in scope; return each result. Versions already gone do not count.

    Only one run at a time: two runs would rely on the same free version. Raises RetentionBusy;
    RetryLater if Edgegap may not be called and nothing was deleted yet: later, the last result says
    so.
    """
    results: list[Pruned] = []
    async with ledger.lock("retention", TIMEOUT_SECONDS) as mine:
        if not mine:
            raise RetentionBusy("versions are being deleted just now; try again in a minute")
        while sum(map(_counts, results)) < scope.most:
            tried = {one.version for one in results}
            next_one = await ledger.read(partial(_next, current.settings, scope, tried))
            if next_one is None:
                break
            try:
                await _check_gates(ledger)
                result = await _Deleting(ledger, client, current, scope, next_one).run()
            except RetryLater as later:
                if not any(one.deleted for one in results):
                    raise
                results.append(
                    Pruned(scope.app, next_one.target.version, deleted=False, why=later.why)
                )
                break
            results.append(result)
            event = "version_deleted" if result.deleted else "version_kept"
            log.info(event, app=scope.app, version=result.version, why=result.why)
    return results


def running_in_words(count: int) -> str:
    """Return how many deployments of a version are running."""
    if count == 1:
        return "1 deployment of it is running"
    return f"{count} deployments of it are running" if count else "no deployment of it is running"


async def count_running(
    ledger: Ledger, client: EdgegapClient, app: str, versions: Sequence[str]
) -> dict[str, int | None]:
    """Return how many deployments of each version are running, None if that is not known in time.

    Edgegap is not asked while a gate is closed, and no more after a 429.
    """
    counts: dict[str, int | None] = dict.fromkeys(versions)

    async def count(version: str) -> None:
        answer = await respected(ledger, await client.deployments(app, version))
        counts[version] = running_in(answer)

    async def count_all() -> None:
        await _check_gates(ledger)
        for first in range(0, len(versions), COUNTED_AT_ONCE):
            await asyncio.gather(*map(count, versions[first : first + COUNTED_AT_ONCE]))

    with suppress(RetryLater):
        await in_time(count_all())
    return counts


def before_deletion(running: int | None) -> str:
    """Return how many deployments of a version are running, and what that means for a deletion."""
    if running is None:
        said = f"Edgegap did not say within {LIMIT_SECONDS:g} seconds"
        return f"{said} how many deployments of it are running; it is kept unless none are"
    return running_in_words(running) + (", so it is kept" if running else "")


def log_pruned(app: str, results: Sequence[Pruned], *, source: str) -> None:
    """Log that a person had old versions deleted."""
    deleted = [one.version for one in results if one.deleted]
    kept = [one.version for one in results if not one.deleted]
    log_operation("pruned", source=source, app=app, deleted=deleted, kept=kept)


async def settle_overdue(ledger: Ledger, client: EdgegapClient, settings: Settings) -> None:
    """Check deletions that have no recorded response: their process may have stopped.

    Raises RetryLater if Edgegap may not be called now.
    """
    await _check_gates(ledger)
    for deletion in await ledger.write(take_overdue):
        look = await respected(ledger, await client.get_version(deletion.app, deletion.version))
        if _is_gone(look):
            await _end(ledger, settings, deletion, deleted=True, why=deletion.why)
        elif look.ok:
            await _end(ledger, settings, deletion, deleted=False, why=STILL_THERE)


async def respected(ledger: Ledger, answer: Answer) -> Answer:
    """Return the response; on a 429 all calls wait as it says, and RetryLater is raised."""
    if answer.says(HTTPStatus.TOO_MANY_REQUESTS):
        await ledger.write(partial(gates.respect, retry_after=answer.retry_after))
        raise RetryLater(BUSY, answer.retry_after)
    return answer


class _Deleting:
    """The deletion of one version: GET, lock, DELETE, and GET again."""

    def __init__(
        self,
        ledger: Ledger,
        client: EdgegapClient,
        current: LiveSettings,
        scope: Scope,
        planned: Prunable,
    ) -> None:
        self._ledger = ledger
        self._client = client
        self._current = current
        self._scope = scope
        self._target = planned.target
        by = f", requested by {scope.by}" if scope.by else ""
        self._why = (scope.why or planned.why) + by

    async def run(self) -> Pruned:
        app, version = self._scope.app, self._target.version
        look = await respected(self._ledger, await self._client.get_version(app, version))
        if _is_gone(look):
            return await self._ledger.write(self._note_gone)
        kept = self._kept(look)
        if kept is None:
            running = await self._client.deployments(app, version)
            kept = self._running(await respected(self._ledger, running))
        if kept is not None:
            return await self._ledger.write(partial(self._note, result=kept))
        begun = await self._ledger.write(self._begin)
        return begun if isinstance(begun, Pruned) else await self._delete(begun)

    def _result(self, why: str, *, deleted: bool = False, unsure: bool = False) -> Pruned:
        return Pruned(self._scope.app, self._target.version, deleted, why, unsure)

    def _kept(self, look: Answer) -> Pruned | None:
        """Return that the version is kept, by its GET; None if it may be deleted."""
        if not look.ok or look.body is None:
            return self._result(f"Edgegap could not be asked: {look.message}", unsure=True)
        if not same_image(look.body, self._target.image):
            return self._result("it has another image than this receiver gave it")
        return None

    def _running(self, answer: Answer) -> Pruned | None:
        """Return that deployments keep it, or that it is not known; None if there are none."""
        count = running_in(answer)
        if count is None:
            why = f"it is not certain whether anything of it runs: {answer.message}"
            return self._result(why, unsure=True)
        return self._result(running_in_words(count)) if count else None

    def _begin(self, tx: Tx) -> Deletion | Pruned:
        """Decide again, and lock the target."""
        if not self._may_go(tx):
            return self._note(tx, self._result(IN_USE))
        return begin_deletion(tx, self._scope.app, self._target.version, why=self._why)

    def _note_gone(self, tx: Tx) -> Pruned:
        """Record that somebody else deleted it, unless it has been created again since."""
        gone = self._may_go(tx)
        return self._note(tx, self._result(ALREADY_GONE if gone else IN_USE, deleted=gone))

    def _may_go(self, tx: Tx) -> bool:
        """Decide again, with claims locked out until the commit."""
        app, target = self._scope.app, self._target
        if is_in_use(tx, app, target.version, repository=target.repository, tag=target.tag):
            return False
        settings, scope = self._current.settings, self._scope
        return any(target == one.target for plan in _plans(tx, settings, scope) for one in plan)

    async def _delete(self, deletion: Deletion) -> Pruned:
        """Send the DELETE if there are still no deployments; it counts once the version is gone."""
        running = await self._client.deployments(deletion.app, deletion.version)
        kept = self._running(running)
        if kept is not None:
            await self._ended(deletion, kept)
            await respected(self._ledger, running)
            return kept
        answer = await self._send(deletion)
        refused = _refusal(answer)
        if refused is not None and answer.status in REFUSALS:
            ended = await self._ended(deletion, self._result(refused))
            await respected(self._ledger, answer)
            return ended
        look = await self._client.get_version(deletion.app, deletion.version)
        if _is_gone(look):
            return await self._ended(deletion, self._result(self._why, deleted=True))
        if refused is not None and look.ok:
            return await self._ended(deletion, self._result(refused))
        await self._ledger.write(partial(leave_open, deletion=deletion))
        return self._result(NO_ANSWER)

    async def _send(self, deletion: Deletion) -> Answer:
        try:
            async with asyncio.timeout(CALL_MS / 1000):
                return await self._client.delete(deletion.app, deletion.version)
        except TimeoutError:
            path = version_path(deletion.app, deletion.version)
            return Answer("DELETE", path, None, message="no answer in time")

    async def _ended(self, deletion: Deletion, result: Pruned) -> Pruned:
        settings, deleted = self._current.settings, result.deleted
        await _end(self._ledger, settings, deletion, deleted=deleted, why=result.why)
        return result

    def _note(self, tx: Tx, result: Pruned) -> Pruned:
        note_deletion(tx, result.app, result.version, deleted=result.deleted, why=result.why)
        return result


def _counts(one: Pruned) -> bool:
    """Return whether the result frees a version; an unconfirmed deletion may also do so."""
    return one.why == NO_ANSWER or (one.deleted and one.why != ALREADY_GONE)


def _plan(tx: Tx, settings: Settings, scope: Scope) -> list[Prunable]:
    return _planned(live_targets(tx, scope.app), rules_for_app(settings, scope.app), scope)


def _plans(tx: Tx, settings: Settings, scope: Scope) -> Iterator[Sequence[Prunable]]:
    """Yield the first versions of the plan, then the whole plan if that is not all of it."""
    old = read_prune_preview(tx, settings, scope)
    yield old.planned
    if old.more:
        yield _plan(tx, settings, scope)


def _next(settings: Settings, scope: Scope, tried: Collection[str], tx: Tx) -> Prunable | None:
    """Return the first version of the plan that was not tried."""
    plans = _plans(tx, settings, replace(scope, most=scope.most + len(tried)))
    return next((one for plan in plans for one in plan if one.target.version not in tried), None)


def _planned(targets: Iterable[Target], rules: Sequence[Rule], scope: Scope) -> list[Prunable]:
    found = prunable(targets, rules, scope.keep)
    if scope.pushed_by is not None:
        found = [one for one in found if one.target.push_time <= scope.pushed_by]
    if scope.only is not None:
        found = [one for one in found if one.target.version in scope.only]
    return found


async def _end(
    ledger: Ledger, settings: Settings, deletion: Deletion, *, deleted: bool, why: str
) -> None:
    """Record how a deletion ended; the replica that records one as carried out notifies of it."""

    def write(tx: Tx) -> list[str]:
        again = end_deletion(tx, deletion, deleted=deleted, why=why)
        if deleted and again is not None:
            rules = [rule.name for rule in rules_for_app(settings, deletion.app)]
            kind = NotificationEvent.DELETED
            text = f"{deletion.app}/{deletion.version} was deleted: {why}."
            target = read_target(tx, deletion.app, deletion.version)
            about = None if target is None else target.registration
            enqueue(tx, wanting(settings.notices, kind, rules), kind, text, about=about)
        return again or []

    again = await ledger.write(write)
    for registration in again:
        log.warning(
            "registration_queued_again",
            registration=registration,
            app=deletion.app,
            version=deletion.version,
            why="the version was deleted meanwhile",
        )


async def _check_gates(ledger: Ledger) -> None:
    """Raise RetryLater while a gate stops all work."""
    now, closed = await ledger.read(lambda tx: (tx.now, gates.closed_gates(tx)))
    if any(gate.name == gates.TOKEN for gate in closed):
        raise RetryLater(TOKEN_REFUSED, detail="as for another push")
    if closed:
        raise RetryLater(BUSY, max(0, closed[0].until - now))


def _is_gone(look: Answer) -> bool:
    """Return whether Edgegap itself, not a proxy, reports that there is no such version."""
    return look.says(HTTPStatus.NOT_FOUND)


def _refusal(answer: Answer) -> str | None:
    """Return why Edgegap did not delete the version; None if it did, or if that is unknown."""
    if answer.ok or answer.foreign or answer.status is None or answer.status in FROM_A_GATEWAY:
        return None
    message = answer.message or "it gave no reason"
    return f"Edgegap refused ({answer.status}): {message}; a matchmaker may use it"


async def why_refused(
    client: EdgegapClient, operation: Operation, answer: Answer, **facts: object
) -> tuple[Reason, str]:
    """Explain a failed response as an attempt would, for callers that only read.

    After a 403 the token is tested.
    """
    policy = policy_for(operation, answer)
    if policy.then is Action.CLOSE_GATE and answer.status == HTTPStatus.FORBIDDEN:
        policy, answer = resolve_forbidden(answer, await client.probe())
    reason = policy.reason or Reason.REFUSED_BY_EDGEGAP
    return reason, explain(reason, detail=summary_of(answer), **facts)

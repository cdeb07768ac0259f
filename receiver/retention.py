"""Retention: versions this receiver made are let go, the oldest first, and never one in use.

Where it cannot be told whether anything of a version runs, it is left. A refusal of Edgegap (a
matchmaker may hold the version) is recorded and left too.
"""

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus

from receiver.background import surviving
from receiver.edgegap.answers import Answer, version_path
from receiver.edgegap.client import EdgegapClient
from receiver.edgegap.versions import same_image
from receiver.errors import ReceiverError
from receiver.explanations import explain
from receiver.images import ImageReference
from receiver.keeping import Made, to_retire
from receiver.ledger import gates
from receiver.ledger.ledger import Ledger
from receiver.ledger.registrations import Claimed
from receiver.ledger.targets import Target, note_retirement, targets_of
from receiver.ledger.transactions import Tx
from receiver.logs import get_logger
from receiver.reasons import Reason, State
from receiver.rules import Rule
from receiver.settings import Current, Settings
from receiver.settling import Tried

GONE = 404
_LIMIT = re.compile(r"limit of (\d{1,6})", re.IGNORECASE)
GONE_ALREADY = "Edgegap has it no longer"
MOST_AT_ONCE = 20
PATIENCE_SECONDS = 60.0  # while another replica is at it

log = get_logger()


class NotItsTurn(ReceiverError):
    """Versions are being retired by another, and went on being so."""


@dataclass(frozen=True, slots=True)
class Retired:
    """One version that was to go: whether it went, and why or why not."""

    app: str
    version: str
    retired: bool
    why: str


def rules_of(settings: Settings, app: str) -> list[Rule]:
    """Return the rules that make versions of the app."""
    return [rule for rule in settings.rules if rule.app == app]


def kept_by(settings: Settings, app: str) -> int | None:
    """Return how many versions of the app are kept: the largest `keep` of its rules, or None."""
    return max((rule.keep for rule in rules_of(settings, app) if rule.keep), default=None)


async def would_go(
    ledger: Ledger, settings: Settings, app: str, keep: int | None = None
) -> list[Made]:
    """Return what would be retired of the app, before Edgegap is asked what runs.

    Without `keep`, what its rules keep counts, each for the versions it makes.
    """
    targets = await ledger.read(lambda tx: targets_of(tx, app))
    return to_retire(map(_made, targets), rules_of(settings, app), keep)


async def retire(
    ledger: Ledger,
    client: EdgegapClient,
    settings: Settings,
    app: str,
    *,
    keep: int | None,
    most: int,
    pushed_by: int | None = None,
) -> list[Retired]:
    """Retire up to `most` versions beyond the newest `keep`; return what came of each.

    `pushed_by`: none that was pushed later (epoch ms). What is gone already does not count.
    One at a time: two would count on the room of one version. Raises NotItsTurn, also where a gate
    holds all work back from the first; one that closes meanwhile ends it.
    """
    results: list[Retired] = []
    async with ledger.in_turn("retention", PATIENCE_SECONDS) as mine:
        if not mine:
            raise NotItsTurn("versions are being retired just now; try again in a minute")
        for made in await would_go(ledger, settings, app, keep):
            if sum(one.retired and one.why != GONE_ALREADY for one in results) >= most:
                break
            if pushed_by is not None and made.pushed_at > pushed_by:
                break
            closed = await ledger.read(gates.closed_gates)
            result = None if closed else await _unless_busy(ledger, client, app, made)
            if result is None and not results:
                why = closed[0].sentence if closed else explain(Reason.EDGEGAP_BUSY)
                raise NotItsTurn(f"nothing was retired: {why}")
            if result is None:
                break
            results.append(result)
            await ledger.write(partial(_note, result))
            event = "version_retired" if result.retired else "version_kept"
            log.info(event, app=app, version=result.version, why=result.why)
    return results


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

        Returns the attempt as going on when room was made, else as it was.
        """
        settings = self._current.settings
        rule = settings.rule_named(claimed.rule)
        limited = tried.settlement.reason is Reason.VERSION_LIMIT
        if rule is None or not rule.make_room or not limited or claimed.retired:
            return tried
        if not await self._one_is_enough(claimed.app, tried.settlement.sentence):
            return tried
        went: list[Retired] = []
        with surviving("retention_fault", app=claimed.app), suppress(NotItsTurn):
            went = await retire(
                self._ledger, self._client, settings, claimed.app,
                keep=1, most=1, pushed_by=claimed.push_time,
            )  # fmt: skip
        gone = next((one for one in reversed(went) if one.retired), None)
        return tried if gone is None else _going_on(tried, gone)

    async def _one_is_enough(self, app: str, sentence: str) -> bool:
        """Tell whether retiring one version gets below the limit that Edgegap named."""
        limit = _LIMIT.search(sentence)
        if limit is None:
            return True
        versions, calls = await self._client.versions(app)
        return calls[-1].ok and len(versions) <= int(limit[1])

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


async def _unless_busy(
    ledger: Ledger, client: EdgegapClient, app: str, made: Made
) -> Retired | None:
    """Retire one; None where Edgegap asks to be called less often, which then holds for all."""
    try:
        return await _retire_one(client, app, made)
    except _Busy as busy:
        await ledger.write(partial(gates.heed, retry_after=busy.retry_after))
        return None


class _Busy(Exception):
    """Edgegap asks to be called less often."""

    def __init__(self, retry_after: int | None) -> None:
        super().__init__()
        self.retry_after = retry_after


def _heeded(answer: Answer) -> Answer:
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        raise _Busy(answer.retry_after)
    return answer


async def _retire_one(client: EdgegapClient, app: str, made: Made) -> Retired:
    def left(why: str) -> Retired:
        return Retired(app, made.version, retired=False, why=why)

    look = _heeded(await client.look(app, made.version))
    if look.status == GONE:
        return Retired(app, made.version, retired=True, why=GONE_ALREADY)
    image = ImageReference(repository=made.repository, tag=made.tag)
    if not look.ok or look.body is None:
        return left(f"Edgegap could not be asked: {look.message}")
    if not same_image(look.body, image):
        return left("it holds another image than this receiver put there")
    running = _heeded(await client.deployments(app, made.version))
    count = _count(running)
    if count is None:
        return left(f"it cannot be told whether anything of it runs: {running.message}")
    if count:
        return left(f"{count} deployments of it run")
    gone = _heeded(await client.delete(app, made.version))
    if gone.ok or gone.status == GONE:
        return Retired(app, made.version, retired=True, why="beyond what is kept")
    return left(f"Edgegap refused ({gone.status}): {gone.message}; a matchmaker may hold it")


def _note(result: Retired, tx: Tx) -> None:
    note_retirement(tx, result.app, result.version, retired=result.retired, why=result.why)


def _count(answer: Answer) -> int | None:
    """Return how many deployments an answer tells of; None where it cannot be relied upon."""
    if not answer.ok or answer.body is None:
        return None
    rows, total = answer.body.get("data"), answer.body.get("total_count")
    if not isinstance(rows, list) or type(total) is not int or total < 0:
        return None
    return max(len(rows), total)


def _made(target: Target) -> Made:
    return Made(
        version=target.version,
        mode=target.mode,
        repository=target.repository,
        tag=target.tag,
        made_here=target.created_here,
        made_at=target.made_at,
        pushed_at=target.push_time,
        retired=target.retired_at is not None,
    )

"""Manual operations: push, replay, dismiss, move or release a channel, pause, resume, open a gate.

The page, the API and the commands call these, also a command without a running server.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Annotated, Any

import msgspec

from receiver import metrics
from receiver.config.settings import LiveSettings
from receiver.dockerhub.api import Hub
from receiver.dockerhub.http import DockerHubUnavailable
from receiver.dockerhub.webhook import Push
from receiver.images import ImageReference
from receiver.ledger import gates
from receiver.ledger.deliveries import COMMAND, RecordedDelivery
from receiver.ledger.gates import open_gate, probe_now
from receiver.ledger.ledger import Ledger
from receiver.ledger.parked import dismiss_parked, parked_ids, reopen
from receiver.ledger.transaction import Tx
from receiver.ledger.views import Changed, RegistrationId, described
from receiver.logs import Source, log_operation, requested_by
from receiver.pipeline.intake import take
from receiver.reasons import Outcome
from receiver.rules.channel_order import ManualAction
from receiver.rules.rule import Rule, TargetKey
from receiver.timestamps import Time
from receiver.upkeep.catch_up import credentials_for
from receiver.upkeep.channels import log_moved, pause_repository, release
from receiver.upkeep.replay import Replayed, ReplayedDeliveries, replay_selected, selected

TIMEOUT_SECONDS = 5.0
MAX_NAMED = 20
MAX_BATCH = 100  # in a transaction
MAX_IN_REQUEST = 200  # of what no id names: then a request is answered in a few seconds
PausedSince = Annotated[
    dict[str, Time], described("Since when each repository is paused; * is all repositories.")
]


class Requester(msgspec.Struct, frozen=True):
    """The source of an operation (`page`, `api` or `command`), and the user's name if known."""

    source: str
    name: str = ""

    def __str__(self) -> str:
        """Return the source as it is recorded: `command (anna)`."""
        return f"{self.source} ({self.name})" if self.name else requested_by(self.source)


class Dismissed(Changed, frozen=True):
    """What was dismissed."""

    next: Annotated[
        RegistrationId | None,
        described("Pass it as `after` to dismiss the rest; null if this was all."),
    ] = None


async def dismiss(
    ledger: Ledger,
    asker: Requester,
    ids: Sequence[str] = (),
    *,
    everything: bool = False,
    reason: str | None = None,
    after: str | None = None,
) -> Dismissed:
    """Close the parked registrations among these registrations and deliveries.

    `everything`: also close the next parked registrations after that one, or the next with this
    reason if it is given.
    """
    by = str(asker)
    parts: list[Changed] = []

    def note(part: Changed) -> None:
        parts.append(part)
        metrics.count_closed(Outcome.DISMISSED, len(part.registrations))
        _log("dismissed", asker, part)

    for some in _in_parts(ids):
        note(await ledger.write(partial(dismiss_parked, identities=some, by=by)))
    last = after or "" if everything else None
    for _ in range(0, MAX_IN_REQUEST, MAX_BATCH):
        if last is not None:
            part, last = await ledger.write(
                partial(_dismiss_next, reason=reason, after=last, by=by)
            )
            note(part)
    return Dismissed(**joined(parts), next=last)


def joined(parts: Sequence[Changed]) -> dict[str, Any]:
    """Return the fields of several changes as those of one."""
    names = Changed.__struct_fields__
    return {name: tuple(chain(*(getattr(one, name) for one in parts))) for name in names}


def _dismiss_next(tx: Tx, *, reason: str | None, after: str, by: str) -> tuple[Changed, str | None]:
    """Close the next parked registrations after this one; return the last of them, None at the end.

    There may be a hundred thousand: in one transaction no push would be accepted meanwhile.
    """
    some = parked_ids(tx, reason, after=after, most=MAX_BATCH)
    return dismiss_parked(tx, some, by), some[-1] if len(some) == MAX_BATCH else None


def _in_parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield the ids in parts, each of which is one transaction: accepts go on in between."""
    chosen = list(dict.fromkeys(ids))
    for first in range(0, len(chosen), MAX_BATCH):
        yield chosen[first : first + MAX_BATCH]


async def undo_dismissal(ledger: Ledger, asker: Requester, ids: Sequence[str]) -> Changed:
    """Park the dismissed registrations among these registrations and deliveries again.

    A registration that a later push has made obsolete ends as `superseded`.
    """
    changed = await ledger.write(lambda tx: reopen(tx, ids))
    metrics.count_closed(Outcome.SUPERSEDED, len(changed.superseded))
    _log("dismissal_undone", asker, changed)
    return changed


def _log(operation: str, asker: Requester, changed: Changed) -> None:
    changed_ones = changed.registrations + changed.superseded
    if changed_ones:
        ids = [one.id for one in changed_ones]
        log_operation(operation, source=asker.source, by=asker.name or None, registrations=ids)


async def manual_push(hub: Hub, rules: Sequence[Rule], image: ImageReference) -> Push:
    """Return the push, with its time at Docker Hub if a rule needs the time.

    The push has no time if its rules move no channel and prune no versions, if they have no
    preflight, or if Docker Hub is unavailable.
    """
    push = Push(image.repository, image.tag)
    own = [rule for rule in rules if rule.repository == image.repository and rule.preflight]
    if not any(rule.channels or rule.keep is not None or rule.make_room for rule in own):
        return push
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            tag = await hub.tag(
                image.repository, image.tag, credentials_for(rules, image.repository)
            )
    except (TimeoutError, DockerHubUnavailable):
        return push
    if tag is None:
        return push
    return Push(image.repository, image.tag, pushed_at=tag.pushed_at)


class PausedRepositories(msgspec.Struct, frozen=True):
    """The current gates."""

    paused: PausedSince


class Resumed(msgspec.Struct, frozen=True):
    """Whether the repository was paused, and the current gates."""

    resumed: bool
    paused: PausedSince


class Manual(msgspec.Struct, frozen=True):
    """Operations on a ledger. `wake` wakes the worker; `forget` also clears its caches."""

    ledger: Ledger
    current: LiveSettings
    wake: Callable[[], None]
    forget: Callable[[], None]

    async def push(self, hub: Hub, image: ImageReference, source: Source) -> RecordedDelivery:
        """Record a push as if Docker Hub had reported it, with the same notifications."""
        settings = self.current.settings
        push = await manual_push(hub, settings.rules, image)
        recorded = await take(
            self.ledger,
            settings.rules,
            push,
            source=COMMAND,
            notices=settings.notices,
            requested_by=requested_by(source),
        )
        self.wake()
        log_operation("pushed", source=source, image=str(image), delivery=recorded.delivery)
        return recorded

    async def replay(
        self,
        ids: Sequence[str],
        source: Source,
        *,
        parked: bool = False,
        since: int | None = None,
        after: str | None = None,
    ) -> ReplayedDeliveries:
        """Replay these deliveries, and the next that are parked or came since then (epoch ms).

        `after` is the last one of those that were replayed before.
        """
        rules = self.current.settings.rules
        await self.ledger.write(probe_now)  # a person may have fixed the cause, such as the token
        last, most = after or "", MAX_IN_REQUEST
        chosen, following = await self.ledger.read(
            lambda tx: selected(tx, ids, parked=parked, since=since, after=last, most=most)
        )
        found: dict[str, Replayed | None] = {}
        for some in _in_parts(list(chosen)):
            part = {one: chosen[one] for one in some}
            found |= await self.ledger.write(partial(replay_selected, rules=rules, chosen=part))
        done = ReplayedDeliveries(
            tuple(one for one in found.values() if one is not None),
            tuple(identity for identity, one in found.items() if one is None),
            following,
        )
        self.forget()
        if done.replayed:
            named = [one.delivery for one in done.replayed[:MAX_NAMED]]
            log_operation("replayed", source=source, count=len(done.replayed), deliveries=named)
        return done

    async def move_channel(
        self,
        channel: TargetKey,
        source: Source,
        move: Callable[[Tx], tuple[ManualAction, RecordedDelivery]],
    ) -> RecordedDelivery:
        """Record and queue the move that `move` decides on; raises ChannelNotMoved."""
        action, recorded = await self.ledger.write(move)
        log_moved(action, *channel, recorded, source)
        self.wake()
        return recorded

    async def release_channel(
        self,
        channel: TargetKey,
        source: Source,
        check: Callable[[Tx], None] = lambda _: None,
    ) -> str:
        """Release a held channel; return what moves it next. Raises ChannelNotMoved.

        `check` may raise it, too: the channel is not as the person saw it.
        """
        rules = self.current.settings.rules

        def write(tx: Tx) -> str:
            check(tx)
            return release(tx, rules, *channel)

        sentence = await self.ledger.write(write)
        log_operation("released", source=source, app=channel[0], channel=channel[1])
        return sentence

    async def pause(self, repository: str, source: Source) -> PausedRepositories:
        """Pause the registrations of a repository, or of `*`; raises UnknownRepository."""
        rules, requester = self.current.settings.rules, requested_by(source)

        def write(tx: Tx) -> PausedRepositories:
            pause_repository(tx, repository, rules, requester)
            return PausedRepositories(gates.paused(tx))

        paused = await self.ledger.write(write)
        log_operation("paused", source=source, repository=repository)
        return paused

    async def resume(self, repository: str, source: Source) -> Resumed:
        """Resume the registrations of a repository, or of all."""

        def write(tx: Tx) -> Resumed:
            return Resumed(gates.resume(tx, repository), gates.paused(tx))

        done = await self.ledger.write(write)
        self.wake()
        if done.resumed:
            log_operation("resumed", source=source, repository=repository)
        return done

    async def open_gate(self, name: str, source: Source) -> bool:
        """Open a gate, so that its work continues; return False if the gate was open."""
        opened = await self.ledger.write(partial(open_gate, name=name))
        self.wake()
        if opened:
            log_operation("gate_opened", source=source, gate=name)
        return opened

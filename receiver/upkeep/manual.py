"""What a person asks for by hand: push, replay, pause, resume, open a gate. Each exists once, here.

The page, the API and the commands call these; a command without a running server, too.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from receiver.by_hand import push_by_hand
from receiver.dockerhub.hub import Hub
from receiver.images import ImageReference
from receiver.intake import take
from receiver.ledger import pauses
from receiver.ledger.gates import open_gate
from receiver.ledger.ledger import Ledger
from receiver.ledger.recording import COMMAND, Recorded
from receiver.ledger.transactions import Tx
from receiver.replaying import Replayed, replay_chosen
from receiver.settings import Current
from receiver.steering import pause_known
from receiver.upkeep.operations import Source, log_operation

MOST_NAMED = 20


def _nothing() -> None:
    """Wake nobody: no server runs here."""


@dataclass(frozen=True, slots=True)
class Manual:
    """Operations on a ledger. `wake` has the worker look for work, `forget` read all again too."""

    ledger: Ledger
    current: Current
    wake: Callable[[], None] = _nothing
    forget: Callable[[], None] = _nothing

    async def push(self, hub: Hub, image: ImageReference, source: Source) -> Recorded:
        """Record a push as if Docker Hub had reported it, with the same notifications."""
        settings = self.current.settings
        push = await push_by_hand(hub, settings.rules, image)
        recorded = await take(
            self.ledger, settings.rules, push, source=COMMAND, notices=settings.notices
        )
        self.wake()
        log_operation("pushed", source=source, image=str(image), delivery=recorded.delivery)
        return recorded

    async def replay(
        self, ids: Sequence[str], source: Source, *, parked: bool = False, since: int | None = None
    ) -> tuple[list[Replayed], list[str]]:
        """Replay these deliveries, all that are parked, all since then (epoch ms).

        Returns with it the ids that do not exist.
        """
        rules = self.current.settings.rules
        replayed, missing = await self.ledger.write(
            lambda tx: replay_chosen(tx, rules, ids, parked=parked, since=since)
        )
        self.forget()
        if replayed:
            named = [one.delivery for one in replayed[:MOST_NAMED]]
            log_operation("replayed", source=source, count=len(replayed), deliveries=named)
        return replayed, missing

    async def pause(self, repository: str, source: Source) -> dict[str, int]:
        """Hold back the registrations of a repository, or of `*`; return what is paused now.

        Times are epoch milliseconds. Raises CannotPause.
        """
        rules = self.current.settings.rules

        def write(tx: Tx) -> dict[str, int]:
            pause_known(tx, repository, rules)
            return pauses.paused(tx)

        paused = await self.ledger.write(write)
        log_operation("paused", source=source, repository=repository)
        return paused

    async def resume(self, repository: str, source: Source) -> tuple[bool, dict[str, int]]:
        """Let them go on; return whether they were paused, and what is paused now."""

        def write(tx: Tx) -> tuple[bool, dict[str, int]]:
            return pauses.resume(tx, repository), pauses.paused(tx)

        resumed, paused = await self.ledger.write(write)
        self.wake()
        if resumed:
            log_operation("resumed", source=source, repository=repository)
        return resumed, paused

    async def open_gate(self, name: str, source: Source) -> bool:
        """Let work go on that a gate holds back; False if it is open."""
        opened = await self.ledger.write(partial(open_gate, name=name))
        self.wake()
        if opened:
            log_operation("gate_opened", source=source, gate=name)
        return opened

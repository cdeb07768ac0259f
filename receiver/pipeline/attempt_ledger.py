"""The ledger, as an attempt at one registration uses it."""

from collections.abc import Callable
from functools import partial

import msgspec

from receiver.ledger.claims import Claimed
from receiver.ledger.ledger import Ledger
from receiver.ledger.results import record_request
from receiver.ledger.sent_settings import size_before
from receiver.ledger.targets import NotCopied, not_copied


class LeaseLost(Exception):
    """Another worker owns the registration now: this one must send nothing more for it."""


class AttemptLedger(msgspec.Struct, frozen=True):
    """The ledger of an attempt, None if there is none yet.

    `now` returns the ledger's time (epoch ms). `owner` is the worker that claimed the registration,
    None in a dry run, which sends nothing.
    """

    ledger: Ledger | None
    claimed: Claimed
    now: Callable[[], int]
    owner: str | None = None

    async def record_request(self, step: int, method: str, path: str) -> None:
        """Record a write on disk, before it is sent; raises LeaseLost."""
        if self.ledger is None or self.owner is None:
            return
        write = partial(
            record_request,
            claimed=self.claimed,
            owner=self.owner,
            step=step,
            method=method,
            path=path,
        )
        if not await self.ledger.write(write):
            raise LeaseLost

    async def not_copied(self, app: str) -> NotCopied:
        """Return which versions of the app settings are not copied from."""
        if self.ledger is None:
            return NotCopied()
        return await self.ledger.read(partial(not_copied, app=app))

    async def size_before(self) -> tuple[str, int] | None:
        """Return the previous version and the size of its image, None if it is not known."""
        if self.ledger is None:
            return None
        app, version, image = self.claimed.app, self.claimed.version, self.claimed.image
        mode = self.claimed.mode
        read = partial(size_before, app=app, version=version, image=image, mode=mode)
        return await self.ledger.read(read)

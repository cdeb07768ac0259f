"""The ledger, as an attempt at one registration uses it."""

from collections.abc import Callable
from functools import partial

import msgspec

from receiver.ledger.ledger import Ledger
from receiver.ledger.registrations import Claimed
from receiver.ledger.sent_settings import size_before
from receiver.ledger.targets import NotCopied, not_copied


class AttemptLedger(msgspec.Struct, frozen=True):
    """The ledger of an attempt that sends nothing; None if there is none yet.

    `now` returns the ledger's time (epoch ms).
    """

    ledger: Ledger | None
    claimed: Claimed
    now: Callable[[], int]

    async def record_request(self, step: int, method: str, path: str) -> None:
        """Record a write on disk, before it is sent; nothing, because nothing is sent."""

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

"""The ledger of an attempt that is tested without one: it knows nothing, and records nothing."""

from collections.abc import Callable
from typing import cast

from receiver.ledger.claims import Claimed
from receiver.pipeline.attempt_ledger import AttemptLedger


class _EmptyLedger(AttemptLedger, frozen=True, kw_only=True):
    record: Callable[[str], None]

    async def record_request(self, step: int, method: str, path: str) -> None:
        self.record(method)


def empty_ledger(
    now: Callable[[], int], record: Callable[[str], None] = lambda method: None
) -> AttemptLedger:
    """Its time is what `now` returns; each request that is about to be sent goes to `record`."""
    return _EmptyLedger(None, cast("Claimed", None), now, record=record)

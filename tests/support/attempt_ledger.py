"""The ledger of an attempt that is tested without one: it knows nothing, and records nothing."""

from collections.abc import Callable
from dataclasses import dataclass

from receiver.ledger.targets import NotCopied


@dataclass(frozen=True)
class EmptyLedger:
    """Its time is what `now` returns; each request that is about to be sent goes to `record`."""

    now: Callable[[], int]
    record: Callable[[str], None] = lambda method: None

    async def record_request(self, step: int, method: str, path: str) -> None:
        self.record(method)

    async def not_copied(self, app: str) -> NotCopied:
        return NotCopied()

    async def size_before(self) -> tuple[str, int] | None:
        return None

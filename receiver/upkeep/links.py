"""Links: which are used, which are refused, and whether the current keys signed them."""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from secrets import token_hex
from typing import Generic, TypeVar

from receiver import metrics
from receiver.errors import BadLink, LedgerError
from receiver.ledger.ledger import Ledger
from receiver.ledger.links import (
    Fingerprints,
    adopt_keys,
    count_refused_links,
    dead_links,
    known_keys,
    use_links,
)
from receiver.ledger.transaction import Tx
from receiver.logs import get_logger
from receiver.periodic import PeriodicTask
from receiver.secret import Secret
from receiver.signing import LinkFault

K = TypeVar("K")

EVERY_SECONDS = 60.0
APART_SECONDS = 1.0
# About 0.1 s and 32 MB for each guess: https://www.rfc-editor.org/rfc/rfc7914
COST, BLOCK, MEMORY = 2**15, 8, 64 * 1024 * 1024
LENGTH = 16

for _reason in LinkFault:  # present from the start, so that an increase is visible
    metrics.links_refused.labels(_reason.value)

log = get_logger()


class _Counts(Generic[K]):
    """Counts in memory; the ledger gets them once a second at most.

    Requests from unknown senders therefore do not cause a disk write each.
    """

    def __init__(
        self, ledger: Ledger, write: Callable[[Tx, Counter[K]], None], *, fault: str
    ) -> None:
        self.background = PeriodicTask(self._once, every=lambda: None, fault=fault)
        self._ledger = ledger
        self._write = write
        self._counts: Counter[K] = Counter()

    def _count(self, one: K) -> None:
        self._counts[one] += 1
        self.background.wake()

    async def flush(self) -> None:
        """Write the counts. Raises LedgerError; the counts are then kept."""
        counts, self._counts = self._counts, Counter()
        if not counts:
            return
        try:
            await self._ledger.write(lambda tx: self._write(tx, counts))
        except LedgerError:
            self._counts.update(counts)
            raise

    async def stop(self) -> None:
        """Write the remaining counts, and stop."""
        await self.background.stop()
        with suppress(LedgerError):
            await self.flush()

    async def _once(self) -> None:
        await self.flush()
        await asyncio.sleep(APART_SECONDS)


class LinkUses(_Counts[tuple[str, str]]):
    """Records the uses of links; `keys` are the fingerprints of the secret keys, in their order."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(
            ledger, lambda tx, used: use_links(tx, sorted(used)), fault="link_uses_fault"
        )
        self.keys: Sequence[str] = ()
        self._noted: dict[tuple[str, str], float] = {}

    def note(self, repository: str, key: int) -> None:
        """Record a use of the repository's link; `key` is the index of the key in `keys`."""
        if key >= len(self.keys):
            return  # a reload is in progress
        use, now = (repository, self.keys[key]), time.monotonic()
        if now - self._noted.get(use, float("-inf")) >= EVERY_SECONDS:
            self._noted[use] = now
            self._count(use)


class RefusedLinks(_Counts[tuple[LinkFault, str | None]]):
    """Counts the requests that the webhook endpoint refuses."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__(ledger, count_refused_links, fault="refused_links_fault")

    def count(self, error: BadLink) -> None:
        """Count a request; the count is written to the ledger soon."""
        reason = LinkFault(error.reason)
        metrics.links_refused.labels(reason.value).inc()
        self._count((reason, error.repository))


async def record_keys_in_use(
    ledger: Ledger, keys: Sequence[Secret], repositories: Iterable[str]
) -> Sequence[str]:
    """Store which keys are in use; warn if links exist that none of them signed.

    Returns the keys' fingerprints, in their order.
    """
    salts = {known.salt for known in await ledger.read(known_keys)} or {token_hex(LENGTH)}
    fingerprints = await asyncio.to_thread(fingerprints_of, keys, salts)
    if not await ledger.write(lambda tx: adopt_keys(tx, fingerprints)):
        log.warning(
            "secret_key_unknown",
            message="RECEIVER_SECRET_KEY holds none of the keys that this ledger was served with: "
            "links and API tokens made before do not work. Set the key back (as `NEW,OLD` to "
            "change it in steps), or paste new links into Docker Hub: `receiver link`",
        )
    known = await ledger.read(known_keys)
    dead = await ledger.read(lambda tx: dead_links(tx, repositories))
    if dead:
        log.warning(
            "secret_key_links_dead",
            repositories=[one.repository for one in dead],
            message="The links of these repositories were last used with a key that "
            "RECEIVER_SECRET_KEY does not hold any more: their pushes are refused. Set the key "
            "back (as `NEW,OLD`), or paste new links into Docker Hub: `receiver link`",
        )
    return [next(one.fingerprint for one in known if one.is_one_of([key])) for key in fingerprints]


def fingerprints_of(keys: Iterable[Secret], salts: Iterable[str]) -> list[Fingerprints]:
    """Return each key's hashes by salt. Slow on purpose."""
    wanted = sorted(salts)
    return [{salt: _fingerprint(key.reveal(), salt) for salt in wanted} for key in keys]


def _fingerprint(key: str, salt: str) -> str:
    return hashlib.scrypt(
        key.encode("utf-8", "surrogateescape"),
        salt=salt.encode(),
        n=COST,
        r=BLOCK,
        p=1,
        maxmem=MEMORY,
        dklen=LENGTH,
    ).hex()

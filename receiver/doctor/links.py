"""The checks of links in the ledger: refused requests, and a replaced secret key."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from receiver.config.settings import Settings
from receiver.doctor.finding import Finding, passed, warned
from receiver.errors import LedgerError
from receiver.ledger.ledger import Ledger
from receiver.ledger.refused_links import refused_links
from receiver.ledger.secret_keys import DeadLink, Fingerprints, KnownKey, dead_links, known_keys
from receiver.ledger.transaction import Tx
from receiver.ledger.views import RefusedLink
from receiver.timestamps import duration
from receiver.upkeep.secret_keys import fingerprints_of

KEY, LINKS = "secret key", "links"
SET_BACK = (
    "Set RECEIVER_SECRET_KEY back (as `NEW,OLD` to change it in steps), or paste new links into "
    "Docker Hub: `receiver link`"
)


async def examine_links(settings: Settings) -> AsyncIterator[Finding]:
    """Check the key, and the requests with a refused link in the last week."""
    repositories = sorted({rule.repository for rule in settings.rules})

    def read(tx: Tx) -> tuple[int, list[DeadLink], list[RefusedLink]]:
        return tx.now, dead_links(tx, repositories, keys), refused_links(tx)

    ledger = Ledger(settings.database_url)
    try:
        ledger.open_readonly()
        known = await ledger.read(known_keys)
        salts = {one.salt for one in known}
        keys = await asyncio.to_thread(fingerprints_of, settings.secret_keys, salts)
        now, dead, refused = await ledger.read(read)
    except LedgerError:
        return  # no ledger yet, or the ledger's own finding reports the error
    finally:
        ledger.close()
    yield _key(known, keys, dead)
    for finding in _refused(refused, now):
        yield finding


def _key(
    known: Sequence[KnownKey], keys: Sequence[Fingerprints], dead: Sequence[DeadLink]
) -> Finding:
    in_use = [one for one in known if one.replaced_at is None]
    if in_use and not any(one.is_one_of(keys) for one in in_use):
        found = "none of its keys is one that the receiver last ran with: existing links are dead"
        return warned(KEY, found, SET_BACK)
    if dead:
        named = ", ".join(one.repository for one in dead)
        return warned(KEY, f"the key that these links were used with is gone: {named}", SET_BACK)
    return passed(KEY, "the ledger knows it" if known else "no receiver has run with it yet")


def _refused(refused: Sequence[RefusedLink], now: int) -> list[Finding]:
    if not refused:
        return [passed(LINKS, "no request with an invalid link in the last 7 days")]
    return [
        warned(LINKS, _found(one, now), one.message)
        if one.actionable
        else passed(LINKS, f"{_found(one, now)}; harmless if nobody pasted a link lately")
        for one in refused
    ]


def _found(one: RefusedLink, now: int) -> str:
    many = "1 request" if one.requests == 1 else f"{one.requests} requests"
    of = f" of {one.repository}" if one.repository else ""
    ago = duration(max(0, now - one.last_at))
    return f"{many} with an invalid link{of} ({one.reason}), last {ago} ago"

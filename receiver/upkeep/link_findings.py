"""What `doctor` finds about links in the ledger: refused requests, and a replaced secret key."""

from collections.abc import AsyncIterator, Sequence

from receiver.errors import LedgerError
from receiver.findings import Finding, passed, warned
from receiver.hook_tokens import ACTIONABLE, what_to_do
from receiver.ledger.ledger import Ledger
from receiver.ledger.refused_links import RefusedLink, refused_links
from receiver.ledger.secret_keys import KnownKey, dead_links, known_keys
from receiver.ledger.transactions import Tx
from receiver.secret import Secret
from receiver.settings import Settings
from receiver.times import duration
from receiver.upkeep.secret_keys import are_known

KEY, LINKS = "secret key", "links"
SET_BACK = (
    "Set RECEIVER_SECRET_KEY back (as `NEW,OLD` to change it in steps), or paste new links into "
    "Docker Hub: `receiver link`"
)


async def examine_links(settings: Settings) -> AsyncIterator[Finding]:
    """Look at the key, and at requests with a refused link of the last week."""
    repositories = sorted({rule.repository for rule in settings.rules})

    def read(tx: Tx) -> tuple[int, list[KnownKey], list[str], list[RefusedLink]]:
        return tx.now, known_keys(tx), dead_links(tx, repositories)[1], refused_links(tx)

    ledger = Ledger(settings.database_url)
    try:
        ledger.open_to_read()
        now, known, dead, refused = await ledger.read(read)
    except LedgerError:
        return  # there is none yet, or the finding of the ledger itself says more
    finally:
        ledger.close()
    yield await _key(known, settings.secret_keys, dead)
    for finding in _refused(refused, now):
        yield finding


async def _key(known: Sequence[KnownKey], keys: Sequence[Secret], dead: Sequence[str]) -> Finding:
    if known and not await are_known(known, keys):
        found = "none of its keys is one that the receiver last ran with: existing links are dead"
        return warned(KEY, found, SET_BACK)
    if dead:
        found = f"it was replaced, and the links made before are dead: {', '.join(dead)}"
        return warned(KEY, found, SET_BACK)
    return passed(KEY, "the ledger knows it" if known else "no receiver has run with it yet")


def _refused(refused: Sequence[RefusedLink], now: int) -> list[Finding]:
    if not refused:
        return [passed(LINKS, "no request with an invalid link in the last 7 days")]
    return [
        warned(LINKS, _found(one, now), what_to_do(one.reason, one.repository))
        if one.reason in ACTIONABLE
        else passed(LINKS, f"{_found(one, now)}; harmless if nobody pasted a link lately")
        for one in refused
    ]


def _found(one: RefusedLink, now: int) -> str:
    many = "1 request" if one.requests == 1 else f"{one.requests} requests"
    of = f" of {one.repository}" if one.repository else ""
    ago = duration(max(0, now - one.last_at))
    return f"{many} with an invalid link{of} ({one.reason}), last {ago} ago"

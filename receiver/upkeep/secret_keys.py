"""Checks, at a start and a reload, whether existing links were signed with the current keys."""

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from secrets import token_hex

from receiver.ledger.ledger import Ledger
from receiver.ledger.secret_keys import Fingerprints, adopt_keys, dead_links, known_keys
from receiver.logs import get_logger
from receiver.secret import Secret

# About 0.1 s and 32 MB for each guess: https://www.rfc-editor.org/rfc/rfc7914
COST, BLOCK, MEMORY = 2**15, 8, 64 * 1024 * 1024
LENGTH = 16

log = get_logger()


async def adopt(
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

"""Whether any of the secret keys is one that links were signed with, at a start and a reload."""

import asyncio
import hashlib
from collections.abc import Iterable, Sequence
from secrets import token_hex

from receiver.ledger.ledger import Ledger
from receiver.ledger.secret_keys import Fingerprints, KnownKey, adopt_keys, known_keys
from receiver.logs import get_logger
from receiver.secret import Secret

# About 0.1 s and 32 MB for each guess: https://www.rfc-editor.org/rfc/rfc7914
COST, BLOCK, MEMORY = 2**15, 8, 64 * 1024 * 1024
LENGTH = 16

log = get_logger()


async def adopt(ledger: Ledger, keys: Sequence[Secret]) -> None:
    """Store which keys are in use; warn if links exist that none of them signed."""
    salts = {known.salt for known in await ledger.read(known_keys)} or {token_hex(LENGTH)}
    fingerprints = await asyncio.to_thread(fingerprints_of, keys, salts)
    if not await ledger.write(lambda tx: adopt_keys(tx, fingerprints)):
        log.warning(
            "secret_key_unknown",
            message="RECEIVER_SECRET_KEY holds none of the keys that this ledger was served with: "
            "links and API tokens made before do not work. Set the key back (as `NEW,OLD` to "
            "change it in steps), or paste new links into Docker Hub: `receiver link`",
        )


async def are_known(known: Sequence[KnownKey], keys: Sequence[Secret]) -> bool:
    """Return whether any of the keys is one that the ledger knows to be in use."""
    in_use = [one for one in known if one.replaced_at is None]
    salts = {one.salt for one in in_use}
    fingerprints = await asyncio.to_thread(fingerprints_of, keys, salts)
    return any(one.is_one_of(fingerprints) for one in in_use)


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

"""Ids that sort by time: 48 bits of epoch milliseconds, then 40 random bits, in base 32.

They rise whatever the clock does: each comes after all that are in the ledger, so that what was
recorded later sorts later. New ids also sort after those made while
the clock was ahead.
"""

import random
from collections.abc import Iterable
from functools import lru_cache
from threading import Lock

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: no i, l, o, u
TIME_LETTERS = 10
RANDOM_LETTERS = 8
LATEST = 1 << 48  # epoch milliseconds; what is later was not made here
_RANDOM_BITS = 5 * RANDOM_LETTERS
_DIGITS = str.maketrans(ALPHABET, "0123456789abcdefghijklmnopqrstuv")  # as `int` reads base 32
_PAIRS = tuple(first + second for first in ALPHABET for second in ALPHABET)

_lock = Lock()
_last = 0


def new_id(prefix: str, now: int) -> str:
    """Return a new id, after every id this process made before; `now` in epoch milliseconds."""
    global _last  # noqa: PLW0603 - one counter for the process is the point
    with _lock:
        # Nothing is kept secret by an id; the system's randomness costs more than all the rest.
        fresh = (now << _RANDOM_BITS) | random.getrandbits(_RANDOM_BITS)
        _last = fresh if fresh > _last else _last + 1
        number = _last
    return prefix + _letters(number)


def continue_after(identities: Iterable[str | None]) -> None:
    """Have every id from now on come after these; what is no id is left out."""
    global _last  # noqa: PLW0603 - as above
    numbers = (_number(identity) for identity in identities if identity is not None)
    with _lock:
        _last = max(_last, *numbers, 0)


def first_id(prefix: str, now: int) -> str:
    """Return the id before all ids made at that time (epoch ms) and later."""
    return prefix + _letters(max(0, now) << _RANDOM_BITS)


def last_id(prefix: str) -> str:
    """Return the id after all ids that can be made."""
    return prefix + ALPHABET[-1] * (TIME_LETTERS + RANDOM_LETTERS)


def _number(identity: str) -> int:
    letters = identity[1:]
    if len(letters) != TIME_LETTERS + RANDOM_LETTERS or not set(letters) <= set(ALPHABET):
        return 0
    number = int(letters.translate(_DIGITS), 32)
    return number if number >> _RANDOM_BITS < LATEST else 0


def _letters(number: int) -> str:
    return _spelt(number >> _RANDOM_BITS, TIME_LETTERS) + _spell(number, RANDOM_LETTERS)


def _spell(number: int, letters: int) -> str:
    """Return that many letters, of the lowest bits."""
    spelt = ""
    for _ in range(letters // 2):
        spelt = _PAIRS[number & 1023] + spelt
        number >>= 10
    return spelt


_spelt = lru_cache(maxsize=8)(_spell)  # those made in one millisecond begin alike

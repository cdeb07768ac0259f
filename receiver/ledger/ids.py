"""Ids that sort by time: 48 bits of epoch milliseconds, then 40 random bits, in base 32."""

import random
from functools import lru_cache
from threading import Lock

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's: no i, l, o, u
TIME_LETTERS = 10
RANDOM_LETTERS = 8
_RANDOM_BITS = 5 * RANDOM_LETTERS
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


def new_ids(prefix: str, now: int, many: int) -> list[str]:
    """Return as many, one after the other; they cost a quarter of as many made one by one."""
    global _last  # noqa: PLW0603 - as above
    with _lock:
        fresh = (now << _RANDOM_BITS) | random.getrandbits(_RANDOM_BITS)
        first = max(fresh, _last + 1)
        _last = first + many - 1
    ids: list[str] = []
    beginning, block = "", -1
    for number in range(first, first + many):
        if number >> 10 != block:
            block = number >> 10
            beginning = prefix + _letters(number)[:-2]
        ids.append(beginning + _PAIRS[number & 1023])
    return ids


def first_id(prefix: str, now: int) -> str:
    """Return the id before all ids made at that time (epoch ms) and later."""
    return prefix + _letters(max(0, now) << _RANDOM_BITS)


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

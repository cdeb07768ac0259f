"""Bodies that nobody should send: real ones, bent and broken, and sheer noise. By seed, so that
whatever breaks the endpoint can be sent again."""

import gzip
import json
import random
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.receiver_process import REPOSITORY, webhook_body

PAYLOADS = Path(__file__).parent.parent / "payloads"
REAL = tuple(path.read_bytes() for path in sorted(PAYLOADS.glob("*.json")))
ODD_TEXTS = (
    *("", " ", "\x00", "\ud800", "\u2028", "\U0010ffff", "..", "../..", "'; DROP TABLE x; --"),
    *("latest", "1.0.0", "sha256-" + "0" * 64, "x" * 129, "A" * 300, "{{7*7}}", "%s%n", "é"),
    *(REPOSITORY, "STUDIO/GAME", "a/b/c", "/", "a//b", "docker.io/a/b", "a/b:c", "a/b@sha256:0"),
)
ODD_NUMBERS = (0, -1, 2**31, 2**63, 2**64, 10**400, 1e308, -0.0, 1_700_000_000, 1.7e12)
ODD_LITERALS = ("NaN", "Infinity", "-Infinity", "1e999", "-", "01", "1" * 5000, "nul", "tru")
KEYS = ("push_data", "repository", "tag", "pushed_at", "pusher", "media_type", "images")
NAMES = ("repo_name", "namespace", "name", "owner", "callback_url", "full_description")
MAX_TEXT = 1_200_000


def made_up(chance: random.Random) -> bytes:
    """Return the next body."""
    return chance.choice(KINDS)(chance)


def _noise(chance: random.Random) -> bytes:
    return chance.randbytes(chance.randrange(400))


def _any_json(chance: random.Random) -> bytes:
    return _dumped(_value(chance, 4))


def _nearly(chance: random.Random) -> bytes:
    """A webhook whose fields hold anything."""
    body = webhook_body(f"1.{chance.randrange(50)}")
    for _ in range(chance.randrange(4)):
        part = body[chance.choice(("push_data", "repository"))]
        part[chance.choice(KEYS + NAMES)] = _value(chance, 2)
    return _dumped(body)


def _bent(chance: random.Random) -> bytes:
    """A real body with one of its values, anywhere in it, replaced or taken out."""
    try:
        body = json.loads(chance.choice(REAL))
    except ValueError:
        return _nearly(chance)
    _bend(body, chance)
    return _dumped(body)


def _broken(chance: random.Random) -> bytes:
    """A real body cut, with bytes changed, put in or doubled."""
    sent = bytearray(chance.choice(REAL))
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(sent) + 1)
        match chance.randrange(4):
            case 0:
                del sent[at:]
            case 1:
                sent[at : at + 1] = chance.randbytes(1)
            case 2:
                sent[at:at] = chance.choice(ODD_LITERALS).encode()
            case _:
                sent[at:at] = sent[at : at + chance.randrange(200)]
    return bytes(sent)


def _literal(chance: random.Random) -> bytes:
    """A webhook with what is no JSON in the place of its push time."""
    body = json.dumps(webhook_body("1.0", pushed_at="?"))
    return body.replace('"?"', chance.choice(ODD_LITERALS)).encode()


def _encoded(chance: random.Random) -> bytes:
    body = json.dumps(webhook_body("1.0"))
    encode: Callable[[str], bytes] = chance.choice(
        (
            lambda text: text.encode("utf-16"),
            lambda text: text.encode("utf-32"),
            lambda text: b"\xef\xbb\xbf" + text.encode(),
            lambda text: gzip.compress(text.encode()),
            lambda text: f"payload={text}".encode(),
        )
    )
    return encode(body)


def _deep(chance: random.Random) -> bytes:
    depth = chance.choice((10, 1_000, 100_000))
    return chance.choice((b"[", b'{"push_data":', b'[{"a":')) * depth


def _long(chance: random.Random) -> bytes:
    """Around the limit of 1 MiB; seldom, for it is slow."""
    if chance.random() < 0.97:
        return _nearly(chance)
    text = chance.choice(string.printable) * chance.randrange(1_000_000, MAX_TEXT)
    body = webhook_body("1.0")
    body["repository"]["full_description"] = text
    return _dumped(body)


KINDS = (
    _noise,
    _any_json,
    _nearly,
    _nearly,
    _bent,
    _bent,
    _broken,
    _literal,
    _encoded,
    _long,
    _deep,
)


def _dumped(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def _value(chance: random.Random, depth: int) -> Any:
    match chance.randrange(8 if depth else 5):
        case 0:
            return chance.choice(ODD_TEXTS)
        case 1:
            return chance.choice(ODD_NUMBERS)
        case 2:
            return chance.choice((None, True, False))
        case 3:
            return "".join(chr(chance.randrange(0x3000)) for _ in range(chance.randrange(30)))
        case 4:
            return chance.random() * 10.0 ** chance.randrange(-300, 300)
        case 5:
            return [_value(chance, depth - 1) for _ in range(chance.randrange(4))]
        case _:
            keys = chance.choices(KEYS + NAMES + ODD_TEXTS, k=chance.randrange(5))
            return {key: _value(chance, depth - 1) for key in keys}


def _bend(value: Any, chance: random.Random) -> None:
    """Go down at random, and change what is there."""
    while isinstance(value, dict | list) and value:
        place = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
        inner = value[place]
        if not isinstance(inner, dict | list) or not inner or chance.random() < 0.2:
            if chance.random() < 0.3:
                del value[place]
            else:
                value[place] = _value(chance, 2)
            return
        value = inner

"""A secret value: easy to pass on, hard to print."""

import hashlib
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from html import unescape

from itsdangerous import Signer

MASK = "***"
MIN_MASKED = 4  # shorter values would hide ordinary words
MIN_BASE64 = 8
MIN_LINE = 16  # of a value with several lines; shorter ones would hide `{` and the like
MAX_READINGS = 13  # of a text: itself, 3 of one decoding, 9 of two
MAX_TOTAL = 1_000_000  # characters decoded of one text
_URL_SAFE = str.maketrans("+/", "-_")
_LATIN_1 = {0xDC00 + byte: byte for byte in range(0x80, 0x100)}  # from "surrogateescape"
# A byte, or the bytes of one character of UTF-8.
_BYTES = "{0}[C-Fc-f]{1}(?:{0}[89ABab]{1}){{1,3}}|{0}{1}{1}"
_HEX = "[0-9A-Fa-f]"
_IN_X = _BYTES.format(r"\\[Xx]", _HEX)
_IN_URL = re.compile(_BYTES.format("%", _HEX))
_IN_HTML = re.compile(rf"&(?:#[0-9]{{1,9}}|#[Xx]{_HEX}{{1,8}}|[A-Za-z][A-Za-z0-9]{{1,31}});")
_IN_QUOTES = re.compile(  # of JSON and of programming languages; two may form one character
    rf"\\[Uu][Dd][89ABab]{_HEX}{{2}}\\[Uu][Dd][C-Fc-f]{_HEX}{{2}}"
    rf"|\\U00(?:0{_HEX}|10){_HEX}{{4}}|\\[Uu]{_HEX}{{4}}|\\[Uu]{{(?:10|0?{_HEX})?{_HEX}{{1,4}}}}"
    rf"|{_IN_X}|\\.",
    re.DOTALL,
)
_NOT_SECRET = re.compile(r"\W*(?:-{5}[\w ]+-{5}\W*)?")
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "0": "\0"}
SALT = b"receiver.sent"


class Secret:
    """A value that prints as stars; only `reveal` returns it."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the value itself, for the call that needs it."""
        return self._value

    def forget(self) -> None:
        """Drop the value and its cached spellings; nothing can be done with the secret then."""
        self._value = ""
        _spellings.cache_clear()

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __bool__(self) -> bool:
        return bool(self._value)


def mask(text: str, secrets: Iterable[Secret]) -> str:
    """Return the text with each secret in it replaced by stars.

    This includes other encodings of a secret: URL, HTML, JSON and the like, also of one another,
    base64 and hex; all in any case.

    Of a secret with several lines, such as a PEM key, also each line is masked that has at least
    16 characters and is not a `-----BEGIN …-----`: a logger may write a prefix before each, or
    other line breaks. A shorter line is masked only with the others, if between them are line
    breaks, the same white space on one line, one space or nothing.
    """
    return mask_spelt(text, spellings_of(secrets))


def mask_spelt(text: str, spellings: Iterable[str]) -> str:
    """Do the same as `mask`, with spellings computed beforehand."""
    spellings = tuple(spellings)
    spans = [
        span
        for reading, decodings in _readings(text)
        if (found := _find(_fold(reading), spellings))
        for span in _in_original(text, decodings, found)
    ]
    if not spans:
        return text
    parts, done, upto = [], 0, 0
    for start, end in sorted(spans):
        if start >= upto:  # otherwise it overlaps the span before it
            parts += [text[done:start], MASK]
        done = upto = max(upto, end)
    return "".join((*parts, text[done:]))


def spellings_of(secrets: Iterable[Secret]) -> tuple[str, ...]:
    """Return the spellings of the secrets that no decoding undoes, in lower case."""
    spellings = {text for secret in secrets for text in _spellings(secret.reveal())}
    return tuple(sorted(spellings, key=len, reverse=True))


@lru_cache(maxsize=256)
def _spellings(value: str) -> frozenset[str]:
    has_lines = "\n" in value or "\r" in value
    texts = {value, *(_in_other_lines(value) if has_lines else ())}
    lines = _long_lines(value) if has_lines or "\\" in value else set()
    return frozenset().union(map(_fold, lines), *map(_spellings_of_text, texts))


def _in_other_lines(value: str) -> set[str]:
    """Return a value with several lines as it may be written elsewhere."""
    lines = value.strip().splitlines()
    texts = {between.join(lines) for between in ("\n", "\r\n", " ")}
    return {*texts, "".join(map(str.strip, lines)), " ".join(value.split())}


def _long_lines(value: str) -> set[str]:
    """Return the lines that are masked alone, also those within the strings of JSON."""
    texts = {value, _IN_QUOTES.sub(lambda found: _character(found[0]), value)}
    return {
        line
        for text in texts
        if len(lines := [line.strip() for line in text.splitlines()]) > 1
        for line in lines
        if len(line) >= MIN_LINE and not _NOT_SECRET.fullmatch(line)
    }


def _spellings_of_text(value: str) -> frozenset[str]:
    if len(value) < MIN_MASKED:
        return frozenset()
    raw = value.encode("utf-8", "surrogateescape")
    spellings = {value, value.translate(_LATIN_1), raw.hex(), *map(raw.hex, ":- ")}
    spellings |= {text.replace(" ", "+") for text in spellings}  # as forms encode it
    return frozenset(map(_fold, spellings | _in_base64(raw)))


def _in_base64(raw: bytes) -> set[str]:
    """Return the value's base64 encodings within any surrounding text.

    Basic authentication encodes `user:token` as a whole. Three bytes become four letters, so
    there are three alignments; letters that also hold bits of a neighbor are left out.
    """
    found = set()
    for before in range(3):
        encoded = b64encode(bytes(before) + raw).decode().rstrip("=")
        begin = -(-before * 4 // 3)
        end = (before + len(raw)) * 8 // 6
        found |= {encoded[begin:end], encoded[begin:end].translate(_URL_SAFE)}
    return {text for text in found if len(text) >= MIN_BASE64}


def _fold(text: str) -> str:
    """Return the text without differences of case; a character may become several."""
    return text.lower() if text.isascii() else text.upper().casefold()


@lru_cache(maxsize=4096)
def _character(escape: str) -> str:
    """Return what an escape stands for, usually one character."""
    lowered = escape.lower()
    if escape[0] == "&":
        found = unescape(escape)
        return unescape(lowered) if found == escape else found
    if escape[0] == "%" or (lowered[1] == "x" and len(escape) > 2):  # noqa: PLR2004
        raw = bytes.fromhex(re.sub(r"%|\\x", "", lowered))
        try:
            return raw.decode()
        except UnicodeDecodeError:
            return raw.decode("latin-1")
    numbers = [int(number.strip("{}"), 16) for number in lowered.split("\\u")[1:] if number]
    if not numbers:
        return _CONTROLS.get(lowered[1], escape[1])
    units = b"".join(chr(number).encode("utf-16-le", "surrogatepass") for number in numbers)
    return units.decode("utf-16-le", "surrogatepass")


def _readings(text: str) -> Iterator[tuple[str, tuple[re.Pattern[str], ...]]]:
    """Return the text, and what it reads decoded, each with its decodings in their order.

    Any order of decodings is tried, the shortest first: all of one and of two, and longer ones if
    the text has few kinds of escapes. After a total length no more are tried.
    """
    readings: list[tuple[str, tuple[re.Pattern[str], ...]]] = [(text, ())]
    known, total = {text}, 0
    for reading, decodings in readings:
        yield reading, decodings
        for mark, pattern in (("%", _IN_URL), ("&", _IN_HTML), ("\\", _IN_QUOTES)):
            if mark in reading and len(readings) < MAX_READINGS and total < MAX_TOTAL:
                decoded = pattern.sub(lambda found: _character(found[0]), reading)
                total += len(reading)
                if decoded not in known:
                    known.add(decoded)
                    readings.append((decoded, (*decodings, pattern)))


def _find(folded: str, spellings: Iterable[str]) -> list[tuple[int, int]]:
    """Return where the spellings are in a text in lower case."""
    return [
        found.span()
        for spelling in spellings
        if spelling in folded
        for found in re.finditer(re.escape(spelling), folded)
    ]


def _in_original(
    text: str, decodings: Iterable[re.Pattern[str]], found: Iterable[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """Return the places in the text of what was found in its reading, whole escapes included."""
    starts, reading, length = list(range(len(text))), text, len(text)
    for pattern in decodings:
        parts, moved, done = [], list[int](), 0
        for escape in pattern.finditer(reading):
            character = _character(escape[0])
            parts += [reading[done : escape.start()], character]
            moved += starts[done : escape.start()]
            moved += [starts[escape.start()]] * len(character)
            done = escape.end()
        reading = "".join((*parts, reading[done:]))
        starts = moved + starts[done:]
    if len(_fold(reading)) != len(reading):
        starts = [
            start for start, letter in zip(starts, reading, strict=True) for _ in _fold(letter)
        ]
    starts.append(length)
    for start, end in found:
        last = starts[end - 1]  # other characters may come from the same escape
        yield (
            starts[start],
            next(starts[after] for after in range(end, len(starts)) if starts[after] > last),
        )


def hash_of(values: str, keys: Sequence[Secret]) -> str:
    """Return the hash by the newest key (the last); empty if there are no values, or no key."""
    return _signer(keys).get_signature(values).decode() if values and keys else ""


@lru_cache(maxsize=8)
def stretched(key: Secret) -> Secret:
    """Return a key that is slow to derive, so that hashes by it do not allow quick guesses of it.

    It takes about 0.05 s and 16 MB, once for each key: https://www.rfc-editor.org/rfc/rfc7914
    """
    raw = key.reveal().encode("utf-8", "surrogateescape")
    return Secret(hashlib.scrypt(raw, salt=SALT, n=2**14, r=8, p=1, dklen=32).hex())


def is_hash_of(known: str, values: str, keys: Sequence[Secret]) -> bool:
    """Return whether the hash is one of these values, by any of the keys."""
    return bool(values and keys) and _signer(keys).verify_signature(values, known)


def _signer(keys: Sequence[Secret]) -> Signer:
    texts = [key.reveal() for key in keys]
    return Signer(texts, salt=SALT, digest_method=hashlib.sha256)

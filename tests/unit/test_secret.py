"""Secrets stay out of text, in whatever spelling another program quotes them."""

import json
import re
import time
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from html import escape
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.secret import MASK, MIN_LINE, MIN_MASKED, Secret, _spellings, mask


def test_a_forgotten_secret_is_in_no_cache() -> None:
    secret = Secret("dckr_pat_once")
    assert mask("dckr_pat_once", [secret]) == MASK
    cached = _spellings.cache_info().currsize

    secret.forget()

    assert cached
    assert _spellings.cache_info().currsize == 0
    assert (secret.reveal(), bool(secret)) == ("", False)


TOKEN = "dckr_pat_Ab+/<'\"é 12=34"
SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "upper case": str.upper,
    "lower case": str.lower,
    "JSON": json.dumps,
    "JSON with letters": lambda value: json.dumps(value, ensure_ascii=False),
    "JSON twice": lambda value: json.dumps(json.dumps(value)),
    "Python": repr,
    "URL": lambda value: quote(value, safe=""),
    "URL in lower case": lambda value: quote(value, safe="").lower(),
    "query": quote_plus,
    "form": lambda value: urlencode({"token": value}),
    "HTML": escape,
    "HTML by number": lambda value: escape(value).replace("&#x27;", "&#39;"),
    "hex": lambda value: value.encode().hex(),
    "hex in upper case": lambda value: value.encode().hex().upper(),
    "base64": lambda value: b64encode(value.encode()).decode(),
    "base64 for URLs": lambda value: urlsafe_b64encode(value.encode()).decode(),
    "Basic authentication": lambda value: b64encode(f"studio-ci:{value}".encode()).decode(),
}


def by_number(form: str) -> Callable[[str], str]:
    """Return an encoder that writes each character that is no letter or digit by its number."""
    return lambda value: "".join(
        character if character.isalnum() else form.format(ord(character)) for character in value
    )


def in_php(value: str) -> str:
    return json.dumps(value)[1:-1].replace("/", "\\/")


def in_go(value: str) -> str:
    text = json.dumps(value, ensure_ascii=False)[1:-1]
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def in_lower_hex(value: str) -> str:
    return re.sub("%..", lambda found: found[0].lower(), quote(value, safe=""))


# Each text may be encoded in another of these, or twice.
TEXTUAL: dict[str, Callable[[str], str]] = {
    "plain": str,
    "upper case": str.upper,
    "lower case": str.lower,
    "encodeURIComponent": lambda value: quote(value, safe="!'()*~"),
    "encodeURI": lambda value: quote(value, safe="!'()*~;/?:@&=+$,#"),
    "RFC 3986, all": lambda value: quote(value, safe="").replace("~", "%7E"),
    "lower-case percent": in_lower_hex,
    "form": quote_plus,
    "HTML": escape,
    "HTML by number": by_number("&#{};"),
    "HTML by hex number": by_number("&#x{:X};"),
    "HTML with zeros": by_number("&#{:04};"),
    "XML": lambda value: escape(value).replace("&#x27;", "&apos;"),
    "JSON": lambda value: json.dumps(value)[1:-1],
    "JSON with letters": lambda value: json.dumps(value, ensure_ascii=False)[1:-1],
    "JSON of PHP": in_php,
    "JSON of Go": in_go,
    "Python": lambda value: repr(value)[1:-1],
    "Python's bytes": lambda value: repr(value.encode())[2:-1],
    "Rust": by_number("\\u{{{:x}}}"),
}
BYTES: dict[str, Callable[[str], str]] = {
    f"hex with {between!r}": lambda value, between=between: value.encode().hex(*between)  # type: ignore[misc]
    for between in ("", ":", " ", "-")
}
HARD = "aB3/x+9=Z&k\"q<Tok'en~e1"


@pytest.mark.parametrize("secret", [HARD, "İstanbul 42", "Straße/42", "a%41&lt;\\u0041"])
@pytest.mark.parametrize("outer", TEXTUAL)
@pytest.mark.parametrize("inner", TEXTUAL | BYTES)
def test_a_secret_is_masked_in_an_encoding_of_an_encoding(
    secret: str, inner: str, outer: str
) -> None:
    encoded = TEXTUAL[outer]((TEXTUAL | BYTES)[inner](secret))

    assert mask(f"refused: {encoded} again", [Secret(secret)]) == f"refused: {MASK} again"


def is_one(text: str) -> bool:
    return text == text.strip() and len(text) >= MIN_MASKED


CHARACTERS = st.characters(exclude_categories=("Cc", "Cs"))
WRITTEN = st.one_of(
    CHARACTERS, st.sampled_from("%&\\\"'<>/+=~;#u25 "), st.just("%41"), st.just("&lt;")
)


@given(
    secret=st.lists(WRITTEN, min_size=4, max_size=30).map("".join).filter(is_one),
    inner=st.sampled_from([*TEXTUAL.values(), *BYTES.values()]),
    outer=st.sampled_from([*TEXTUAL.values()]),
)
def test_any_secret_is_masked_in_any_two_encodings_and_its_neighbors_stay(
    secret: str, inner: Callable[[str], str], outer: Callable[[str], str]
) -> None:
    encoded = outer(inner(secret))

    masked = mask(f"refused: {encoded} again", [Secret(secret)])

    assert masked == f"refused: {MASK} again"


@given(
    text=st.lists(
        st.one_of(WRITTEN, st.sampled_from(["%C3", "%A9", "\\u{ffffff}", "\\x", "&#1;"]))
    ),
    secret=st.text("a%&41;", min_size=4, max_size=6),
)
def test_any_text_can_be_masked(text: list[str], secret: str) -> None:
    whole = "".join(text)

    masked = mask(whole, [Secret(secret)])

    assert secret not in masked.replace(MASK, "\0")
    assert mask(whole, []) == whole


@pytest.mark.parametrize(
    "escape", ["%25", "%2525", "&amp;", "&amp;amp;", "\\", "\\u0025", "%26#37;"]
)
def test_a_long_text_of_escapes_is_read_in_a_short_time(escape: str) -> None:
    text, secret = (escape * 65_536)[:65_536], Secret(HARD)
    begin = time.process_time()

    assert mask(text, [secret]) == text
    assert mask(f"{text} {quote(HARD)}", [secret]).endswith(MASK)
    assert time.process_time() - begin < 1  # about 0.05 s


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_secret_is_masked_in_every_spelling(spelling: str) -> None:
    quoted = SPELLINGS[spelling](TOKEN)

    masked = mask(f"refused: {quoted}; try again", [Secret(TOKEN)])

    assert MASK in masked
    assert quoted not in masked
    assert masked.startswith("refused: ")
    assert masked.endswith("; try again")


@given(
    secret=st.text("abcXYZ0189-_+/=", min_size=8, max_size=60),
    before=st.binary(max_size=5),
    after=st.binary(max_size=5),
)
def test_nothing_of_a_secret_can_be_decoded_from_masked_base64(
    secret: str, before: bytes, after: bytes
) -> None:
    encoded = b64encode(before + secret.encode() + after).decode()

    masked = mask(encoded, [Secret(secret)])

    # At most the letters that also hold bits of a neighbor are left: under two bytes at each end.
    assert MASK in masked
    assert len(masked.replace(MASK, "")) <= len(b64encode(before + after)) + 8


BODY = [
    "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj",
    "MzEfYyjiWA4R4/M2bS1GB4t7NXp98C3SC6dVMvDuictGeurT8jNbvJZHtCSuYEvu",
    "NMoSfm76oqFvAp8Gy0iz5sxjZmSnXyCdPEovGhLa",
]
LAST = "VzMo8s=="
PEM = "\n".join(["-----BEGIN PRIVATE KEY-----", *BODY, LAST, "-----END PRIVATE KEY-----", ""])
CREDENTIAL = json.dumps({"type": "account", "private_key": PEM}, indent=2)


@pytest.mark.parametrize("value", [PEM, PEM.replace("\n", "\r\n"), CREDENTIAL, json.dumps(PEM)])
@pytest.mark.parametrize(
    "before", ["", "2026-10-04 INFO ", "    ", "> ", "\x1b[32m", '{"log": "', "| ", "INFO\t"]
)
def test_each_long_line_of_a_secret_is_masked(value: str, before: str) -> None:
    text = "\n".join(f"{before}{line}" for line in PEM.splitlines())

    masked = mask(text, [Secret(value)])

    for line in BODY:
        assert line not in masked
    assert masked.count(MASK) == len(BODY) or not before


@pytest.mark.parametrize("value", [PEM, PEM.replace("\n", "\r\n"), CREDENTIAL])
@pytest.mark.parametrize("between", ["\n", "\r\n", " ", ""])
@pytest.mark.parametrize("encoding", ["plain", "form", "JSON", "JSON of Go", "HTML by number"])
def test_a_secret_is_masked_with_other_line_breaks(value: str, between: str, encoding: str) -> None:
    lines = value.strip().splitlines()
    text = TEXTUAL[encoding](between.join(lines if between else map(str.strip, lines)))

    assert mask(f"refused: {text}; again", [Secret(value)]) == f"refused: {MASK}; again"


def test_a_secret_is_masked_on_one_line_with_its_white_space_joined() -> None:
    secret = Secret('{\n  "user": "bot",\n  "pin":\t"83"\n}\n')

    for text in ('{ "user": "bot", "pin": "83" }', '{"user": "bot","pin":\t"83"}'):
        assert mask(f"refused: {text}; again", [secret]) == f"refused: {MASK}; again"


def test_a_secret_is_masked_without_the_line_break_at_its_end() -> None:
    assert mask("token=83-ab", [Secret("83-ab\n")]) == f"token={MASK}"


@pytest.mark.parametrize(
    "text", ["{", "}", "-----BEGIN PRIVATE KEY-----", "=" * 20, LAST, "pin: 83"]
)
def test_a_line_that_anyone_writes_is_not_masked(text: str) -> None:
    value = f"{{\n{PEM}{'=' * 20}\npin: 83\n}}\n"

    assert mask(f"log: {text}", [Secret(value)]) == f"log: {text}"


@given(
    lines=st.lists(st.text("abcXYZ0189+/=", min_size=1, max_size=64), min_size=2, max_size=30),
    before=st.text(" |>:", max_size=4),
)
def test_no_long_line_of_any_secret_stays(lines: list[str], before: str) -> None:
    text = "\n".join(f"INFO{before} {line}" for line in lines)

    masked = mask(text, [Secret("\n".join(lines))])

    for line in lines:
        if len(line) >= MIN_LINE and line.strip("=+/"):
            assert line not in masked


@given(text=st.text(max_size=80), secret=st.text(max_size=3))
def test_what_is_too_short_to_be_a_secret_hides_no_words(text: str, secret: str) -> None:
    assert mask(text, [Secret(secret)]) == text


@given(text=st.text(max_size=80), secret=st.text(min_size=4, max_size=20))
def test_a_masked_text_does_not_contain_the_secret(text: str, secret: str) -> None:
    assert secret not in mask(text + secret + text, [Secret(secret)]).replace(MASK, "\0")

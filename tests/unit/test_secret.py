"""Secrets stay out of text, in whatever spelling another program quotes them."""

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from html import escape
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.secret import MASK, Secret, _spellings, mask


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


@given(text=st.text(max_size=80), secret=st.text(max_size=3))
def test_what_is_too_short_to_be_a_secret_hides_no_words(text: str, secret: str) -> None:
    assert mask(text, [Secret(secret)]) == text


@given(text=st.text(max_size=80), secret=st.text(min_size=4, max_size=20))
def test_a_masked_text_does_not_contain_the_secret(text: str, secret: str) -> None:
    assert secret not in mask(text + secret + text, [Secret(secret)]).replace(MASK, "\0")

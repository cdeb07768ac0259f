"""Text files as editors save them: what is read, and what is said of the rest."""

import tomllib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from receiver.config.text import decode_text, odd_character, strip, toml_fault
from receiver.errors import BadText

TEXT = 'app = "my-gäme"\n'


@pytest.mark.parametrize("content", [TEXT.encode(), TEXT.encode("utf-8-sig")])
def test_utf_8_is_read_with_and_without_a_byte_order_mark(content: bytes) -> None:
    assert decode_text(content) == TEXT


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (TEXT.encode("utf-16"), "UTF-16"),
        (TEXT.encode("utf-16-le"), "UTF-16"),
        (TEXT.encode("utf-16-be"), "UTF-16"),
        (b"\xfe\xff" + TEXT.encode("utf-16-be"), "UTF-16"),
        (TEXT.encode("utf-32"), "UTF-32"),
        (b"a\n" + TEXT.encode("cp1252"), "not UTF-8 (line 2)"),
        (b"a\nb = 1\0", "NUL byte in line 2"),
    ],
)
def test_another_encoding_is_named_with_how_to_save_the_file(content: bytes, words: str) -> None:
    with pytest.raises(BadText) as refused:
        decode_text(content)

    assert words in str(refused.value)
    assert "UTF-8" in refused.value.fix


@given(st.binary(max_size=60))
def test_any_content_is_read_or_refused(content: bytes) -> None:
    with suppress(BadText):
        assert decode_text(content).encode() == content.removeprefix(b"\xef\xbb\xbf")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("app = “my-game”", "the curly quotation mark “ (U+201C)"),
        ('a = "x"\napp = my\u00a0game', "(U+00A0, no-break space)"),
        ("app\u200b = 1", "(U+200B, zero width space)"),
        ("a = …", "the character … (U+2026)"),
        ('public_url = "https://x" [[rule]] app = "y"', "on a line of its own"),
        (r'public_url = "https://x"\n[[rule]]\napp = "y"', r"two characters \n"),
        ("app = my-game", "in quotation marks"),
        ('app: "my-game"', 'name = "value"'),
        ('app = "my-game\nx = 1', "Close the quotation marks"),
        ('app = "C:\\games"', "single quotation marks"),
        ("a = 1\na = 2", "remove one of the two"),
        ("[rule]\n[rule]", "[[rule]] for each rule"),
        ("{}", "Correct that line"),
    ],
)
def test_what_is_not_toml_comes_with_its_line_and_the_fix(text: str, words: str) -> None:
    with pytest.raises(tomllib.TOMLDecodeError) as refused:
        tomllib.loads(text)

    assert words in ". ".join(toml_fault(text, str(refused.value)))


def test_the_line_is_shown_without_its_value() -> None:
    text = "\nurl_env = “discord://canary/0123”"

    what, _ = toml_fault(text, "Invalid value (at line 2, column 11)")

    assert "line 2, `url_env = “…”`" in what
    assert "canary" not in what
    assert (
        "Y2FuYXJ5" not in toml_fault("Y2FuYXJ5LTAxMjM==", "Invalid value (at line 1, column 18)")[0]
    )


@given(st.text("[]=\"'.\n_rulé “canary0\\", max_size=60))
def test_any_text_that_is_no_toml_has_a_line_and_a_fix(text: str) -> None:
    try:
        tomllib.loads(text)
    except ValueError as error:
        what, fix = toml_fault(text, str(error))
        assert "it is not TOML" in what
        assert fix


@given(st.text(st.characters(codec="ascii", exclude_categories=["Cc"])))
def test_what_a_keyboard_gives_is_not_odd(text: str) -> None:
    assert odd_character(text) is None


def test_invisible_characters_at_the_ends_are_no_part_of_a_text() -> None:
    assert strip("\ufeff\u00a0 a\u200bb \u2060\n") == "a\u200bb"

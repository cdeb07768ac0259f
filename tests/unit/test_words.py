"""The words that the glossary bans are in no name, comment, docstring, help, page or message."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
BANNED = re.compile(
    r"\b(told|tells?|telling|untold|heed(ed|s)?|mend(ed|s)?|till|anew|besides|whoever|in hand|"
    r"let go|became of|came of|so many)\b",
    re.IGNORECASE,
)
# Names of fields in the API's answers and in code, quoted in words.
QUOTED = re.compile(r"`[^`]*`|\{[^{}]*\}")
PROSE = sorted(
    path.relative_to(ROOT)
    for folder, ending in (
        ("receiver", "*.py"),
        ("receiver", "*.html"),
        ("receiver", "*.js"),
        ("deploy", "*.md"),
        ("docs", "*.md"),
        (".", "*.md"),
    )
    for path in ((ROOT / folder).glob(ending) if folder == "." else (ROOT / folder).rglob(ending))
    if path.name != "glossary.md" and "versions" not in path.parts  # frozen migrations
)
TESTS = sorted(path.relative_to(ROOT) for path in (ROOT / "tests").rglob("*.py"))


def words_of(path: Path) -> Iterator[tuple[int, str]]:
    text = (ROOT / path).read_text("utf-8")
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME:
            yield token.start[0], token.string.replace("_", " ")
        elif token.type in {tokenize.COMMENT, tokenize.STRING}:
            yield from enumerate(token.string.splitlines(), token.start[0])


@pytest.mark.parametrize("path", PROSE, ids=str)
def test_no_banned_word_is_used(path: Path) -> None:
    assert banned_in(path) == []


def test_no_banned_word_is_used_in_a_test() -> None:
    assert [one for path in TESTS if path.name != "test_words.py" for one in banned_in(path)] == []


def banned_in(path: Path) -> list[str]:
    return [
        f"{path}:{line}: {match[0]}"
        for line, words in words_of(path)
        for match in BANNED.finditer(QUOTED.sub("", words))
    ]

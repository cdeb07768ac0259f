"""What an answer says in words: one printable line from any body, without secrets.

Edgegap documents `{"message": text}`. Also seen or likely are lists and objects in its place,
`error`, `errors` by field (Flask-RESTX), `details` (its v2 API), and pages of HTML.
"""

import html
import re
from collections.abc import Iterable, Mapping
from typing import Any

from receiver.secret import MASK, Secret, mask

MAX_MESSAGE = 500
LONGEST_READ = 65_536  # characters; of more, only the beginning is looked at
DEEPEST = 6
_SENTENCES = ("message", "error", "errors")
_DETAILS = ("details", "detail")
_NO_WORDS = frozenset({"success", "version"})
_SECRET_NAME = re.compile(
    r"token|secret|passw|credential|authorization|private_|key\b", re.IGNORECASE
)
_TITLE = re.compile(r"<title[^<>]*>([^<>]*)", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")


def words_of_json(said: Any, secrets: Iterable[Secret]) -> str:
    """Return what a JSON value says: its documented words, otherwise all of it."""
    if not isinstance(said, Mapping):
        return one_line(_text(_safe(said)), secrets)
    parts = [_text(_safe(said.get(name), sentences=True)) for name in _SENTENCES]
    parts += [_text(_safe(said.get(name))) for name in _DETAILS]
    if not any(parts):
        parts = [_text(_safe({name: said[name] for name in said if name not in _NO_WORDS}))]
    return one_line("; ".join(filter(None, parts)), secrets)


def words_of_page(content: bytes, secrets: Iterable[Secret]) -> str:
    """Return the title of a page of HTML, otherwise the text between its tags."""
    secrets = tuple(secrets)
    text = content.decode("utf-8", "replace")
    text = mask(html.unescape(mask(text, secrets)), secrets)[:LONGEST_READ]
    title = _TITLE.search(text)
    return one_line(title[1]) if title and title[1].strip() else one_line(_TAG.sub(" ", text))


def one_line(text: str, secrets: Iterable[Secret] = ()) -> str:
    """Return the text masked, printable, with single spaces, and then cut to its limit."""
    text = mask(text, secrets)[:LONGEST_READ]
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    line = " ".join(printable.split())
    return line if len(line) <= MAX_MESSAGE else line[: MAX_MESSAGE - 1] + "…"


def _text(value: Any) -> str:
    if isinstance(value, Mapping):
        entries = ((name, _text(inner)) for name, inner in value.items())
        return ", ".join(f"{name}: {text}" for name, text in entries if text)
    if isinstance(value, list):
        return "; ".join(text for inner in value if (text := _text(inner)))
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _safe(value: Any, *, sentences: bool = False, depth: int = 0) -> Any:
    """Return the value down to a depth, without values that may be secrets, ours or another's.

    `sentences`: what it holds by the names of fields are sentences about them.
    """
    if depth == DEEPEST:
        return "…"
    if isinstance(value, list):
        return [_safe(inner, sentences=sentences, depth=depth + 1) for inner in value]
    if not isinstance(value, Mapping):
        return value
    is_variable = {"key", "value"} <= value.keys()
    safe = {}
    for name, inner in value.items():
        hidden = name == "value" if is_variable else _SECRET_NAME.search(name) is not None
        if hidden and inner and not (sentences and " " in str(inner)):
            safe[name] = MASK
        else:
            safe[name] = _safe(inner, sentences=sentences, depth=depth + 1)
    return safe

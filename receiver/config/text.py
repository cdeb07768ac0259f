"""Text as editors, shells and web pages write it: encodings, odd characters, invalid TOML.

Pure: an error is returned or raised as two sentences, the error and its fix.
"""

import re
import unicodedata

from receiver.errors import BadText, Fault

SAVE_AS_UTF_8 = "Save it as UTF-8 (Notepad: Save as, Encoding; PowerShell: Out-File -Encoding utf8)"
CURLY = "\u201c\u201d\u201e\u201f\u2018\u2019\u201a\u201b\u00ab\u00bb\u2039\u203a\u2033\u2032"
LOOKS_LIKE = {
    "\N{HORIZONTAL ELLIPSIS}": "three dots (...)",
    "\N{EN DASH}": "a hyphen (-)",
    "\N{EM DASH}": "a hyphen (-)",
    "\N{MINUS SIGN}": "a hyphen (-)",
}
_UTF_32 = (b"\xff\xfe\0\0", b"\0\0\xfe\xff")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_MIN_NUL_SHARE = 0.4  # of the bytes are NUL if Latin text is UTF-16 without a byte order mark

# Characters that print nothing: soft hyphen, zero-width and directional marks, byte order mark.
INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff"
)
_EDGES = re.compile(rf"^[\s{INVISIBLE}]+|[\s{INVISIBLE}]+\Z")
_PRINTS_NOTHING = re.compile(rf"[{INVISIBLE}]")
_PLACE = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)")
_KEY = re.compile(rf"[a-z_.\s\"'{CURLY}{INVISIBLE}]{{1,40}}")  # a text with digits may be a secret
_VALUE = re.compile(rf"""[^\s"'{CURLY}\[\]{{}}(),=#]+""")
_FIXES = {
    "Expected newline": "Write each setting, and each [[table]], on a line of its own",
    "Expected '='": 'Write name = "value"',
    "Invalid value": 'Write text in quotation marks ("…"), true and false in lower case',
    "Illegal character": "Close the quotation marks on that line",
    "Unterminated string": "Close the quotation marks",
    "Unescaped": r"Write \\ for \ in a text, or put the text in single quotation marks",
    "Cannot overwrite": "It is defined twice: remove one of the two",
    "Cannot declare": "It is defined twice: remove one of the two, or write [[rule]] for each rule",
}


def decode_text(content: bytes) -> str:
    """Return a file's text, with or without a byte order mark; raises BadText."""
    if content.startswith(_UTF_32):
        raise BadText("it is saved as UTF-32, not as UTF-8", SAVE_AS_UTF_8)
    nul = content.count(b"\0")
    if content.startswith(_UTF_16) or nul > len(content) * _MIN_NUL_SHARE:
        raise BadText("it is saved as UTF-16, not as UTF-8", SAVE_AS_UTF_8)
    if nul:
        line = content[: content.index(b"\0")].count(b"\n") + 1
        raise BadText(f"it has a NUL byte in line {line}: it is not a text file", SAVE_AS_UTF_8)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise BadText(f"it is not UTF-8 (line {line})", SAVE_AS_UTF_8) from None


def with_plain_line_ends(text: str) -> str:
    r"""Return the text with `\n` for each line end, `\r` alone included."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def strip(text: str) -> str:
    """Return the text without white space and invisible characters at both ends."""
    return _EDGES.sub("", text)


def odd_character(text: str) -> Fault | None:
    """Return the first character that a keyboard does not produce, and what to write instead.

    These are curly quotation marks, unusual spaces and invisible characters: in ordinary text they
    come from a word processor or a web page. None if there is none.
    """
    for character in text:
        code = f"U+{ord(character):04X}"
        if character in CURLY:
            return Fault(f"the curly quotation mark {character} ({code})", "Write straight ones")
        if character in LOOKS_LIKE:
            return Fault(f"the character {character} ({code})", f"Write {LOOKS_LIKE[character]}")
        if _PRINTS_NOTHING.match(character) or not (character.isprintable() or character in "\t\n"):
            name = unicodedata.name(character, "a control character").lower()
            return Fault(
                f"an invisible character ({code}, {name})", "Remove it, or type the line again"
            )
    return None


def toml_fault(text: str, message: str) -> Fault:
    """Return the error of a text that is not TOML, and the fix.

    `message` is tomllib's; the line is shown without its values, which may be secret.
    """
    lines = text.split("\n")
    place = _PLACE.search(message)
    number, column = (int(place[1]), int(place[2])) if place and place[1] else (len(lines), 1)
    line = lines[min(number, len(lines)) - 1]
    reason = _PLACE.sub("", message)
    what = f"it is not TOML: line {number}, `{_outline(line)}`: {reason}"
    odd = odd_character(line[column - 1 :])
    if odd is not None:
        return Fault(f"{what}; it contains {odd[0]}", odd[1])
    if reason.startswith("Expected newline") and "\n" not in text.strip() and "\\n" in text:
        what = r"it is not TOML: it has the two characters \n instead of line breaks"
    fixes = (fix for start, fix in _FIXES.items() if reason.startswith(start))
    return Fault(what, next(fixes, "Correct that line"))


def _outline(line: str) -> str:
    """Return a line of TOML with `…` instead of each value."""
    name, equals, value = line.strip().partition("=")
    if name.startswith("[") and not equals:
        shown = name
    elif equals and _KEY.fullmatch(name):
        shown = name + equals + _VALUE.sub("…", value)
    else:
        shown = _VALUE.sub("…", line.strip())
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}"
        for character in shown[:80]
    )

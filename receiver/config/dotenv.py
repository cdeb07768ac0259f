r"""The file `.env`: NAME=value lines, read as Docker Compose and python-dotenv read them.

A value may be in single quotes, which keep it unchanged, or in double quotes, in which `\"`,
`\\`, `\$`, `\n`, `\r` and `\t` have a meaning; a comment begins at ` #`. Nothing is expanded. Pure.
"""

import re
from collections.abc import Mapping

import msgspec

from receiver.config.text import INVISIBLE, strip, with_plain_line_ends
from receiver.errors import BadText, Fault

MAX_LINES = 300  # of one value
_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_ASSIGNMENT = re.compile(rf"[\s{INVISIBLE}]*(?:export\s+)?({_NAME})[\s{INVISIBLE}]*=")
_NAME_ALONE = re.compile(rf"(?:export\s+)?{_NAME}", re.ASCII)
_ANY_NAME = re.compile(
    rf"(?:export\s+|set\s+|setenv\s+|\$env:)?({_NAME})", re.ASCII | re.IGNORECASE
)
_OURS = r"(?:RECEIVER|EDGEGAP|DOCKERHUB)_[A-Z0-9_]+|(?:DATABASE_URL|FORWARDED_ALLOW_IPS)(?:_FILE)?"
_SHORT = r"HOST|PORT|(?:HTTPS?|ALL|NO)_PROXY|SSL_CERT_(?:FILE|DIR)"
_IS_OURS = re.compile(rf"{_OURS}|HOST|PORT", re.ASCII)
_NAMES_OURS = re.compile(rf"({_OURS})\s*=", re.ASCII)
_NAMES_ANY = re.compile(rf"({_OURS}|(?:{_SHORT})(?=\s*=.))\s*=", re.ASCII)
_MAY_NAME_THEM = "RECEIVER_CONFIG_TOML"
_ASSIGNS_OURS = re.compile(rf"^\s*(?:export\s+)?(?:{_OURS})\s*=", re.ASCII | re.MULTILINE)
_SINGLE = re.compile(r"'([^']*)'", re.DOTALL)
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$"}
_COMMENT = re.compile(r"\s#.*")
_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=~-]*", re.ASCII)


class Problem(msgspec.Struct, frozen=True):
    """A line that sets no variable; `name` is the variable that it seems to mean."""

    line: int
    name: str
    what: str
    fix: str


class Dotenv(msgspec.Struct, frozen=True):
    """The content of a `.env`: variables, lines that set none, names that are set twice."""

    values: Mapping[str, str]
    problems: tuple[Problem, ...] = ()
    twice: tuple[str, ...] = ()


def parse_dotenv(text: str) -> Dotenv:
    """Read a whole file; never raises. If a variable is set twice, the last value is used."""
    lines = with_plain_line_ends(text).split("\n")
    values: dict[str, str] = {}
    problems: list[Problem] = []
    twice: list[str] = []
    following = 0  # lines that belong to the value before them
    for number, line in enumerate(lines, start=1):
        if following:
            following -= 1
            continue
        bare = strip(line)
        if not bare or bare.startswith("#") or _NAME_ALONE.fullmatch(bare):
            continue
        found = _ASSIGNMENT.match(line)
        if found is None:
            meant = _ANY_NAME.match(bare)
            name = meant[1] if meant else ""
            problems.append(Problem(number, name, "it is not NAME=value", "Write NAME=value"))
            continue
        name, rest = found[1], line[found.end() :]
        try:
            value = _value_of(name, rest)
            if value is None:
                value, following = _value_of_lines([rest, *lines[number : number + MAX_LINES]])
        except BadText as error:
            problems.append(Problem(number, name, str(error), error.fix))
            continue
        twice += [name] if values.get(name, value) != value else []
        values[name] = value
    return Dotenv(values, tuple(problems), tuple(dict.fromkeys(twice)))


def lost_break(name: str, value: str) -> Fault | None:
    """Return the error of a value that contains the assignment of another variable, and the fix.

    Names that are short or not the receiver's are recognized only in its own variables: other
    programs have options of these names. The value may begin with its own name.
    """
    own = re.match(rf"(?:export\s+)?{re.escape(name)}\s*=", value)
    pattern = _NAMES_ANY if _IS_OURS.fullmatch(name) else _NAMES_OURS
    lost = pattern.search(value, own.end() if own is not None else 0)
    if lost is None:
        return None
    return Fault(
        f"the line break before {lost[1]}= is missing", "Write each variable on a line of its own"
    )


def unquoted(text: str) -> str | None:
    """Return the value of a text in quotation marks, with or without a comment after it.

    None if it is not in quotation marks, or if anything but a comment follows the closing mark.
    """
    text = strip(text)
    found = _quoted(text)
    if found is None or not _is_comment(text[found.end() :]):
        return None
    if text[0] == "'":
        return found[1]
    return _ESCAPED.sub(lambda escape: _ESCAPES.get(escape[1], escape[0]), found[1])


def without_comment(text: str) -> str:
    """Return an unquoted text without the comment that begins at ` #`."""
    return strip(_COMMENT.sub("", text))


def dotenv_line(name: str, value: str) -> str:
    """Return the line, with its line end, that is read as this value."""
    if _PLAIN.fullmatch(value):
        return f"{name}={value}\n"
    if "'" not in value and "\n" not in value and "\r" not in value:
        return f"{name}='{value}'\n"
    for character, escape in (("\\", "\\\\"), ('"', '\\"'), ("$", "\\$")):
        value = value.replace(character, escape)
    value = value.replace("\n", "\\n").replace("\r", "\\r")
    return f'{name}="{value}"\n'


def _value_of(name: str, rest: str) -> str | None:
    """Return the value on this line, None if its quotation mark is still open at the end.

    Raises BadText.
    """
    text = strip(rest)
    is_quoted = text.startswith(("'", '"'))
    if is_quoted and _quoted(text) is None:
        return None
    value = unquoted(text) if is_quoted else without_comment(rest)
    may_name_them = is_quoted and (name == _MAY_NAME_THEM or not _IS_OURS.fullmatch(name))
    if value is None or not may_name_them:
        lost = lost_break(name, text if value is None else value)
        if lost is not None:
            raise BadText(*lost)
    if value is None:
        raise BadText(
            "there is text after its closing quotation mark",
            r"Put the whole value in quotation marks; write \" for one inside it",
        )
    return value


def _value_of_lines(lines: list[str]) -> tuple[str, int]:
    """Return the value that begins on the first line, and the number of lines after it.

    Raises BadText.
    """
    text = "\n".join(lines).lstrip()
    found = _quoted(text)
    if found is not None and not _ASSIGNS_OURS.search(found[1]):
        value = unquoted(text[: found.end()] + text[found.end() :].split("\n")[0])
        if value is not None:
            return value, found[0].count("\n")
    raise BadText(
        f"its quotation mark {strip(lines[0])[0]} is never closed",
        "Close it, or put the value in the other kind of quotation marks",
    )


def _quoted(text: str) -> re.Match[str] | None:
    return (_DOUBLE if text.startswith('"') else _SINGLE).match(text)


def _is_comment(rest: str) -> bool:
    rest = strip(rest)
    return not rest or rest.startswith("#")

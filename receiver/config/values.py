"""Parse single values of the configuration: URLs, addresses, durations, tokens, names.

An error is returned as text: a part of a sentence, or the error and its fix. The text contains no
value that may be secret.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from receiver.config.environment import within_quotes
from receiver.config.text import odd_character, strip
from receiver.errors import Fault

UNITS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
MAX_DIGITS = 6
MAX_HOST, MAX_LABEL = 253, 63
TRUE, FALSE = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})
ANYWHERE = "*"
COPY_IT_AGAIN = "Copy or type it again, as plain text"

_LABEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?", re.ASCII)
_PORT_AFTER = re.compile(r"(.*?):(\d{1,5})", re.ASCII)
# A target triple, as compilers write the kind of a machine; conda sets HOST to one.
_MACHINE_KIND = re.compile(
    r"(?:x86_64|i\d86|aarch64|arm\w*|p(?:owerpc|pc)\w*|s390x|riscv\w*)-(?:\w+-)?"
    r"(?:linux-\w+|darwin[\w.]*|mingw\w*|msvc)",
    re.ASCII,
)
_SCHEMES = re.compile(
    r"(?:authorization\s*[:=]\s*|(?:(?:api[-_ ]?)?token|bearer|basic)(?:\s*[:=]\s*|\s+))(?=\S)",
    re.IGNORECASE,
)
_CALL = (
    r"(?:apps?|deploy|deployments?|status|stop|storage|namespaces|repositories|users|auth)(?:/.*)?"
)
_PLACEHOLDER = re.compile(
    r"…|<.*>|\[.*\]|\{.*\}|\.{2,}|[*x#.][*x#._-]{2,}"
    r"|(change|replace|fill|edit)[-_ ]?(me|this|it|in)[-_ !0-9]*|\*+[a-z_ ]+\*+"
    r"|your[-_ ]?([a-z]+[-_ ]){0,4}(token|key|password|secret|username|name|pat)([-_ ]?here)?"
    r"|(insert|paste|enter)[-_ ](your|the|a|here).*|to-?do|tbd|fixme|placeholder|none|null",
    re.IGNORECASE,
)
# Words of which an example's placeholder consists, one of the first group among them.
_ASKS = r"your|here|insert|paste|enter|put|replace|change|fill|edit"
_NAMES = (
    r"my|the|with|an?|in|me|it|this|real|actual|own|value|api|access|auth|admin|secret|token|key"
    r"|pass(?:word)?|pat|user|name|login|edgegap|docker|hub|receiver|url|id"
    r"|please|now|some|something|random|long|strong|bytes|characters|string|hex|\d{1,3}"
)
_ASKS_FOR_IT = re.compile(
    rf"(?=.*(?:{_ASKS}))(?:(?:{_ASKS}|{_NAMES})(?:[-_ .]+|\Z)){{2,}}", re.IGNORECASE
)
_SCHEME_ALONE = re.compile(
    r"(?:authorization|bearer|basic)\s*[:=]?|(?:api[-_ ]?)?token\s*[:=]", re.IGNORECASE
)
_REFERENCE = re.compile(
    r"\$\{.*\}|\$[A-Z_][A-Z0-9_]{2,}|\{\{.*\}\}|%[A-Z_]{3,}%"
    r"|[a-z+]{2,12}://.*|vault:.*|arn:aws.*|projects/.+/secrets/.*|@Microsoft\.KeyVault\(.*\)",
    re.ASCII,
)
# What a shell would run, in quotation marks of its own or without them.
_COMMAND = re.compile(
    r"\$\(.*\)|(?:openssl rand|python3? -c|head -c|pwgen -|cat /|op read|pass show).*"
    r"|(?:\w+\.)*\w+\(\d*\)",
    re.ASCII | re.DOTALL,
)
# Printable, and neither white space nor what only surrounds or follows a value.
_A_TOKEN = re.compile(r"[!#-&(-+\--:<-\[\]-~]+", re.ASCII)


def url_fault(value: object) -> str | None:
    """Return the error of a base URL, None if it is valid; the text does not contain the URL."""
    if not isinstance(value, str):
        return "it is not text"
    try:
        parts = urlsplit(value)
    except ValueError:
        return "it is not a URL"
    try:
        port = parts.port
    except ValueError:
        port = 0
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return "it does not begin with https:// and a host"
    if port == 0:
        return "its port is not a number from 1 to 65535"
    if "@" in parts.netloc:
        return "it contains a user name or password"
    if set(value) & set("?#"):
        return "it contains a ? or #"
    odd = odd_character(value)
    if odd is not None:
        return f"it contains {odd[0]}"
    if not parts.hostname.isascii():
        return "its host has letters that are not ASCII: write the form that begins with xn--"
    if not value.isascii() or not value.isprintable() or set(value) & set(" @\\"):
        return "it contains white space, @, \\ or letters that are not ASCII"
    if parts.netloc.endswith(":"):
        return "it has a colon, but no port after it"
    return None if _is_host(parts.hostname) else "its host is not a name that a host can have"


def _is_host(host: str) -> bool:
    """Return whether a URL's host is an address or a name, which may have an underscore."""
    try:
        ip_address(host)
    except ValueError:
        labels = host.removesuffix(".").replace("_", "-").split(".")
        fits = all(_LABEL.fullmatch(label.strip("-") or "*") for label in labels)
        return fits and max(map(len, labels)) <= MAX_LABEL and len(host) <= MAX_HOST
    return True


def base_url(text: str) -> str:
    """Return a URL without slashes at its end, its scheme in lower case."""
    scheme, separator, rest = text.rstrip("/").partition("://")
    return f"{scheme.lower()}{separator}{rest}"


def without_end(url: str, ends: Iterable[str]) -> str:
    """Return a base URL without the path that the receiver adds: `/v1`, or a call copied whole.

    `ends` are the versions of the API, as `/v1`; after one may come a call of Edgegap's or of
    Docker Hub's API.
    """
    versions = "|".join(map(re.escape, ends))
    found = re.search(rf"/*(?:{versions})(?:/+{_CALL})?/*$", url, re.IGNORECASE)
    return url if found is None or not versions else url[: found.start()].rstrip("/")


def public_url_fault(value: object) -> str | None:
    """As `url_fault`; the public URL may have no path, because the page's own links have none."""
    fault = url_fault(value)
    if fault is None and urlsplit(str(value)).path.strip("/"):
        return "it has a path, but the receiver runs only at the root of a host"
    return fault


def is_plain_http(url: str) -> bool:
    """Return whether a URL uses plain http to another machine."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme != "http" or host == "localhost" or host.endswith(".localhost"):
        return False
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return True


def host_fault(host: str) -> Fault | None:
    """Return why HOST is neither an address nor a host name, and what to write instead."""
    fix = "Write an address, for instance HOST=127.0.0.1, or 0.0.0.0 for all addresses"
    try:
        ip_address(host)
    except ValueError:
        pass
    else:
        return None
    if "://" in host or "/" in host:
        return Fault(f"{host!r} is a URL or a network, not an address", fix)
    with_port = _PORT_AFTER.fullmatch(host)
    if with_port is not None and (host.startswith("[") or ":" not in with_port[1]):
        address = with_port[1] or "0.0.0.0"  # noqa: S104 - what `:8000` means to other programs
        return Fault(f"{host!r} has a port", f"Write HOST={address} and PORT={with_port[2]}")
    if _MACHINE_KIND.fullmatch(host):
        what = f"{host!r} is a kind of machine, not an address: conda sets HOST"
        return Fault(what, "Run `unset HOST`, or write HOST=127.0.0.1")
    labels = host.rstrip(".").split(".")
    is_name = len(host) <= MAX_HOST and all(_LABEL.fullmatch(label) for label in labels)
    if not is_name or labels[-1].isdigit():
        return Fault(f"{host!r} is neither an address nor a host name", fix)
    return None


def proxies_faults(text: str) -> list[Fault]:
    """Return the entries in a list of trusted proxies that never match, and what to write.

    Uvicorn compares addresses with addresses and networks (uvicorn.middleware.proxy_headers), and
    reads any other entry as a name, which no connection has.
    """
    items = [item.strip() for item in text.split(",")]
    if items == [ANYWHERE]:
        return []
    return [fault for item in items if (fault := _proxy_fault(item)) is not None]


def _proxy_fault(item: str) -> Fault | None:
    if item == ANYWHERE:
        return Fault("* cannot be combined with addresses", "Write * alone, or addresses alone")
    try:
        network = ip_network(item, strict=False)
    except ValueError:
        what = f"{item!r} is neither an address nor a network"
        return Fault(
            what, "Write addresses or networks, for instance 10.0.0.0/8, with commas between"
        )
    try:
        ip_network(item)
    except ValueError:
        return Fault(f"{item!r} has bits set after its prefix", f"Write {network}")
    return None


def read_flag(text: str | None) -> bool | None:
    """Return the value of a variable that is on or off; unset is off, None for any other text."""
    word = (text or "no").lower()
    return True if word in TRUE else False if word in FALSE else None


def read_duration(text: object) -> int | None:
    """Return a duration (`90s`, `15m`, `12h`, `30d`) in milliseconds; None for any other text."""
    text = text.strip() if isinstance(text, str) else ""
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdigit()) or len(number) > MAX_DIGITS:
        return None
    return int(number) * UNITS[unit] or None if unit in UNITS else None


def duration_fault(value: object, low: int, high: int) -> str | None:
    """Return the error of a duration that must be between two bounds in milliseconds."""
    found = read_duration(value)
    if found is None:
        return f"{value!r} is not a duration"
    if not low <= found <= high:
        return f"{value!r} is not between {_spelled(low)} and {_spelled(high)}"
    return None


def _spelled(milliseconds: int) -> str:
    unit = max((unit for unit in UNITS if milliseconds % UNITS[unit] == 0), key=UNITS.__getitem__)
    return f"{milliseconds // UNITS[unit]}{unit}"


def bare_token(text: str) -> str:
    """Return a token without quotes and the scheme that precedes it in a header.

    Edgegap's dashboard also copies the word `token`; alone it may be a token itself.
    """
    before = None
    while before != text:
        before = text
        scheme = _SCHEMES.match(text := strip(text))
        text = text if scheme is None else text[scheme.end() :]
        inner = within_quotes(text)
        text = text if inner is None else inner
    return text


def token_fault(text: str) -> Fault | None:
    """Return why a text is not a token, and the fix; None if it may be a token."""
    fault = password_fault(text)
    if fault is None and _SCHEME_ALONE.fullmatch(text):
        return Fault("it is the word before a token, without the token", "Add the token itself")
    if fault is None and not _A_TOKEN.fullmatch(text):
        odd = "a quote, comma, semicolon or backslash"
        what = f"it contains {odd if text.isascii() else 'characters that are not ASCII'}"
        return Fault(what, COPY_IT_AGAIN)
    return fault


def password_fault(text: str) -> Fault | None:
    """As `token_fault`, for a text that may also be a password, which allows more characters."""
    fault = free_text_fault(text)
    if fault is None and any(character.isspace() for character in text):
        return Fault("it contains white space", COPY_IT_AGAIN)
    return fault or (None if text else Fault("it is empty", COPY_IT_AGAIN))


def login_faults(username: str, token: str) -> list[tuple[str, str, str]]:
    """Return the errors of a Docker Hub login: `username` or `token`, the error, and the fix."""
    found = []
    wrong = placeholder_fault(username)
    if wrong is None and (":" in username or not username.isprintable() or " " in username):
        wrong = Fault("it contains white space or a colon", "Write the Docker ID alone")
    if wrong is not None:
        found.append(("username", *wrong))
    wrong = password_fault(token)
    if wrong is not None:
        found.append(("token", *wrong))
    return found


def free_text_fault(text: str) -> Fault | None:
    """Return the error of a secret that may contain any character of a keyboard."""
    fault = placeholder_fault(text)
    odd = odd_character(text)
    if fault is None and odd is not None:
        return Fault(f"it contains {odd[0]}", COPY_IT_AGAIN)
    return fault


def placeholder_fault(text: str) -> Fault | None:
    """Return the error of a secret that is an example's placeholder; None if it is not."""
    if _PLACEHOLDER.fullmatch(text) or _ASKS_FOR_IT.fullmatch(text):
        return Fault("it is a placeholder", "Replace it with the value itself")
    if _REFERENCE.fullmatch(text):
        what = "it is a reference to another value, and references are not expanded"
        return Fault(what, "Replace it with the value itself")
    if _COMMAND.fullmatch(text):  # anyone who reads the same documentation knows it
        return Fault("it is a command, and commands are not run", "Run it, and set what it prints")
    return None


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is nearest to a name, None if none is near."""
    folded = {candidate.casefold(): candidate for candidate in known}
    close = get_close_matches(name.casefold(), folded, n=1)
    return folded[close[0]] if close else None

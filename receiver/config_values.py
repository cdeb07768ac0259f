"""Single values of the configuration, read: a URL, a duration, Edgegap's API token."""

from urllib.parse import urlsplit

UNITS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
MOST_DIGITS = 6


def url_fault(value: object) -> str | None:
    """Tell what is wrong with a base URL; None if nothing is. Never shows it: it may be secret."""
    if not isinstance(value, str):
        return "it is not text"
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError:
        return "it is no URL"
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0:
        return "it does not begin with https:// and a host"
    plain = value.isascii() and value.isprintable() and not set(value) & set(" @?#\\")
    return None if plain else "it holds more than scheme, host, port and path"


def read_duration(text: object) -> int | None:
    """Return a duration (`90s`, `15m`, `12h`, `30d`) in milliseconds; None if it is not."""
    text = text.strip() if isinstance(text, str) else ""
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdigit()) or len(number) > MOST_DIGITS:
        return None
    return int(number) * UNITS[unit] or None if unit in UNITS else None


def without_scheme(token: str) -> str:
    """Return an Edgegap token without the word `token` that its dashboard copies along."""
    head, *rest = token.split(maxsplit=1)
    return rest[0] if rest and head.lower() == "token" else token

"""The file `.env` that `receiver init` writes: NAME=value lines, for what is not set already."""

from pathlib import Path


def read_dotenv(path: Path) -> dict[str, str]:
    """Return its variables; nothing where there is no such file or it cannot be read."""
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    found = {}
    for line in text.splitlines():
        name, equals, value = line.strip().removeprefix("export ").partition("=")
        if equals and name.strip().isidentifier() and "\0" not in value:
            found[name.strip()] = _unquoted(value.strip())
    return found


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return value[1:-1] if quoted else value

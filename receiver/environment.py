"""Environment variables, given as a mapping: plain ones, and secrets from NAME or NAME_FILE."""

from collections.abc import Mapping

from receiver.secret import Secret

FILE_SUFFIX = "_FILE"


def read_variable(environ: Mapping[str, str], name: str) -> str | None:
    """Return a variable stripped of white space, None when it is unset or empty."""
    return environ.get(name, "").strip() or None


def read_secret(environ: Mapping[str, str], name: str) -> Secret | None:
    """Return a secret, None when it is unset; files are read before, by `with_secret_files`."""
    value = read_variable(environ, name)
    return None if value is None else Secret(value)

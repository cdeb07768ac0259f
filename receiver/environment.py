"""Environment variables, given as a mapping: plain ones, and secrets from NAME or NAME_FILE."""

import re
from collections.abc import Mapping

from receiver.errors import Fault
from receiver.secret import Secret

FILE_SUFFIX = "_FILE"
OURS = ("EDGEGAP_", "DOCKERHUB_", "RECEIVER_", "DATABASE_URL")
PATHS = ("RECEIVER_CONFIG", FILE_SUFFIX)  # a file's name may be any bytes


def texts_of(environ: Mapping[str, str]) -> tuple[dict[str, str], list[Fault]]:
    """Return the variables that are text, and a fault for each of ours that is not.

    Bytes that are no UTF-8 come as halves of letters, which can be neither signed nor sent.
    """
    texts, faults = {}, []
    for name, value in environ.items():
        if name.endswith(PATHS) or _is_text(value):
            texts[name] = value
        elif name.startswith(OURS) or name in {"HOST", "PORT"}:
            faults.append(Fault(name, "it is not UTF-8", "Set it again, as text in UTF-8"))
    return texts, faults


def _is_text(value: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


def shown(name: object) -> str:
    """Return a variable's name as it may be shown: a secret may stand where a name belongs."""
    text = str(name)
    return text if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", text) else "what it names"


def read_variable(environ: Mapping[str, str], name: str) -> str | None:
    """Return a variable stripped of white space, None when it is unset or empty."""
    return environ.get(name, "").strip() or None


def read_secret(environ: Mapping[str, str], name: str) -> Secret | None:
    """Return a secret, None when it is unset; files are read before, by `with_secret_files`."""
    value = read_variable(environ, name)
    return None if value is None else Secret(value)

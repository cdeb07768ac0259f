"""Secrets from files: NAME is filled in from the file that NAME_FILE names."""

from collections.abc import Mapping
from pathlib import Path

from receiver.environment import FILE_SUFFIX, OURS
from receiver.errors import Fault

LARGEST_SECRET = 64 * 1024


def with_secret_files(environ: Mapping[str, str]) -> tuple[dict[str, str], list[Fault]]:
    """Return the environment with what files hold, and the faults of files that are ours.

    Another program's NAME_FILE may be anything: it is read where it is a plain file, else left.
    """
    filled = dict(environ)
    faults = []
    for variable, text in environ.items():
        name, path = variable.removesuffix(FILE_SUFFIX), Path(text.strip())
        if name == variable or not text.strip() or filled.get(name, "").strip():
            continue
        ours = name.startswith(OURS)
        try:
            if ours or (path.is_file() and path.stat().st_size <= LARGEST_SECRET):
                filled[name] = path.read_bytes().decode().strip()
        except (OSError, UnicodeDecodeError, ValueError) as error:
            if ours or name in environ:
                what = f"the file it names cannot be read ({type(error).__name__})"
                faults.append(Fault(variable, what, "Check the path and who may read it"))
    return filled, faults

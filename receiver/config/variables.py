"""The environment as the configuration reads it: the process's own variables, then `.env`.

A `.env` next to receiver.toml overrides a `.env` in the working directory; the process's own
environment overrides both. Each variable may be given as NAME_FILE, the name of a file with its
value.
"""

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec.structs import replace

from receiver.config.dotenv import parse_dotenv
from receiver.config.environment import (
    CONFIG_TEXT,
    FILE_SUFFIX,
    WITHOUT_FILE,
    clean,
    is_ours,
    misspelled,
    near_name,
    shown,
)
from receiver.config.text import decode_text
from receiver.errors import BadText, ConfigIssue, Fault

DOTENV = ".env"
# The settings that a server requires: variables, and a table of receiver.toml.
NEEDED = frozenset({"RECEIVER_SECRET_KEY", "EDGEGAP_TOKEN", "rule"})
CONFIG = "RECEIVER_CONFIG"
MAX_FILE_BYTES = 1024 * 1024
_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
IN_A_VIRTUAL_ENVIRONMENT = "pyvenv.cfg"  # a directory that is also called .env sometimes


def endless_kind(path: Path) -> str | None:
    """Return what a path is if a read from it may never end, None if it is a file or a folder.

    Raises OSError.
    """
    return _KINDS.get(stat.S_IFMT(path.stat().st_mode))


def read_text(path: Path) -> str:
    """Return a text file's content without its byte order mark; raises BadText with the cause."""
    try:
        kind = endless_kind(path)
        if kind is not None:
            raise BadText(f"it is {kind}, not a file", "Name a regular file")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        if path.is_symlink():
            what = "it is a symbolic link to a file that does not exist"
            raise BadText(what, "Make that file, or remove the link") from None
        raise BadText("there is no such file", "Check the path") from None
    except IsADirectoryError:
        what = "it is a directory, not a file"
        fix = "Name a file; Docker creates a directory if a mounted file is missing"
        raise BadText(what, fix) from None
    except (OSError, ValueError) as error:  # a NUL in its name is a ValueError
        cause = getattr(error, "strerror", None) or "its name is not a valid file name"
        raise BadText(f"it cannot be read ({cause})", "Check its owner and permissions") from None
    if len(content) > MAX_FILE_BYTES:
        raise BadText(f"it is over {MAX_FILE_BYTES} bytes", "Check that it is the right file")
    return decode_text(content)


class DotenvFile(msgspec.Struct, frozen=True):
    """A `.env` that was looked up: whether it exists, and its content."""

    path: Path
    is_there: bool = False
    values: Mapping[str, str] = msgspec.field(default_factory=dict)
    faults: tuple[ConfigIssue, ...] = ()
    warnings: tuple[str, ...] = ()


class Variables(Mapping[str, str]):
    """The variables, each cleaned when it is read; the environment wins over `dotenvs`, in order.

    Collects the `faults` and `warnings` of everything that was read, and which names were read.
    """

    def __init__(self, environ: Mapping[str, str], dotenvs: Sequence[DotenvFile] = ()) -> None:
        self.faults = [fault for dotenv in dotenvs for fault in dotenv.faults]
        self.warnings = [warning for dotenv in dotenvs for warning in dotenv.warnings]
        self._dotenvs = dotenvs
        self._environ = dict(environ)
        self._parsed: set[str] = set()  # what comes from a .env
        self._used_instead: dict[str, str] = {}  # of NAME and NAME_FILE, the one in a `.env` before
        self._read: dict[str, str | None] = {}
        for dotenv in dotenvs:
            self._add(dotenv.values)

    def __getitem__(self, name: str) -> str:
        if name not in self._read:
            self._read[name] = self._value(name)
        value = self._read[name]
        if value is None:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._environ)

    def __len__(self) -> int:
        return len(self._environ)

    @property
    def asked(self) -> frozenset[str]:
        """The names that were read, set or not: those that the receiver knows."""
        return frozenset(self._read)

    @property
    def from_dotenv(self) -> dict[str, str]:
        """The variables that come from a `.env`, as they are written there."""
        return {name: self._environ[name] for name in sorted(self._parsed)}

    @property
    def is_whole(self) -> bool:
        """Whether each `.env` could be read: otherwise it may set what seems not to be set."""
        return not any(dotenv.faults for dotenv in self._dotenvs)

    def origin(self, name: str) -> str | None:
        """Return where a variable is set: in the environment, a `.env`, or a file of its own."""
        if self._environ.get(name, "").strip():
            place = "environment"
            for dotenv in self._dotenvs if name in self._parsed else ():
                place = str(dotenv.path) if name in dotenv.values else place
            return place
        named = name not in WITHOUT_FILE and self._environ.get(name + FILE_SUFFIX, "").strip()
        return name + FILE_SUFFIX if named else None

    def why_unset(self, name: str) -> Fault:
        """Return the error for a variable that is not set, and a hint if a similar one is set."""
        looked = [
            f"{dotenv.path} does not set it"
            if dotenv.is_there
            else f"there is no {DOTENV} in {dotenv.path.absolute().parent}"
            for dotenv in self._dotenvs
        ]
        known = {*self._read, name}
        near = [
            other
            for other in self._environ
            if other not in known and near_name(other, known) == name
        ]
        meant = "".join(f"{other} is set: did you mean {name}? " for other in near[:1])
        return Fault(", ".join(["it is not set", *looked]), meant)

    def warn_of_misspelled(self) -> None:
        """Add a warning for each variable that looks like one of ours but was not read."""
        for name, meant in sorted(misspelled(self._environ, self.asked).items()):
            hint = "" if meant is None else f"; did you mean {meant}?"
            self.warnings.append(f"{shown(name)} is not a variable of the receiver{hint}")

    def _add(self, values: Mapping[str, str]) -> None:
        before = dict(self._environ)
        for name, value in values.items():
            bare = name.removesuffix(FILE_SUFFIX)
            other = bare if bare != name else name + FILE_SUFFIX
            if name in before:  # perhaps because `main` set it for the libraries
                self._parsed |= {name} if before[name] == value else set()
            elif bare not in WITHOUT_FILE and before.get(other, "").strip():
                self._used_instead[bare] = other
            else:
                self._environ[name] = value
                self._parsed.add(name)

    def _value(self, name: str) -> str | None:
        raw, file = self._environ.get(name), ""
        if name not in WITHOUT_FILE:
            file = clean(name, self._environ.get(name + FILE_SUFFIX, ""), parsed=True).value
        used = name if file and (raw or "").strip() else self._used_instead.get(name)
        if used is not None:
            both = f"{name} and {name}{FILE_SUFFIX} are both set: {used} is used"
            self.warnings.append(both)
        if raw is None or not raw.strip():
            return raw if not file else self._value_in_file(name, Path(file))
        if name == CONFIG:
            return clean(name, raw, parsed=True).value  # a file name may contain any bytes
        if any("\ud800" <= character <= "\udfff" for character in raw):
            self.faults.append(
                ConfigIssue(name, "it is not UTF-8", "Set it again, as text in UTF-8")
            )
            return None
        return raw if name == CONFIG_TEXT else self._cleaned(name, raw, name in self._parsed)

    def _value_in_file(self, name: str, path: Path) -> str | None:
        try:
            content = read_text(path)
        except BadText as error:
            what = f"the file that it names: {error}"
            fix = error.fix if "/" in str(path) else f"If it is the value itself, set {name} to it"
            self.faults.append(ConfigIssue(name + FILE_SUFFIX, what, fix))
            return None
        if not content.strip():
            fix = f"Write the value of {name} into it, or unset {name}{FILE_SUFFIX}"
            self.faults.append(
                ConfigIssue(name + FILE_SUFFIX, f"the file that it names, {path}, is empty", fix)
            )
            return None
        return content if name == CONFIG_TEXT else self._cleaned(name, content, parsed=True)

    def _cleaned(self, name: str, raw: str, parsed: bool) -> str | None:
        found = clean(name, raw, parsed=parsed)
        if found.fault is not None:
            self.faults.append(ConfigIssue(name, *found.fault))
            return None
        if found.removed:
            taken = " and ".join(found.removed)
            self.warnings.append(f"{name} is read without {taken}, as .env files are")
        return found.value


def variables_of(environ: Mapping[str, str]) -> Variables:
    """Return the variables of an environment, with the `.env` files as defaults."""
    here = _read_dotenv(Path(DOTENV))
    named = environ.get(CONFIG, here.values.get(CONFIG, ""))
    text = environ.get(CONFIG_TEXT, here.values.get(CONFIG_TEXT, ""))
    folder = Path(clean(CONFIG, named, parsed=True).value).parent
    if text.strip() or _is_the_working_directory(folder):
        return Variables(environ, [here])
    beside = _read_dotenv(folder / DOTENV)
    values = {name: value for name, value in beside.values.items() if name != CONFIG}
    return Variables(environ, [replace(beside, values=values), here])


def _is_the_working_directory(folder: Path) -> bool:
    try:
        return folder.samefile(".")
    except OSError:  # one of the two does not exist
        return False


def _read_dotenv(path: Path) -> DotenvFile:
    if not os.path.lexists(path) or (path / IN_A_VIRTUAL_ENVIRONMENT).exists():
        return DotenvFile(path)
    try:
        dotenv = parse_dotenv(read_text(path))
    except BadText as error:
        return DotenvFile(path, faults=(ConfigIssue(str(path), str(error), error.fix),))
    faults = [
        ConfigIssue(
            f"{path}, line {problem.line} ({shown(problem.name)})", problem.what, problem.fix
        )
        for problem in dotenv.problems
        if is_ours(problem.name)
    ]
    warnings = [
        f"{path}, line {problem.line} sets nothing: {problem.what}"
        for problem in dotenv.problems
        if not is_ours(problem.name)
    ]
    warnings += [f"{path} sets {name} twice: the last value is used" for name in dotenv.twice]
    return DotenvFile(path, True, dotenv.values, tuple(faults), tuple(warnings))

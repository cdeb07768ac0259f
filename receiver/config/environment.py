"""The environment variables: what each means, and how it is read, cleaned and checked.

Cleaning removes what is often pasted around a value: quotes, a comment, its own name.
"""

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import NamedTuple

import msgspec

from receiver.config.dotenv import lost_break, unquoted, without_comment
from receiver.config.text import CURLY, strip
from receiver.errors import Fault
from receiver.secret import Secret

FILE_SUFFIX = "_FILE"
OURS = ("EDGEGAP_", "DOCKERHUB_", "RECEIVER_")
MAY_HOLD_ANYTHING = frozenset({"RECEIVER_SECRET_KEY", "RECEIVER_ADMIN_PASSWORD"})
CONFIG_TEXT = "RECEIVER_CONFIG_TOML"
# Names that other programs use or that people expect, with the receiver's own names.
OFTEN_MEANT = {
    "EDGEGAP_API_KEY": "EDGEGAP_TOKEN",
    "EDGEGAP_KEY": "EDGEGAP_TOKEN",
    "EDGEGAP_URL": "EDGEGAP_BASE_URL",
    "EDGEGAP_API_URL": "EDGEGAP_BASE_URL",
    "DOCKERHUB_PASSWORD": "DOCKERHUB_TOKEN",
    "DOCKERHUB_PAT": "DOCKERHUB_TOKEN",
    "DOCKERHUB_LOGIN": "DOCKERHUB_USERNAME",
    "DOCKER_HUB_PASSWORD": "DOCKERHUB_TOKEN",
    "RECEIVER_HOST": "HOST",
    "RECEIVER_PORT": "PORT",
    "RECEIVER_DATABASE_URL": "DATABASE_URL",
    "RECEIVER_KEY": "RECEIVER_SECRET_KEY",
    "RECEIVER_PASSWORD": "RECEIVER_ADMIN_PASSWORD",
    "RECEIVER_CONFIG_FILE": "RECEIVER_CONFIG",
}
_MIN_COMPARED = 8
_ALIKE, _NEARLY_THE_SAME = 0.6, 0.9
# What Kubernetes sets in each pod for a service named `receiver`.
_OF_KUBERNETES = re.compile(r"_SERVICE_(HOST|PORT(_.*)?)\Z|_PORT_\d+_(TCP|UDP|SCTP)(_.*)?\Z")
_QUOTES = "\"'`" + CURLY
_MAX_LAYERS = 3


class Variable(NamedTuple):
    """A variable that the receiver reads; `setting` is the attribute of Settings that it sets.

    `secret`: its value is never shown. `restart`: a reload does not apply it. `file`: its value may
    be in the file that NAME_FILE names.
    """

    name: str
    meaning: str
    setting: str = ""
    default: str = ""
    secret: bool = False
    restart: bool = False
    file: bool = True


VARIABLES = (
    Variable(
        "RECEIVER_SECRET_KEY",
        "signs links and API tokens, 16 characters or more; a comma-separated list, newest first, "
        "rotates; if the ledger knows none of its keys, `serve` warns that existing links are dead",
        "secret_keys",
        secret=True,
    ),
    Variable(
        "EDGEGAP_TOKEN",
        "the API token, with or without the leading word `token`",
        "edgegap_token",
        secret=True,
    ),
    Variable("EDGEGAP_BASE_URL", "Edgegap's API", "edgegap_base_url", "https://api.edgegap.com"),
    Variable(
        "EDGEGAP_REQUESTS_PER_SECOND", "maximum requests per second", "requests_per_second", "8"
    ),
    Variable("EDGEGAP_CONCURRENCY", "registrations that are worked on at once", "concurrency", "4"),
    Variable("DOCKERHUB_USERNAME", "the login with which Edgegap pulls", "login"),
    Variable("DOCKERHUB_TOKEN", "its access token, read-only", "login", secret=True),
    Variable(
        "DOCKERHUB_REGISTRY_URL",
        "the registry, for mirrors and tests",
        "registry_url",
        "https://registry-1.docker.io",
        restart=True,
    ),
    Variable(
        "DOCKERHUB_AUTH_URL",
        "the registry's token server",
        "registry_auth_url",
        "https://auth.docker.io/token",
        restart=True,
    ),
    Variable(
        "DOCKERHUB_API_URL",
        "Docker Hub's API",
        "hub_api_url",
        "https://hub.docker.com",
        restart=True,
    ),
    Variable(
        "RECEIVER_ALLOW_PLAIN_HTTP",
        "`true` allows a token to be sent over plain http to another machine",
        "allow_plain_http",
        default="false",
    ),
    Variable("RECEIVER_PUBLIC_URL", "overrides `public_url`"),
    Variable("RECEIVER_CONFIG", "path of the configuration", default="receiver.toml", file=False),
    Variable("RECEIVER_CONFIG_TOML", "its text, instead of a file", secret=True),
    Variable("RECEIVER_ADMIN_PASSWORD", "opens the page", "admin_password", secret=True),
    Variable("RECEIVER_METRICS_TOKEN", "for the metrics", "metrics_token", secret=True),
    Variable(
        "RECEIVER_LOG_LEVEL",
        "the minimum level that `serve` logs: `debug`, `info`, `warning` or `error`",
        "log_level",
        "info",
        restart=True,
    ),
    Variable(
        "RECEIVER_LOG_FORMAT",
        "its form: `json`, `text`, or `auto`: text on a terminal, otherwise JSON",
        "log_format",
        "auto",
        restart=True,
    ),
    Variable(
        "DATABASE_URL",
        "`sqlite:///path`, if not set a file `receiver.db` beside the configuration; or "
        "`postgresql://…` for replicas",
        "database_url",
        restart=True,
    ),
    Variable("HOST", "where to listen", "host", "127.0.0.1", restart=True, file=False),
    Variable("PORT", "where to listen", "port", "8000", restart=True, file=False),
    Variable(
        "FORWARDED_ALLOW_IPS",
        "proxies whose `X-Forwarded-For` is trusted, addresses or networks",
        "forwarded_allow_ips",
        "127.0.0.1",
        restart=True,
    ),
)
DEFAULTS = {variable.name: variable.default for variable in VARIABLES}
WITHOUT_FILE = frozenset(variable.name for variable in VARIABLES if not variable.file)


class Cleaned(msgspec.Struct, frozen=True):
    """A cleaned value. `removed` lists what was around it; `fault` is an error and its fix."""

    value: str
    removed: tuple[str, ...] = ()
    fault: Fault | None = None


def clean(name: str, raw: str, *, parsed: bool) -> Cleaned:
    """Return a variable's value without the quotes or the comment that came with it.

    `docker run --env-file` and most dashboards keep what `.env` readers remove. `parsed`: the value
    comes from a `.env`, or is a file's whole content: ` #` begins no comment in it.
    """
    text, removed, ours = strip(raw), [], is_ours(name)
    repeated = re.match(rf"(?:export\s+)?{re.escape(name)}\s*=\s*", text)
    if ours and repeated is not None:
        text = text[repeated.end() :]
        removed.append(f"{name}= before it")
    for _ in range(_MAX_LAYERS):
        inner = within_quotes(text)
        if inner is None:
            break
        text = strip(inner)
        removed.append("the quotes around it")
    if not parsed and not removed and " #" in text and ours:
        if name in MAY_HOLD_ANYTHING:
            what = "it contains ` #`, which begins a comment in a .env file"
            fix = "Remove the comment; if it is part of the value, put the whole value in quotes"
            return Cleaned(text, fault=Fault(what, fix))
        text = without_comment(text)
        removed.append("the comment after it")
    fault = lost_break(name, text) if ours else None
    if fault is not None:
        return Cleaned(text, fault=fault)
    return Cleaned(text, tuple(dict.fromkeys(removed)))


def is_ours(name: str) -> bool:
    """Return whether a variable is one of the receiver's, by its name."""
    return name.startswith(OURS) or name in DEFAULTS


def within_quotes(text: str) -> str | None:
    """Return the text inside quotes of any kind, also curly; None if it is not in quotes."""
    inner = unquoted(text)
    ends = text[:1] + text[-1:] if len(text) > 1 else ""
    if inner is None and ends and set(ends) <= set(_QUOTES) and not set(ends) <= set("\"'"):
        return text[1:-1]
    return inner


def shown(name: object) -> str:
    """Return a variable's name if it is safe to show: a secret may be written as a name."""
    text = str(name)
    return text if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", text) else "its variable"


def read_variable(environ: Mapping[str, str], name: str) -> str | None:
    """Return a variable stripped of white space, None if it is unset or empty."""
    return environ.get(name, "").strip() or None


def read_secret(environ: Mapping[str, str], name: str) -> Secret | None:
    """Return a secret, None if it is unset."""
    value = read_variable(environ, name)
    return None if value is None else Secret(value)


def misspelled(environ: Mapping[str, str], known: Collection[str]) -> dict[str, str | None]:
    """Return the variables that are set and not `known`, but look like one of ours.

    The value is the name that is probably meant, None if none is near. Variables of other programs
    are not included, unless they differ from one of ours in a letter or two.
    """
    names = {*known, *(name + FILE_SUFFIX for name in set(known) - WITHOUT_FILE)}
    ours = [name for name in known if is_ours(name)]
    found: dict[str, str | None] = {}
    for name, value in environ.items():
        if name in names or not value.strip() or _is_of_kubernetes(name, value):
            continue
        meant = near_name(name, ours)
        if name.upper().startswith(OURS) or meant is not None:
            found[name] = meant
    return found


def near_name(name: str, known: Collection[str]) -> str | None:
    """Return the known variable that a name probably means, None if none is near."""
    upper = name.upper()
    bare = upper.removesuffix(FILE_SUFFIX)
    suffix = upper[len(bare) :]
    meant = OFTEN_MEANT.get(upper) or OFTEN_MEANT.get(bare)
    if meant not in known:
        prefix = next((prefix for prefix in OURS if bare.startswith(prefix)), "")
        least = _ALIKE if prefix else _NEARLY_THE_SAME
        long = sorted(candidate for candidate in known if len(candidate) >= _MIN_COMPARED)
        own = {name[len(prefix) :]: name for name in long if name.startswith(prefix)}
        ends = {**{name: name for name in long if is_ours(name)}, **own} if prefix else own
        end = bare[len(prefix) :]
        near = get_close_matches(end, ends, n=1, cutoff=least)
        words = set(end.split("_"))
        having = [name for name in own.values() if prefix and words <= set(name.split("_"))]
        meant = ends[near[0]] if near else having[0] if len(having) == 1 else None
    return meant if meant is None or meant in WITHOUT_FILE else meant + suffix


def _is_of_kubernetes(name: str, value: str) -> bool:
    if "_SERVICE_" not in name and name.endswith("_PORT"):
        return value.startswith(("tcp://", "udp://", "sctp://"))
    return _OF_KUBERNETES.search(name) is not None

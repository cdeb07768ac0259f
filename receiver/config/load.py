"""Read the configuration, the environment and the file that it names, into one Settings.

All errors are found at once, each with its location and a fix.
"""

import dataclasses
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace
from sqlalchemy.engine import URL

from receiver.config.checks import OFF
from receiver.config.environment import DEFAULTS, read_secret, read_variable
from receiver.config.model import Configuration
from receiver.config.rule_tables import given, make_notices, make_rules
from receiver.config.settings import (
    ALLOW_PLAIN_HTTP,
    DEFAULT_CONFIG,
    DEFAULT_LEDGER,
    MIN_KEY_LENGTH,
    Settings,
    after_reload,
    how_to_get_the_key,
    keys_in,
    plain_http_faults,
)
from receiver.config.tables import read_table
from receiver.config.text import toml_fault, with_plain_line_ends
from receiver.config.values import (
    bare_token,
    base_url,
    free_text_fault,
    host_fault,
    login_faults,
    proxies_faults,
    public_url_fault,
    read_duration,
    read_flag,
    token_fault,
    url_fault,
    without_end,
)
from receiver.config.variables import NEEDED, Variables, read_text
from receiver.errors import BadText, ConfigError, ConfigIssue, Fault, RestartFirst
from receiver.extras import how_to_install
from receiver.http.variables import outgoing_faults
from receiver.images import Login
from receiver.ledger.engine import read_database_url, sqlite_path
from receiver.notifications.apprise import can_send
from receiver.secret import Secret

CONNECTING = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")
LOG_LEVELS = ("debug", "info", "warning", "error")
LOG_FORMATS = ("json", "text", "auto")


class Loaded(NamedTuple):
    """The settings, and the file with the default of each key that it does not have."""

    settings: Settings
    file: Configuration


def load_settings(environ: Mapping[str, str], *, need: frozenset[str] = frozenset()) -> Settings:
    """Read the environment and the file it names; raises ConfigError with all errors.

    It does not read `.env`: `receiver.config.variables.variables_of` does. `need` lists what is
    required: any of RECEIVER_SECRET_KEY, EDGEGAP_TOKEN, public_url, rule.
    """
    return load(environ, need=need).settings


def load(environ: Mapping[str, str], *, need: frozenset[str] = frozenset()) -> Loaded:
    """As `load_settings`, with the file."""
    reader = _Reader(environ)
    loaded = reader.load(need)
    if reader.faults:
        raise ConfigError(tuple(reader.faults), loaded.settings.warnings)
    return loaded


def load_settings_lenient(
    environ: Mapping[str, str], *, need: frozenset[str]
) -> tuple[Settings, tuple[ConfigIssue, ...]]:
    """As `load_settings`, for commands that need no rule: errors in the file are returned.

    Raises ConfigError if the environment has errors.
    """
    reader = _Reader(environ)
    settings = reader.load(need).settings
    if not all(reader.is_of_the_file(fault) for fault in reader.faults):
        raise ConfigError(tuple(reader.faults), settings.warnings)
    return settings, tuple(reader.faults)


class Reloaded(NamedTuple):
    """The settings in force after a reload, what needs a restart, and the secrets read."""

    settings: Settings
    needs_a_restart: tuple[str, ...]
    secrets: tuple[Secret, ...]


def reload_settings(running: Settings, environ: Mapping[str, str]) -> Reloaded:
    """As `load_settings`, for a receiver that runs; also checks the settings then in force."""
    read = load_settings(environ, need=NEEDED)
    settings, later = after_reload(running, read)
    faults = plain_http_faults(settings, later)
    if faults:
        raise RestartFirst(tuple(faults), read.warnings)
    return Reloaded(settings, later, read.secrets())


class _Reader:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ if isinstance(environ, Variables) else Variables(environ)
        self._faults: list[ConfigIssue] = []
        self._folder = Path()
        self._where = DEFAULT_CONFIG
        self._is_there = True

    @property
    def faults(self) -> list[ConfigIssue]:
        """All errors found so far, those of variables first."""
        return [*self._environ.faults, *self._faults]

    def load(self, need: frozenset[str]) -> Loaded:
        table = self._table()
        faults: list[ConfigIssue] = []
        file = read_table(Configuration, table, faults)
        token = self._token("EDGEGAP_TOKEN")
        login = self._login(token)
        rules = make_rules(file.rule, file.channel, self._environ, login, faults)
        notices = make_notices(file.notice, self._environ, rules, faults)
        if notices and not can_send():
            fix = f"Install it, {how_to_install('notices')}; or remove the [[notice]]"
            faults.append(ConfigIssue("notice", "Apprise, which sends it, is not installed", fix))
        tables = [fault.where.partition(", ")[0] for fault in faults]
        faults.sort(key=lambda fault: tables.index(fault.where.partition(", ")[0]))
        self._faults += [replace(fault, where=f"{self._where}, {fault.where}") for fault in faults]
        keys = self._secret_keys()
        self._check_needs(need, table)
        if "rule" in need:  # commands that need rules call Edgegap or Docker Hub
            self._faults += outgoing_faults(self._environ)
        every = None if file.catch_up.every == OFF else read_duration(file.catch_up.every)
        settings = Settings(
            rules=rules,
            notices=notices,
            public_url=self._public_url(given(file.public_url)),
            links=file.links,
            secret_keys=keys,
            edgegap_token=token,
            edgegap_base_url=self._url("EDGEGAP_BASE_URL", without=("/v1", "/v2")),
            requests_per_second=self._number(
                "EDGEGAP_REQUESTS_PER_SECOND", 0.01, 1000, whole=False
            ),
            concurrency=int(self._number("EDGEGAP_CONCURRENCY", 1, 64)),
            login=login,
            registry_url=self._url("DOCKERHUB_REGISTRY_URL", without=("/v2", "/v1")),
            registry_auth_url=self._url("DOCKERHUB_AUTH_URL", without=()),
            hub_api_url=self._url("DOCKERHUB_API_URL", without=("/v2",)),
            allow_plain_http=self._flag(ALLOW_PLAIN_HTTP),
            database_url=self._database_url(),
            host=self._host(),
            port=int(self._number("PORT", 0, 65_535)),
            forwarded_allow_ips=self._forwarded_allow_ips(),
            admin_password=self._password(),
            metrics_token=self._token("RECEIVER_METRICS_TOKEN"),
            log_level=self._word("RECEIVER_LOG_LEVEL", LOG_LEVELS),
            log_format=self._word("RECEIVER_LOG_FORMAT", LOG_FORMATS),
            catch_up_every=every,
            keep=read_duration(file.ledger.keep) or 0,
            keep_bodies=read_duration(given(file.ledger.bodies)),
            connecting=read_connecting(self._environ),
        )
        self._faults += plain_http_faults(settings)
        self._environ.warn_of_misspelled()
        return Loaded(dataclasses.replace(settings, warnings=tuple(self._environ.warnings)), file)

    def is_of_the_file(self, fault: ConfigIssue) -> bool:
        """Return whether the error is in receiver.toml, not in a variable."""
        return fault.where == self._where or fault.where.startswith(f"{self._where}, ")

    def _fault(self, where: str, what: str, fix: str) -> None:
        self._faults.append(ConfigIssue(where, what, fix))

    def _table(self) -> dict[str, Any]:
        text = self._environ.get("RECEIVER_CONFIG_TOML", "")
        named = read_variable(self._environ, "RECEIVER_CONFIG")
        if text.strip():
            self._where = "RECEIVER_CONFIG_TOML"
        else:
            path = Path(named or DEFAULT_CONFIG)
            self._where, self._folder = str(path), path.parent
            if named is None and not os.path.lexists(path):
                self._is_there = False
                return {}
            try:
                text = read_text(path)
            except BadText as error:
                names = f"; RECEIVER_CONFIG names {path.absolute()}" if named else ""
                self._fault(self._where, str(error), error.fix + names)
                return {}
        text = with_plain_line_ends(text)
        try:
            return tomllib.loads(text)
        except (ValueError, RecursionError) as error:  # a number that is too large is a ValueError
            self._fault(self._where, *toml_fault(text, str(error)))
            return {}

    def _check_needs(self, need: frozenset[str], table: dict[str, Any]) -> None:
        for name in ("RECEIVER_SECRET_KEY", "EDGEGAP_TOKEN"):
            wrong = {name, f"{name}_FILE"} & {fault.where for fault in self.faults}
            known = self._environ.is_whole and not wrong
            if name in need and known and read_variable(self._environ, name) is None:
                what, meant = self._environ.why_unset(name)
                fix = (
                    self._how_to_get_the_key()
                    if name == "RECEIVER_SECRET_KEY"
                    else "Make one under app.edgegap.com/user-settings?tab=tokens and set it"
                )
                self._fault(name, what, meant + fix)
        if any(fault.where == self._where for fault in self._faults):
            return  # the file could not be read, so its missing keys are not known
        given = "public_url" in table or read_variable(self._environ, "RECEIVER_PUBLIC_URL")
        wants_url, wants_rule = "public_url" in need and not given, "rule" in need
        if not self._is_there and (wants_url or wants_rule):
            fix = "Run `receiver init`, change to its folder, or name it with RECEIVER_CONFIG"
            if wants_url and not wants_rule:
                fix += "; or set RECEIVER_PUBLIC_URL"
            self._fault(self._where, f"there is no such file in {Path.cwd()}", fix)
            return
        if wants_url:
            fix = 'Write public_url = "https://…" above the first [[rule]]'
            fix += ", or set RECEIVER_PUBLIC_URL"
            self._fault(f"{self._where}, public_url", "it is missing", fix)
        if wants_rule and not table.get("rule"):
            fix = 'Write: [[rule]]  repository = "group/project"  app = "my-game", a line each'
            self._fault(f"{self._where}, rule", "there is none", fix)

    def _secret_keys(self) -> tuple[Secret, ...]:
        name = "RECEIVER_SECRET_KEY"
        text = read_variable(self._environ, name) or ""
        keys = keys_in(text)
        if text and not keys:
            self._fault(name, "it has no key, only commas or quotes", self._how_to_get_the_key())
        for number, key in enumerate(keys, start=1):
            which = "it" if len(keys) == 1 else f"key {number} of {len(keys)}"
            fault = free_text_fault(key)
            if fault is None and "\n" in key:
                fault = Fault(f"{which} has a line break", "Put a comma between two keys")
            if fault is None and len(key) < MIN_KEY_LENGTH:
                what = f"{which} is shorter than {MIN_KEY_LENGTH} characters, which can be guessed"
                fault = Fault(what, self._how_to_get_the_key())
            if fault is not None:
                self._fault(name, *fault)
        return tuple(Secret(key) for key in reversed(keys))

    def _how_to_get_the_key(self) -> str:
        text = read_variable(self._environ, "DATABASE_URL")
        named = Path(read_variable(self._environ, "RECEIVER_CONFIG") or "").parent
        try:
            url = None if text is None else read_database_url(text)
        except ValueError:  # reported as a fault of DATABASE_URL
            url = None
        return how_to_get_the_key(url, self._folder, named)

    def _token(self, name: str) -> Secret | None:
        value = read_variable(self._environ, name)
        if value is None:
            return None
        token = bare_token(value)
        fault = token_fault(token)
        if fault is not None:
            self._fault(name, *fault)
        return Secret(token)

    def _password(self) -> Secret | None:
        password = read_secret(self._environ, "RECEIVER_ADMIN_PASSWORD")
        fault = free_text_fault(password.reveal()) if password is not None else None
        if fault is not None:
            self._fault("RECEIVER_ADMIN_PASSWORD", *fault)
        return password

    def _login(self, api_token: Secret | None) -> Login | None:
        username = read_variable(self._environ, "DOCKERHUB_USERNAME")
        given = read_variable(self._environ, "DOCKERHUB_TOKEN")
        if (username is None) != (given is None):
            missing = "DOCKERHUB_USERNAME" if username is None else "DOCKERHUB_TOKEN"
            _, meant = self._environ.why_unset(missing)
            fix = f"{meant}Set both, or neither for public repositories"
            self._fault(missing, "it is not set, but the other half of the login is", fix)
        if username is None or given is None:
            return None
        token = bare_token(given)
        for name, what, fix in login_faults(username, token):
            self._fault(f"DOCKERHUB_{name.upper()}", what, fix)
        if api_token is not None and token == api_token.reveal():
            fix = "Make a read-only access token on Docker Hub and set that"
            self._fault("DOCKERHUB_TOKEN", "it is the Edgegap API token", fix)
        return Login(username, Secret(token))

    def _public_url(self, of_the_file: str | None) -> str | None:
        value = read_variable(self._environ, "RECEIVER_PUBLIC_URL")
        fault = None if value is None else public_url_fault(value)
        if fault is not None:
            self._fault("RECEIVER_PUBLIC_URL", fault, 'Write it as "https://hooks.example.com"')
            return None
        return base_url(value or of_the_file or "") or None

    def _url(self, name: str, *, without: tuple[str, ...]) -> str:
        """Read a base URL; `without` are the suffixes that the receiver adds itself."""
        default = DEFAULTS[name]
        value = base_url(read_variable(self._environ, name) or default)
        fault = url_fault(value)
        if fault is not None:
            self._fault(name, fault, f"The default is {default}")
            return default
        base = without_end(value, without)
        if base != value:
            end = value[len(base) :]
            self._environ.warnings.append(f"{name} is read without {end}, which the receiver adds")
        return base

    def _flag(self, name: str) -> bool:
        text = read_variable(self._environ, name)
        value = read_flag(text)
        if value is None:
            self._fault(name, f"{text!r} is neither true nor false", f"Write {name}=true")
        return bool(value)

    def _word(self, name: str, words: Sequence[str]) -> str:
        text = read_variable(self._environ, name) or DEFAULTS[name]
        if text.lower() not in words:
            fix = f"Write {', '.join(words[:-1])} or {words[-1]}"
            self._fault(name, f"{text!r} is none of its values", fix)
            return DEFAULTS[name]
        return text.lower()

    def _host(self) -> str:
        host = read_variable(self._environ, "HOST") or DEFAULTS["HOST"]
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        fault = host_fault(bare)
        if fault is not None:
            self._fault("HOST", *fault)
            return DEFAULTS["HOST"]
        return bare

    def _forwarded_allow_ips(self) -> str:
        text = read_variable(self._environ, "FORWARDED_ALLOW_IPS")
        for fault in proxies_faults(text) if text is not None else []:
            self._fault("FORWARDED_ALLOW_IPS", *fault)
        return text or DEFAULTS["FORWARDED_ALLOW_IPS"]

    def _number(self, name: str, low: float, high: float, *, whole: bool = True) -> float:
        text = read_variable(self._environ, name) or DEFAULTS[name]
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high or (whole and value != int(value)):
            kind = "whole number" if whole else "number"
            what = f"{text!r} is not a {kind} from {low:g} to {high:g}"
            self._fault(name, what, f"The default is {DEFAULTS[name]}")
            return float(DEFAULTS[name])
        return value

    def _database_url(self) -> URL:
        text = read_variable(self._environ, "DATABASE_URL")
        url = URL.create("sqlite", database=str(self._folder / DEFAULT_LEDGER))
        fix = "Write sqlite:///path/to/receiver.db or postgresql://user:password@host/database"
        try:
            url = url if text is None else read_database_url(text)
        except ValueError as error:
            self._fault("DATABASE_URL", str(error), fix)
        path = sqlite_path(url)
        if path is not None and os.path.isdir(path):  # noqa: PTH112 - raises no PermissionError
            self._fault("DATABASE_URL", f"{path} is a directory, not a file", fix)
        return url


def read_connecting(environ: Mapping[str, str]) -> dict[str, Secret]:
    """Return the variables for proxies and certificates that are set."""
    names = [spelling for name in CONNECTING for spelling in (name, name.lower())]
    found = {name: read_secret(environ, name) for name in names}
    return {name: value for name, value in found.items() if value is not None}

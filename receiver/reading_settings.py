"""Reading the configuration: the environment, and the file it names, into one Settings.

All faults are told at once, each with where and how to mend it.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy.engine import URL

from receiver.config_values import UNITS, read_duration, url_fault, without_scheme
from receiver.environment import read_secret, read_variable, texts_of
from receiver.errors import ConfigError, Fault
from receiver.extras import how_to_install
from receiver.images import is_repository
from receiver.ledger.engines import read_database_url
from receiver.notices import read_notices
from receiver.notify import can_send
from receiver.rule_config import read_rules
from receiver.rules import Login
from receiver.secret import Secret
from receiver.secret_files import with_secret_files
from receiver.settings import (
    DEFAULT_CONFIG,
    DEFAULT_LEDGER,
    DEFAULT_PORT,
    EDGEGAP,
    HUB_API,
    REGISTRY,
    REGISTRY_AUTH,
    Settings,
)

TOP_KEYS = ("public_url", "rule", "channel", "links", "catch_up", "ledger", "notice")
HOW_TO_MAKE_A_KEY = (
    "Make one with: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'  and set it; "
    "keep it, since another key means other links"
)


def load_settings(environ: Mapping[str, str], *, need: frozenset[str] = frozenset()) -> Settings:
    """Read the environment and the file it names; raises ConfigError with all faults.

    `need` names what must be there: any of RECEIVER_SECRET_KEY, EDGEGAP_TOKEN, public_url, rule.
    """
    reader = _Reader(environ)
    settings = reader.settings(need)
    if reader.faults:
        raise ConfigError(tuple(reader.faults))
    return settings


def load_in_spite(
    environ: Mapping[str, str], *, need: frozenset[str] = frozenset()
) -> tuple[Settings, tuple[Fault, ...]]:
    """As `load_settings`, for what goes by no rule: faults of the file are returned beside.

    Raises ConfigError where the environment has faults.
    """
    reader = _Reader(environ)
    settings = reader.settings(need)
    if not all(reader.is_of_the_file(fault) for fault in reader.faults):
        raise ConfigError(tuple(reader.faults))
    return settings, tuple(reader.faults)


class _Reader:
    def __init__(self, environ: Mapping[str, str]) -> None:
        texts, no_texts = texts_of(environ)
        self._environ, faults = with_secret_files(texts)
        self.faults = [*no_texts, *faults]
        self._folder = Path()
        self._where = DEFAULT_CONFIG
        self._is_text = False

    def settings(self, need: frozenset[str]) -> Settings:
        table = self._table()
        for key in table:
            if key not in TOP_KEYS:
                known = ", ".join(TOP_KEYS)
                self._fault(f"{self._where}, {key}", "there is no such key", f"There are {known}")
        token = self._edgegap_token()
        login = self._login(token)
        tables, channels = table.get("rule", []), table.get("channel", [])
        rules, faults = read_rules(tables, self._environ, login, channels)
        self.faults += [replace(one, where=f"{self._where}, {one.where}") for one in faults]
        notices, more = read_notices(table.get("notice", []), self._environ, rules)
        self.faults += [replace(one, where=f"{self._where}, {one.where}") for one in more]
        if notices and not can_send():
            mend = f"Install it, {how_to_install('notices')}; or take the [[notice]] out"
            self._fault(f"{self._where}, notice", "Apprise, which sends it, is not installed", mend)
        keys = self._secret_keys()
        public_url = self._public_url(table)
        self._check_needs(need, table, keys, token)
        return Settings(
            rules=rules,
            notices=notices,
            public_url=public_url,
            links=self._links(table.get("links", {})),
            secret_keys=keys,
            edgegap_token=token,
            edgegap_base_url=self._url("EDGEGAP_BASE_URL", EDGEGAP),
            requests_per_second=self._number("EDGEGAP_REQUESTS_PER_SECOND", 8.0, 0.01, 1000),
            concurrency=int(self._number("EDGEGAP_CONCURRENCY", 4, 1, 64)),
            login=login,
            registry_url=self._url("DOCKERHUB_REGISTRY_URL", REGISTRY),
            registry_auth_url=self._url("DOCKERHUB_AUTH_URL", REGISTRY_AUTH),
            hub_api_url=self._url("DOCKERHUB_API_URL", HUB_API),
            database_url=self._database_url(),
            host=read_variable(self._environ, "HOST") or "127.0.0.1",
            port=int(self._number("PORT", DEFAULT_PORT, 0, 65_535)),
            admin_password=read_secret(self._environ, "RECEIVER_ADMIN_PASSWORD"),
            metrics_token=read_secret(self._environ, "RECEIVER_METRICS_TOKEN"),
            catch_up_every=self._duration(table, "catch_up", "every", "15m"),
            keep=self._duration(table, "ledger", "keep", "90d") or 90 * UNITS["d"],
        )

    def is_of_the_file(self, fault: Fault) -> bool:
        """Tell whether it is a fault of receiver.toml, not of a variable."""
        return fault.where == self._where or fault.where.startswith(f"{self._where}, ")

    def _fault(self, where: str, what: str, mend: str) -> None:
        self.faults.append(Fault(where, what, mend))

    def _table(self) -> dict[str, Any]:
        text = self._environ.get("RECEIVER_CONFIG_TOML", "")
        named = read_variable(self._environ, "RECEIVER_CONFIG")
        if text.strip():
            self._where, self._is_text = "RECEIVER_CONFIG_TOML", True
        else:
            path = Path(named or DEFAULT_CONFIG)
            self._where, self._folder = str(path), path.parent
            if named is None and not path.exists():
                return {}
            try:
                text = path.read_text("utf-8")
            except (OSError, UnicodeDecodeError) as error:
                kind = type(error).__name__
                self._fault(self._where, f"it cannot be read ({kind})", "Check RECEIVER_CONFIG")
                return {}
        try:
            return tomllib.loads(text)
        except (ValueError, RecursionError) as error:  # a number past all bounds is a ValueError
            self._fault(self._where, f"it is not TOML: {error}", "Mend that line")
            return {}

    def _check_needs(
        self,
        need: frozenset[str],
        table: dict[str, Any],
        keys: tuple[Secret, ...],
        token: Secret | None,
    ) -> None:
        if "RECEIVER_SECRET_KEY" in need and not keys:
            self._fault("RECEIVER_SECRET_KEY", "it is not set", HOW_TO_MAKE_A_KEY)
        if "EDGEGAP_TOKEN" in need and token is None:
            mend = "Make one under app.edgegap.com/user-settings?tab=tokens and set it"
            self._fault("EDGEGAP_TOKEN", "it is not set", mend)
        read = not any(fault.where == self._where for fault in self.faults)
        given = "public_url" in table or read_variable(self._environ, "RECEIVER_PUBLIC_URL")
        if "public_url" in need and read and not given:
            mend = 'Write public_url = "https://…" above the first [[rule]]'
            mend += ", or set RECEIVER_PUBLIC_URL"
            self._fault(f"{self._where}, public_url", "it is missing", mend)
        here = Path(self._where)
        if "rule" in need and read and not self._is_text and not here.exists():
            mend = "Run `receiver init`, go where it is, or name it with RECEIVER_CONFIG"
            self._fault(self._where, f"there is no such file in {Path.cwd()}", mend)
        elif "rule" in need and read and not table.get("rule"):
            mend = 'Write: [[rule]]  repository = "group/project"  app = "my-game", a line each'
            self._fault(f"{self._where}, rule", "there is none", mend)

    def _secret_keys(self) -> tuple[Secret, ...]:
        text = read_variable(self._environ, "RECEIVER_SECRET_KEY") or ""
        newest_first = [Secret(key.strip()) for key in text.split(",") if key.strip()]
        return tuple(reversed(newest_first))

    def _edgegap_token(self) -> Secret | None:
        token = read_secret(self._environ, "EDGEGAP_TOKEN")
        if token is None:
            return None
        text = without_scheme(token.reveal())
        if not text.isascii() or not text.isprintable():
            mend = "Copy it again: letters, digits and dashes on one line"
            self._fault("EDGEGAP_TOKEN", "it holds what no header can carry", mend)
        return Secret(text)

    def _login(self, api_token: Secret | None) -> Login | None:
        username = read_variable(self._environ, "DOCKERHUB_USERNAME")
        token = read_secret(self._environ, "DOCKERHUB_TOKEN")
        if (username is None) != (token is None):
            missing = "DOCKERHUB_USERNAME" if username is None else "DOCKERHUB_TOKEN"
            mend = "Set both, or neither for public repositories"
            self._fault(missing, "it is not set, but its fellow is", mend)
        if token is not None and token == api_token:
            mend = "Make a read-only access token on Docker Hub and set that"
            self._fault("DOCKERHUB_TOKEN", "it is the Edgegap API token", mend)
        return Login(username, token) if username is not None and token is not None else None

    def _public_url(self, table: dict[str, Any]) -> str | None:
        value = read_variable(self._environ, "RECEIVER_PUBLIC_URL")
        where = "RECEIVER_PUBLIC_URL" if value else f"{self._where}, public_url"
        found = value or table.get("public_url")
        if found is None:
            return None
        fault = url_fault(found)
        if fault is not None:
            self._fault(where, fault, 'Write it as "https://hooks.example.com"')
            return None
        return str(found).rstrip("/")

    def _url(self, name: str, default: str) -> str:
        value = read_variable(self._environ, name) or default
        fault = url_fault(value)
        if fault is not None:
            self._fault(name, fault, f"The default is {default}")
        return value.rstrip("/")

    def _number(self, name: str, default: float, low: float, high: float) -> float:
        text = read_variable(self._environ, name)
        if text is None:
            return default
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high or (isinstance(default, int) and value != int(value)):
            self._fault(name, f"{text!r} is no number from {low:g} to {high:g}", "Correct it")
            return default
        return value

    def _database_url(self) -> URL:
        text = read_variable(self._environ, "DATABASE_URL")
        if text is None:
            return URL.create("sqlite", database=str(self._folder / DEFAULT_LEDGER))
        try:
            return read_database_url(text)
        except ValueError as error:
            mend = "Write sqlite:///path/to/receiver.db or postgresql://user:password@host/database"
            self._fault("DATABASE_URL", str(error), mend)
            return URL.create("sqlite", database=DEFAULT_LEDGER)

    def _links(self, table: object) -> dict[str, int]:
        if not isinstance(table, dict):
            self._fault(f"{self._where}, links", "it is not a table", 'Write "group/project" = 2')
            return {}
        for repository, number in table.items():
            if not is_repository(repository) or type(number) is not int or number < 1:
                what = f"{repository} = {number!r} is not a repository and its link number"
                self._fault(f"{self._where}, links", what, 'Write "group/project" = 2')
        return dict(table)

    def _duration(self, table: dict[str, Any], part: str, key: str, default: str) -> int | None:
        inner = table.get(part, {})
        where = f"{self._where}, {part}"
        if not isinstance(inner, dict):
            self._fault(where, "it is not a table", f"Write it under a line [{part}]")
            return None
        for unknown in set(inner) - {key}:
            self._fault(f"{where}.{unknown}", "there is no such key", f"There is {key}")
        value = inner.get(key, default)
        if value == "off" and part == "catch_up":
            return None
        found = read_duration(value)
        if found is None:
            mend = f'Write for instance {key} = "{default}" (s, m, h or d)'
            self._fault(f"{where}.{key}", f"{value!r} is no duration", mend)
        return found

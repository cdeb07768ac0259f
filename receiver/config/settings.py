"""The configuration as one object: secrets from the environment, the rest from `receiver.toml`.

If a ledger is found but no key, the advice is to look for the key that it was used with: another
key would invalidate all of its links. A valid configuration that is probably not intended has
warnings.
"""

import hmac
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path

import msgspec
from sqlalchemy.engine import URL

from receiver.config.environment import DEFAULTS, VARIABLES, clean
from receiver.config.model import CatchUp, LedgerTable
from receiver.config.rule_tables import env_values
from receiver.config.values import UNITS, did_you_mean, is_plain_http, read_duration
from receiver.errors import ConfigIssue, Fault
from receiver.images import Login
from receiver.ledger.engine import sqlite_path
from receiver.notifications.destinations import Notice
from receiver.rules.rule import Rule, TargetKey, channels_of_two_repositories, may_collide, shadowed
from receiver.rules.tag_patterns import Interval, SemverRange, TagPattern
from receiver.secret import Secret
from receiver.signing import MAX_URL, LinkSigner

DEFAULT_LEDGER = "receiver.db"
MIN_KEY_LENGTH = 16
MAKE_A_KEY = "python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
HOW_TO_MAKE_A_KEY = (
    f"Make one with: {MAKE_A_KEY}  and set it; keep it, since another key invalidates all links"
)
LOOK_FIRST = (
    "Look first for the key that made the existing links, for instance in the settings of another "
    "replica, and set that"
)
DEFAULT_CONFIG = DEFAULTS["RECEIVER_CONFIG"]
MARK_DIGITS = 16
ALLOW_PLAIN_HTTP = "RECEIVER_ALLOW_PLAIN_HTTP"

# Settings that a running receiver cannot change, with the variables that set them.
FIXED_AT_START: Mapping[str, str] = {
    variable.setting: variable.name for variable in VARIABLES if variable.restart
}
# How each setting is written by a user.
NAMES: Mapping[str, str] = {
    **{variable.setting: variable.name for variable in VARIABLES if variable.setting},
    "rules": "[[rule]]",
    "public_url": "public_url",
    "links": "[links]",
    "login": "DOCKERHUB_USERNAME or DOCKERHUB_TOKEN",
    "catch_up_every": "catch_up.every",
    "keep": "ledger.keep",
    "keep_bodies": "ledger.bodies",
    "notices": "[[notice]]",
    "connecting": "the proxies or certificates",
}
GOOD_KEY = 32
GOOD_PASSWORD = 12
CALLS_A_MINUTE = 180  # Docker Hub's limit for all calls


def keys_in(text: str) -> list[str]:
    """Return the keys of a list with commas, without what was pasted around each."""
    cleaned = (clean("", part, parsed=True).value for part in text.split(","))
    return [key for key in cleaned if key]


def _existing_ledger(database_url: URL | None, *folders: Path) -> Path | None:
    """Return the SQLite file of a ledger that exists, None if there is none.

    Without a URL, it is looked for in these folders and in the folders of the working directory: it
    may be that of a receiver whose configuration was in a file there.
    """
    if database_url is not None:
        paths = [sqlite_path(database_url)]
    else:
        paths = [folder / DEFAULT_LEDGER for folder in (*folders, Path())]
        paths += sorted(Path().glob(f"*/{DEFAULT_LEDGER}"))
    return next((path for path in paths if path is not None and os.path.lexists(path)), None)


def how_to_get_the_key(database_url: URL | None, *folders: Path) -> str:
    """Return how to set a key that is missing or too short; arguments as in `_existing_ledger`."""
    ledger = _existing_ledger(database_url, *folders)
    if ledger is not None:
        return (
            f"The links of the ledger {ledger} were signed with a key: set that key again, "
            "since another key invalidates all of them"
        )
    if database_url is None or sqlite_path(database_url) is not None:
        return HOW_TO_MAKE_A_KEY
    return f"{LOOK_FIRST}; only if this database has no ledger yet, make one with: {MAKE_A_KEY}"


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration. Durations are in milliseconds; None turns a feature off."""

    rules: tuple[Rule, ...] = ()
    public_url: str | None = None
    links: Mapping[str, int] = field(default_factory=dict)
    secret_keys: tuple[Secret, ...] = ()  # oldest first: itsdangerous signs with the last
    edgegap_token: Secret | None = None
    edgegap_base_url: str = DEFAULTS["EDGEGAP_BASE_URL"]
    requests_per_second: float = float(DEFAULTS["EDGEGAP_REQUESTS_PER_SECOND"])
    concurrency: int = int(DEFAULTS["EDGEGAP_CONCURRENCY"])
    login: Login | None = None
    registry_url: str = DEFAULTS["DOCKERHUB_REGISTRY_URL"]
    registry_auth_url: str = DEFAULTS["DOCKERHUB_AUTH_URL"]
    hub_api_url: str = DEFAULTS["DOCKERHUB_API_URL"]
    allow_plain_http: bool = False
    database_url: URL = field(default_factory=lambda: URL.create("sqlite", database=DEFAULT_LEDGER))
    host: str = DEFAULTS["HOST"]
    port: int = int(DEFAULTS["PORT"])
    forwarded_allow_ips: str = DEFAULTS["FORWARDED_ALLOW_IPS"]
    admin_password: Secret | None = None
    metrics_token: Secret | None = None
    log_level: str = DEFAULTS["RECEIVER_LOG_LEVEL"]
    log_format: str = DEFAULTS["RECEIVER_LOG_FORMAT"]
    catch_up_every: int | None = read_duration(CatchUp().every)
    keep: int = read_duration(LedgerTable().keep) or 0
    keep_bodies: int | None = None
    notices: tuple[Notice, ...] = ()
    connecting: Mapping[str, Secret] = field(default_factory=dict)  # proxies and certificates
    warnings: tuple[str, ...] = field(default=(), compare=False)  # about its spelling

    def secrets(self) -> tuple[Secret, ...]:
        """Return every secret in the settings, to be masked in all output."""
        single = (self.edgegap_token, self.admin_password, self.metrics_token)
        logins = [rule.login for rule in self.rules] + [self.login]
        password = self.database_url.password
        return (
            *self.secret_keys,
            *(secret for secret in single if secret is not None),
            *(login.token for login in logins if login is not None),
            *(Secret(value) for value in env_values(self.rules)),
            *([Secret(str(password))] if password else []),
            *(notice.url for notice in self.notices),
        )

    def channels(self, app: str | None = None) -> list[TargetKey]:
        """Return app and name of each channel that a rule moves, of one app or of all."""
        channels = {TargetKey(rule.app, name) for rule in self.rules for name in rule.channels}
        return sorted(channel for channel in channels if app is None or channel[0] == app)

    def link_signer(self) -> LinkSigner:
        """Return what signs the present links."""
        return LinkSigner([key.reveal() for key in self.secret_keys], self.links)

    def rule_named(self, name: str) -> Rule | None:
        """Return the rule with this name, None if it was removed."""
        return next((rule for rule in self.rules if rule.name == name), None)


def after_reload(running: Settings, read: Settings) -> tuple[Settings, tuple[str, ...]]:
    """Return the settings in force once `read` is applied, and the names that need a restart.

    Settings that are fixed at the start keep their values, so that none is applied partially; the
    variables of those that differ are returned.
    """
    fixed = {name: getattr(running, name) for name in FIXED_AT_START}
    differ = [FIXED_AT_START[name] for name in fixed if getattr(read, name) != fixed[name]]
    old, new = running.connecting, read.connecting
    differ += sorted(name for name in {**old, **new} if old.get(name) != new.get(name))
    return replace(read, **fixed, connecting=old), tuple(differ)


def plain_http_faults(settings: Settings, later: Collection[str] = ()) -> list[ConfigIssue]:
    """Return an error for each URL to which a token would be sent unencrypted.

    `later` are the variables whose new values need a restart: the URL in force is the old one.
    """
    urls = {"EDGEGAP_BASE_URL": settings.edgegap_base_url}
    if any(login is not None for login in (settings.login, *(r.login for r in settings.rules))):
        urls["DOCKERHUB_REGISTRY_URL"] = settings.registry_url
        urls["DOCKERHUB_AUTH_URL"] = settings.registry_auth_url
        urls["DOCKERHUB_API_URL"] = settings.hub_api_url
    if settings.allow_plain_http:
        return []
    sent = "plain http to another machine, which would send a token unencrypted"
    return [
        ConfigIssue(
            name,
            f"until a restart it is {sent}" if name in later else f"it is {sent}",
            "Restart the receiver to apply the new value"
            if name in later
            else f"Write https://, or allow it with {ALLOW_PLAIN_HTTP}=true",
        )
        for name, url in urls.items()
        if is_plain_http(url)
    ]


def setting_hashes(settings: Settings) -> dict[str, str]:
    """Return a keyed hash of each setting, by its name, to compare two configurations.

    The key is the newest secret key, so that values cannot be guessed from the hash.
    """
    key = settings.secret_keys[-1].reveal().encode() if settings.secret_keys else b""
    return {
        name: hmac.new(
            key, f"{name}={_plain(getattr(settings, field))}".encode(), "sha256"
        ).hexdigest()[:MARK_DIGITS]
        for field, name in NAMES.items()
    }


def _plain(value: object) -> object:
    """Return a setting's value with its secrets revealed, in a fixed order."""
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, URL):
        return value.render_as_string(hide_password=False)
    if isinstance(value, msgspec.Struct):
        return [_plain(getattr(value, name)) for name in value.__struct_fields__]
    if is_dataclass(value):
        return [_plain(getattr(value, attribute.name)) for attribute in fields(value)]
    if isinstance(value, Mapping):
        return sorted((str(key), str(_plain(item))) for key, item in value.items())
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


class LiveSettings(msgspec.Struct):
    """The settings in force; a reload replaces them."""

    settings: Settings


def config_warnings(settings: Settings) -> list[str]:
    """Return all warnings of `check`: probable mistakes, and values that are not set."""
    warnings = suspicious_settings(settings)
    if settings.public_url is None:
        warnings.append("public_url is not set: `receiver link` cannot print links")
    if any(rule.login is None for rule in settings.rules):
        warnings.append("no Docker Hub login: Edgegap can pull public images only")
    return warnings


def suspicious_settings(settings: Settings) -> list[str]:
    """Return warnings about probable mistakes, those about spelling first."""
    return [
        *settings.warnings,
        *_of_rules(settings),
        *_of_secrets(settings),
        *_of_catch_up(settings),
    ]


def _of_rules(settings: Settings) -> list[str]:
    rules = settings.rules
    warnings = [
        f"rule {later.name!r} names the same target as {first.name!r} for the same repository: "
        "the first wins"
        for first, later in shadowed(rules)
    ]
    warnings += [
        f"rules {first.name!r} and {later.name!r} create the same version of {later.app} from two "
        "repositories: the second push of a tag is parked. Write {project}-{tag} in `version`"
        for first, later in may_collide(rules)
        if not _are_apart(first.tags, later.tags)
    ]
    warnings += [
        f"rules {first.name!r} and {later.name!r} move the channel {channel} of {later.app} to the "
        "images of two repositories in turn: give each a channel of its own"
        for first, later, channel in channels_of_two_repositories(rules)
    ]
    repositories = {rule.repository for rule in rules}
    for repository in settings.links:
        if repository not in repositories:
            near = did_you_mean(repository, repositories)
            hint = "" if near is None else f"; did you mean {near}?"
            warnings.append(f"[links] names {repository}, but no rule does{hint}")
    return warnings


def _are_apart(first: TagPattern, second: TagPattern) -> bool:
    """Return whether both are ranges of versions without a version in common."""
    if not isinstance(first, SemverRange) or not isinstance(second, SemverRange):
        return False
    return not any(_may_overlap((*one, *other)) for one in first.any_of for other in second.any_of)


def _may_overlap(intervals: Sequence[Interval]) -> bool:
    lows = [one.low for one in intervals if one.low is not None and not one.outside]
    highs = [one.high for one in intervals if one.high is not None and not one.outside]
    return not lows or not highs or max(lows) < min(highs)


def _of_secrets(settings: Settings) -> list[str]:
    warnings = []
    if not (settings.public_url or "https://").lower().startswith("https://"):
        warnings.append("public_url is not https: the link, which is a secret, is sent unencrypted")
    if any(len(key.reveal()) < GOOD_KEY for key in settings.secret_keys):
        warnings.append(
            f"a key in RECEIVER_SECRET_KEY is shorter than {GOOD_KEY} characters: anyone who has a "
            f"link can try to guess it. Make a longer one with: {MAKE_A_KEY}  and put it "
            "before this key with a comma; remove this key when all links are replaced"
        )
    password = settings.admin_password
    if password is not None and len(password.reveal()) < GOOD_PASSWORD:
        warnings.append(
            f"RECEIVER_ADMIN_PASSWORD is shorter than {GOOD_PASSWORD} characters: anyone who finds "
            "the page can try to guess it"
        )
    return warnings


def _of_catch_up(settings: Settings) -> list[str]:
    every, repositories = settings.catch_up_every, {rule.repository for rule in settings.rules}
    if every is None:
        return []
    warnings = []
    if len(repositories) * UNITS["m"] / every > CALLS_A_MINUTE / 2:
        warnings.append(
            f"catch-up queries Docker Hub for {len(repositories)} repositories every "
            f"{every // 1000} s, close to its limit of {CALLS_A_MINUTE} calls a minute: raise "
            "catch_up.every"
        )
    if settings.keep < 2 * every:
        warnings.append(
            "ledger.keep is shorter than two periods of catch_up.every: a missed push "
            "may be purged before catch-up can find it"
        )
    return warnings


def link_length_fault(settings: Settings) -> Fault | None:
    """Return the error of a public_url that makes a link too long, and the fix."""
    if settings.public_url is None or not settings.secret_keys:
        return None
    keys, url = settings.link_signer(), settings.public_url
    length = max((len(keys.link(url, rule.repository)) for rule in settings.rules), default=0)
    if length <= MAX_URL:
        return None
    what = f"a link would be {length} characters long, but Docker Hub accepts {MAX_URL}"
    return Fault(what, "Use a shorter host name")

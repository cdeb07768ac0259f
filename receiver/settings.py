"""The configuration as one object: secrets from the environment, the rest from `receiver.toml`."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy.engine import URL

from receiver.config_values import UNITS
from receiver.notices import Notice
from receiver.rule_config import env_values
from receiver.rules import Login, Rule
from receiver.secret import Secret

DEFAULT_CONFIG = "receiver.toml"
DEFAULT_LEDGER = "receiver.db"
DEFAULT_PORT = 8000
EDGEGAP = "https://api.edgegap.com"
REGISTRY = "https://registry-1.docker.io"
REGISTRY_AUTH = "https://auth.docker.io/token"
HUB_API = "https://hub.docker.com"


@dataclass(frozen=True, slots=True)
class Settings:
    """All there is to configure. Durations are in milliseconds; None turns a thing off."""

    rules: tuple[Rule, ...] = ()
    public_url: str | None = None
    links: Mapping[str, int] = field(default_factory=dict)
    secret_keys: tuple[Secret, ...] = ()  # oldest first: itsdangerous signs with the last
    edgegap_token: Secret | None = None
    edgegap_base_url: str = EDGEGAP
    requests_per_second: float = 8.0
    concurrency: int = 4
    login: Login | None = None
    registry_url: str = REGISTRY
    registry_auth_url: str = REGISTRY_AUTH
    hub_api_url: str = HUB_API
    database_url: URL = field(default_factory=lambda: URL.create("sqlite", database=DEFAULT_LEDGER))
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    admin_password: Secret | None = None
    metrics_token: Secret | None = None
    catch_up_every: int | None = 15 * UNITS["m"]
    keep: int = 90 * UNITS["d"]
    notices: tuple[Notice, ...] = ()

    def secrets(self) -> tuple[Secret, ...]:
        """Return every secret it holds, to be masked wherever text goes out."""
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

    def channels(self, app: str | None = None) -> list[tuple[str, str]]:
        """Return app and name of each channel that a rule moves, of one app or of all."""
        places = {(rule.app, name) for rule in self.rules for name in rule.channels}
        return sorted(place for place in places if app is None or place[0] == app)

    def rule_named(self, name: str) -> Rule | None:
        """Return the rule of that name, None when it is gone."""
        return next((rule for rule in self.rules if rule.name == name), None)


@dataclass(slots=True)
class Current:
    """The settings in force; a reload puts others in their place."""

    settings: Settings

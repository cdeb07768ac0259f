"""Read the `[[rule]]` tables of the configuration into rules; return all errors at once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from receiver.config.channel_tables import read_channels
from receiver.config.environment import read_secret, read_variable, shown
from receiver.config.text import strip
from receiver.config.values import bare_token, known_names, password_fault, placeholder_fault
from receiver.dockerhub.login import Login
from receiver.edgegap.fields import OFTEN_NONE, SETTINGS, field_fault, settings_faults
from receiver.edgegap.shown import protocol
from receiver.errors import BadTagPattern, Fault
from receiver.images import is_repository
from receiver.rules.rule import (
    OnOverwrite,
    Rule,
    colliding_names,
    template_fault,
    version_name_fault,
)
from receiver.rules.tag_patterns import Globs, TagPattern, parse_tag_pattern
from receiver.secret import Secret

OPTIONS = "options"  # read from the [[channel]] tables
KEYS = tuple(field.name for field in fields(Rule) if field.name != OPTIONS)
STAND_IN = "?"  # for a name that could not be read; no real name contains it
TOP_LEVEL = ("public_url", "channel", "links", "catch_up", "ledger", "notice")
NOTHING_TO_DO = "it is false and the rule has no channels, so that a push would do nothing"
ALIKE = "differ in their case only, and Edgegap may take them for one version"
BOTH = "is a channel and also the version that another rule creates"
SHORTEST_APP, LONGEST_APP = 3, 64  # Edgegap's own bounds


def read_rules(
    tables: object, environ: Mapping[str, str], login: Login | None, channels: object = ()
) -> tuple[tuple[Rule, ...], list[Fault]]:
    """Read the lists of `[[rule]]` and `[[channel]]` tables.

    `login` is used for rules without a login of their own.
    """
    if not isinstance(tables, Sequence) or isinstance(tables, str):
        fix = "Write each rule under a line [[rule]]"
        return (), [Fault("rule", "it is not a list of tables", fix)]
    faults: list[Fault] = []
    rules = []
    for number, table in enumerate(tables, start=1):
        reader = _RuleReader(table if isinstance(table, dict) else {}, number, environ, faults)
        rules.append(reader.rule(login))
    names: dict[str, int] = {}
    for number, rule in enumerate(rules, start=1):
        unread = rule.name == default_name(rule.repository, rule.app) and STAND_IN in rule.name
        first = number if unread else names.setdefault(rule.name, number)
        if first != number:
            what = f"it has the same name as rule {first}, {rule.name!r}"
            faults.append(Fault(f"rule {number}", what, 'Give one of them another: name = "…"'))
    with_channels, more = read_channels(channels, rules)
    faults += more
    faults += [
        Fault(f"app {app}", f"{name!r} and {other!r} {ALIKE}", f'Write "{name}" in both')
        if name != other
        else Fault(f"app {app}", f"{name!r} {BOTH}", "Give the channel or the version another name")
        for app, name, other in colliding_names(with_channels)
    ]
    faults += [
        Fault(f"rule {number}, versions", NOTHING_TO_DO, 'Also write channels = ["dev"]')
        for number, rule in enumerate(with_channels, start=1)
        if not (rule.versions or rule.channels)
    ]
    return with_channels, faults


def default_name(repository: str, app: str) -> str:
    """Return the name of a rule that has no `name`."""
    return f"{repository} → {app}"


class _RuleReader:
    """Reads one table; errors go to `faults`, and a harmless value replaces a wrong one."""

    def __init__(
        self, table: dict[str, Any], number: int, environ: Mapping[str, str], faults: list[Fault]
    ) -> None:
        self._table = table
        self._environ = environ
        self._faults = faults
        name = table.get("name")
        self._where = f"rule {number}" + (f" ({name})" if isinstance(name, str) else "")

    def rule(self, login: Login | None) -> Rule:
        for key in self._table:
            if key == "mode":
                self._mode_is_gone()
            elif key not in KEYS:
                self._fault(key, "there is no such key", _place_of(key, "rule"))
        repository, app = self._repository(), self._app()
        version, channels = self._version(), self._channels()
        versions = self._flag("versions", default=True)
        if versions and version in channels:
            what = f"{version!r} is also the version that the rule creates"
            self._fault("channels", what, 'Write versions = false, or version = "{tag}"')
        return Rule(
            repository=repository,
            app=app,
            name=self._text("name", default_name(repository, app)),
            tags=self._tags(),
            version=version,
            versions=versions,
            copy_from=self._text("copy_from", "newest"),
            on_overwrite=self._on_overwrite(),
            preflight=self._flag("preflight", default=True),
            channels=channels,
            keep=self._keep(),
            pin=self._texts("pin"),
            make_room=self._flag("make_room", default=False),
            leave_out=self._leave_out(),
            login=self._login(login),
            settings=self._settings(),
        )

    def _fault(self, key: str, what: str, fix: str) -> None:
        self._faults.append(Fault(f"{self._where}, {key}", what, fix))

    def _text(self, key: str, default: str) -> str:
        value = self._table.get(key, default)
        if not isinstance(value, str) or not value.strip() or not value.isprintable():
            self._fault(key, "it is not text", f'Write {key} = "…"')
            return default
        return value.strip()

    def _texts(self, key: str) -> tuple[str, ...]:
        values = self._table.get(key, [])
        if not isinstance(values, list) or not all(isinstance(v, str) and v for v in values):
            self._fault(key, "it is not a list of texts", f'Write {key} = ["…"]')
            return ()
        return tuple(values)

    def _leave_out(self) -> tuple[str, ...]:
        names = self._texts("leave_out")
        for name in names:
            if name in SETTINGS.keys() - OFTEN_NONE:
                what = f"{name} is a setting, which the rule can give"
                self._fault("leave_out", what, "Write it under [rule.settings] instead")
        return names

    def _mode_is_gone(self) -> None:
        if self._table["mode"] == "update":
            named = self._table.get("version")
            name = named if isinstance(named, str) and version_name_fault(named) is None else "dev"
            what = 'mode was removed; a channel does what mode "update" did'
            write = f'Write versions = false and channels = ["{name}"], a line each'
            more = ", instead of mode and version" if "version" in self._table else " instead"
            self._fault("mode", what, write + more)
        else:
            what = "mode was removed; a rule creates a version for each tag by default"
            self._fault("mode", what, "Remove the line")

    def _channels(self) -> tuple[str, ...]:
        channels = tuple(dict.fromkeys(self._texts("channels")))
        for name in channels:
            what = version_name_fault(name)
            if what is not None:
                self._fault("channels", what, 'Write for instance channels = ["staging"]')
        return tuple(name for name in channels if version_name_fault(name) is None)

    def _flag(self, key: str, *, default: bool) -> bool:
        value = self._table.get(key, default)
        if not isinstance(value, bool):
            self._fault(key, "it is neither true nor false", f"Write {key} = true")
            return default
        return value

    def _on_overwrite(self) -> OnOverwrite:
        value = self._table.get("on_overwrite", OnOverwrite.WARN.value)
        if isinstance(value, str) and value in set(OnOverwrite):
            return OnOverwrite(value)
        known = " or ".join(f'"{member}"' for member in OnOverwrite)
        what = f"{value!r} is not one of its values"
        self._fault("on_overwrite", what, f"Write on_overwrite = {known}")
        return OnOverwrite.WARN

    def _repository(self) -> str:
        value = self._table.get("repository")
        if isinstance(value, str) and is_repository(value):
            return value
        what = "it is missing" if value is None else f"{value!r} is not a Docker Hub repository"
        fix = 'Write repository = "group/project", lower case, without host and tag'
        self._fault("repository", what, fix)
        return f"{STAND_IN}/{STAND_IN}"

    def _app(self) -> str:
        value = self._table.get("app")
        name = strip(value) if isinstance(value, str) else ""
        if name.isprintable() and SHORTEST_APP <= len(name) <= LONGEST_APP:
            return name
        what = "it is missing" if value is None else f"{value!r} is not the name of an app"
        fix = (
            f'Write app = "…", an Edgegap app\'s name of {SHORTEST_APP} to {LONGEST_APP} characters'
        )
        self._fault("app", what, fix)
        return STAND_IN

    def _tags(self) -> TagPattern:
        value = self._table.get("tags", [])
        try:
            return parse_tag_pattern(value)
        except BadTagPattern as error:
            globs, versions = 'tags = ["v*", "!*-rc*"]', 'tags = { semver = ">=1.2 <2" }'
            fix = f"Write for instance {versions if isinstance(value, Mapping) else globs}"
            self._fault("tags", str(error), fix)
            return Globs()

    def _version(self) -> str:
        template = self._text("version", "{tag}")
        what = template_fault(template)
        if what is not None:
            self._fault("version", what, 'Write for instance version = "{project}-{tag}"')
            return "{tag}"
        return template

    def _keep(self) -> int | None:
        value = self._table.get("keep")
        if value is None or (type(value) is int and value >= 1):
            return value
        self._fault("keep", f"{value!r} is not a number of versions", "Write keep = 10, or omit it")
        return None

    def _login(self, default: Login | None) -> Login | None:
        table = self._table.get("login")
        if table is None:
            return default
        fix = 'Write login = { username_env = "LOBBY_HUB_USER", token_env = "LOBBY_HUB_TOKEN" }'
        if not isinstance(table, dict) or set(table) != {"username_env", "token_env"}:
            self._fault("login", "it does not name its two variables", fix)
            return default
        user_variable, token_variable = str(table["username_env"]), str(table["token_env"])
        username = read_variable(self._environ, user_variable)
        token = read_secret(self._environ, token_variable)
        if not username or token is None:
            unset = [] if username else [shown(user_variable)]
            unset += [shown(token_variable)] if token is None else []
            for missing in unset:
                self._fault("login", f"{missing} is not set", f"Set {missing} or {missing}_FILE")
            return default
        bare = bare_token(token.reveal())
        for name, what, fix in login_faults(username, bare):
            variable = shown(user_variable if name == "username" else token_variable)
            self._fault("login", f"{variable}: {what}", fix)
        return Login(username, Secret(bare), f"{user_variable} and {token_variable}")

    def _settings(self) -> dict[str, Any]:
        table = self._table.get("settings", {})
        if not isinstance(table, dict):
            self._fault("settings", "it is not a table", "Write it under a line [rule.settings]")
            return {}
        known = {name: value for name, value in table.items() if name in SETTINGS}
        for name in table:
            if name not in SETTINGS:
                fix = _place_of(name, "settings")
                self._fault(f"settings.{name}", "there is no such setting", fix)
        if "envs" in known:
            known["envs"] = self._envs(known["envs"])
        if isinstance(known.get("ports"), list):
            known["ports"] = [_with_protocol(port) for port in known["ports"]]
        valid: dict[str, Any] = {}
        for name, value in known.items():
            fault = field_fault(name, value)
            if fault is None:
                valid[name] = value
            else:
                self._fault(f"settings.{name}", fault, "See Edgegap's documentation of the field")
        for fault in settings_faults(valid):
            self._fault("settings", fault, "Change one of the two")
        return valid

    def _envs(self, entries: object) -> list[Any]:
        if not isinstance(entries, list):
            return [entries]
        return [self._env(entry) for entry in entries]

    def _env(self, entry: object) -> object:
        if not isinstance(entry, dict) or "value_from" not in entry:
            return entry
        key, variable = entry.get("key"), entry["value_from"]
        if "value" in entry:
            self._fault("settings.envs", f"{key} has value and value_from", "Keep one of them")
        value = read_secret(self._environ, str(variable))
        if value is None:
            self._fault(
                "settings.envs", f"{shown(variable)} is not set", f"Set it, for the key {key}"
            )
        kept = {name: entry[name] for name in entry if name != "value_from"}
        return {**kept, "value": "?" if value is None else value.reveal()}


def _with_protocol(port: object) -> object:
    """Return a port with its protocol as Edgegap's documentation spells it."""
    if not isinstance(port, dict) or "protocol" not in port:
        return port
    return {**port, "protocol": protocol(port["protocol"])}


def login_faults(username: str, token: str) -> list[tuple[str, str, str]]:
    """Return the errors of a Docker Hub login: `username` or `token`, the error, and the fix."""
    found = []
    wrong = placeholder_fault(username)
    if wrong is None and (":" in username or not username.isprintable() or " " in username):
        wrong = "it contains white space or a colon", "Write the Docker ID alone"
    if wrong is not None:
        found.append(("username", *wrong))
    wrong = password_fault(token)
    if wrong is not None:
        found.append(("token", *wrong))
    return found


def _place_of(key: str, table: str) -> str:
    """Return the fix for an unknown key of a table: the right table or name.

    In TOML a key belongs to the last [table] above it, which is easily overlooked.
    """
    if key in TOP_LEVEL:
        return "Write it above the first [[rule]]: a key belongs to the table above it"
    if table == "rule":
        if key in SETTINGS:
            return "Write it under a line [rule.settings]"
        return known_names(key, KEYS, "The keys are")
    if key in KEYS:
        return "Write it above the line [rule.settings]: a key belongs to the table above it"
    return known_names(key, tuple(SETTINGS))


def env_values(rules: Iterable[Rule]) -> list[str]:
    """Return all environment values that the rules send: each is masked in all output."""
    values = []
    for rule in rules:
        envs = rule.settings.get("envs")
        if isinstance(envs, list):
            values += [str(env["value"]) for env in envs]
    return values

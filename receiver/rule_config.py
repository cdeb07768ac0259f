"""The `[[rule]]` tables of the configuration, read into rules with all their faults at once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any, TypeVar

from receiver.config_values import bare_token, known_names, password_fault, placeholder_fault
from receiver.edgegap.fields import RESOURCES, SETTINGS, field_fault, settings_faults
from receiver.environment import read_secret, read_variable, shown
from receiver.errors import BadTagPattern, Fault
from receiver.images import is_repository
from receiver.rules import Login, Mode, OnOverwrite, Rule, template_fault, version_name_fault
from receiver.secret import Secret
from receiver.tag_patterns import Globs, TagPattern, parse_tag_pattern
from receiver.texts import strip

KEYS = tuple(field.name for field in fields(Rule))
NOT_A_RULES = Mode.CHANNEL.value  # the receiver's own
STAND_IN = "?"  # for a name that could not be read; no real one holds it
TOP_LEVEL = ("public_url", "links", "catch_up", "ledger", "notice")
SHORTEST_APP, LONGEST_APP = 3, 64  # Edgegap's own bounds

Choice = TypeVar("Choice", Mode, OnOverwrite)


def read_rules(
    tables: object, environ: Mapping[str, str], login: Login | None
) -> tuple[tuple[Rule, ...], list[Fault]]:
    """Read the list of `[[rule]]` tables; `login` is the one for rules that name none."""
    if not isinstance(tables, Sequence) or isinstance(tables, str):
        mend = "Write each rule under a line [[rule]]"
        return (), [Fault("rule", "it is not a list of tables", mend)]
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
    return tuple(rules), faults


def default_name(repository: str, app: str) -> str:
    """Return the name of a rule that is given none."""
    return f"{repository} → {app}"


class _RuleReader:
    """Reads one table; what is wrong goes to `faults`, and a harmless value stands in."""

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
            if key not in KEYS:
                self._fault(key, "there is no such key", _place_of(key, "rule"))
        repository, app = self._repository(), self._app()
        mode = self._choice("mode", Mode)
        settings = self._settings()
        if mode is Mode.UPDATE and RESOURCES & set(settings) == {"req_cpu"}:
            self._fault("settings", "req_cpu stands without req_memory", "Add req_memory")
        return Rule(
            repository=repository,
            app=app,
            name=self._text("name", default_name(repository, app)),
            tags=self._tags(),
            version=self._version(mode),
            copy_from=self._text("copy_from", "newest"),
            mode=mode,
            on_overwrite=self._choice("on_overwrite", OnOverwrite),
            preflight=self._flag("preflight", default=True),
            channels=self._channels(mode),
            keep=self._keep(),
            pin=self._texts("pin"),
            make_room=self._flag("make_room", default=False),
            login=self._login(login),
            settings=settings,
        )

    def _fault(self, key: str, what: str, mend: str) -> None:
        self._faults.append(Fault(f"{self._where}, {key}", what, mend))

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

    def _channels(self, mode: Mode) -> tuple[str, ...]:
        channels = self._texts("channels")
        for name in channels:
            what = version_name_fault(name)
            if what is not None:
                self._fault("channels", what, 'Write for instance channels = ["staging"]')
        if channels and mode is Mode.UPDATE:
            what = 'mode "update" moves one version by itself; channels follow mode "create"'
            self._fault("channels", what, "Take one of the two out")
        return channels

    def _flag(self, key: str, *, default: bool) -> bool:
        value = self._table.get(key, default)
        if not isinstance(value, bool):
            self._fault(key, "it is neither true nor false", f"Write {key} = true")
            return default
        return value

    def _choice(self, key: str, choices: type[Choice]) -> Choice:
        default = next(iter(choices))
        value = self._table.get(key, default.value)
        written = {choice.value: choice for choice in choices if choice.value != NOT_A_RULES}
        found = written.get(value) if isinstance(value, str) else None
        if found is None:
            known = " or ".join(f'"{one}"' for one in written)
            self._fault(key, f"{value!r} is not one of its values", f"Write {key} = {known}")
            return default
        return found

    def _repository(self) -> str:
        value = self._table.get("repository")
        if isinstance(value, str) and is_repository(value):
            return value
        what = "it is missing" if value is None else f"{value!r} is no Docker Hub repository"
        mend = 'Write repository = "group/project", lower case, without host and tag'
        self._fault("repository", what, mend)
        return f"{STAND_IN}/{STAND_IN}"

    def _app(self) -> str:
        value = self._table.get("app")
        name = strip(value) if isinstance(value, str) else ""
        if name.isprintable() and SHORTEST_APP <= len(name) <= LONGEST_APP:
            return name
        what = "it is missing" if value is None else f"{value!r} is no name of an app"
        mend = (
            f'Write app = "…", an Edgegap app\'s name of {SHORTEST_APP} to {LONGEST_APP} characters'
        )
        self._fault("app", what, mend)
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

    def _version(self, mode: Mode) -> str:
        template = self._text("version", "{tag}")
        what = template_fault(template)
        if what is not None:
            self._fault("version", what, 'Write for instance version = "{project}-{tag}"')
            return "{tag}"
        if mode is Mode.UPDATE and "{tag}" in template:
            what = 'mode "update" moves one version, so its name cannot hold {tag}'
            self._fault("version", what, 'Write for instance version = "dev"')
        return template

    def _keep(self) -> int | None:
        value = self._table.get("keep")
        if value is None or (type(value) is int and value >= 1):
            return value
        self._fault(
            "keep", f"{value!r} is no number of versions", "Write keep = 10, or leave it out"
        )
        return None

    def _login(self, default: Login | None) -> Login | None:
        table = self._table.get("login")
        if table is None:
            return default
        mend = 'Write login = { username_env = "LOBBY_HUB_USER", token_env = "LOBBY_HUB_TOKEN" }'
        if not isinstance(table, dict) or set(table) != {"username_env", "token_env"}:
            self._fault("login", "it does not name its two variables", mend)
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
        sound: dict[str, Any] = {}
        for name, value in known.items():
            fault = field_fault(name, value)
            if fault is None:
                sound[name] = value
            else:
                self._fault(f"settings.{name}", fault, "See Edgegap's documentation of the field")
        for fault in settings_faults(sound):
            self._fault("settings", fault, "Change one of the two")
        return sound

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


def login_faults(username: str, token: str) -> list[tuple[str, str, str]]:
    """Return what is wrong with a Docker Hub login: of `username` or `token`, what, and the fix."""
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
    """Return what to do about a key that is not one of the table's: the right place or name.

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
    """Return all environment values that the rules send: each is to be kept out of every output."""
    values = []
    for rule in rules:
        envs = rule.settings.get("envs")
        if isinstance(envs, list):
            values += [str(env["value"]) for env in envs]
    return values

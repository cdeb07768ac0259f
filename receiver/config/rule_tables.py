"""Make rules, their channels and notices from the tables that were read; report what conflicts.

A channel is moved by the rules that list it in `channels`; a channel that no rule lists is moved by
every rule of its app.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import msgspec
from msgspec import UnsetType

from receiver.config.checks import spelled, with_value
from receiver.config.environment import read_secret, read_variable, shown
from receiver.config.model import ChannelTable, NoticeTable, RuleTable, VersionRange
from receiver.config.tables import INVALID_VALUE, titled
from receiver.config.values import bare_token, login_faults, read_duration
from receiver.edgegap.deployment_answers import read_near
from receiver.edgegap.fields import field_fault, resource_faults
from receiver.errors import ConfigIssue
from receiver.images import Login, read_size
from receiver.notifications.destinations import Notice
from receiver.rules.channel_order import Channel, Need
from receiver.rules.rule import Rule, TargetKey, colliding_names
from receiver.rules.tag_patterns import TagPattern, parse_tag_pattern
from receiver.rules.trial import Trial
from receiver.secret import Secret

T = TypeVar("T")

NOTHING_TO_DO = "it is false and the rule has no channels, so pushes have no effect"
ALIKE = "differ in their case only, and Edgegap may treat them as the same version"
BOTH = "is a channel and also the version that another rule creates"


def make_rules(
    tables: Sequence[RuleTable],
    channels: Sequence[ChannelTable],
    environ: Mapping[str, str],
    login: Login | None,
    faults: list[ConfigIssue],
) -> tuple[Rule, ...]:
    """Return the rules with the channels that they move.

    `login` is used for rules without a login of their own.
    """
    rules = [
        _RuleMaker(table, number, environ, faults).rule(login)
        for number, table in enumerate(tables, start=1)
    ]
    names: dict[str, int] = {}
    for number, rule in enumerate(rules, start=1):
        unread = rule.name == default_name(rule.repository, rule.app) and INVALID_VALUE in rule.name
        first = number if unread else names.setdefault(rule.name, number)
        if first != number:
            what = f"it has the same name as rule {first}, {rule.name!r}"
            faults.append(
                ConfigIssue(f"rule {number}", what, 'Give one of them another: name = "…"')
            )
    own = _channels(channels, rules, faults)
    with_channels = tuple(_with_channels(rule, rules, own) for rule in rules)
    faults += [
        ConfigIssue(f"app {app}", f"{name!r} and {other!r} {ALIKE}", f'Write "{name}" in both')
        if name != other
        else ConfigIssue(
            f"app {app}", f"{name!r} {BOTH}", "Give the channel or the version another name"
        )
        for app, name, other in colliding_names(with_channels)
    ]
    faults += _faults_of_needs(own, with_channels)
    faults += [
        ConfigIssue(f"rule {number}, versions", NOTHING_TO_DO, 'Also write channels = ["dev"]')
        for number, rule in enumerate(with_channels, start=1)
        if not (rule.versions or rule.channels)
    ]
    return with_channels


def default_name(repository: str, app: str) -> str:
    """Return the name of a rule that has no `name`."""
    return f"{repository} → {app}"


class _RuleMaker:
    """Makes one rule; errors go to `faults`, and a harmless value replaces a wrong one."""

    def __init__(
        self, table: RuleTable, number: int, environ: Mapping[str, str], faults: list[ConfigIssue]
    ) -> None:
        self._table, self._environ, self._faults = table, environ, faults
        self._where = titled("rule", number, table.name)

    def rule(self, login: Login | None) -> Rule:
        table = self._table
        if table.versions and table.version in table.channels:
            what = f"{table.version!r} is also the version that the rule creates"
            self._fault("channels", what, 'Write versions = false, or version = "{tag}"')
        return Rule(
            repository=table.repository,
            app=table.app,
            name=given(table.name) or default_name(table.repository, table.app),
            tags=pattern_of(table.tags),
            version=table.version,
            versions=table.versions,
            copy_from=table.copy_from,
            on_overwrite=table.on_overwrite,
            preflight=table.preflight,
            max_image=self._max_image(),
            channels=tuple(dict.fromkeys(table.channels)),
            pull_profiles=tuple(dict.fromkeys(table.pull_profiles)),
            keep=given(table.keep),
            pin=table.pin,
            make_room=table.make_room,
            leave_out=table.leave_out,
            login=self._login() or login,
            settings=self._settings(),
            trial=self._trial(),
        )

    def _fault(self, key: str, what: str, fix: str) -> None:
        self._faults.append(ConfigIssue(f"{self._where}, {key}", what, fix))

    def _max_image(self) -> int | None:
        text = given(self._table.max_image)
        if text is not None and not self._table.preflight:
            what = "preflight is false, so that no size is ever known"
            self._fault("max_image", what, "Remove preflight = false, or max_image")
        return None if text is None else read_size(text)

    def _trial(self) -> Trial | None:
        table = self._table.trial
        if isinstance(table, UnsetType) or table.at == INVALID_VALUE:
            return None
        if not self._table.versions:
            what = "versions is false, so the rule creates no version that could be tried"
            self._fault("trial", what, "Remove versions = false, or the table [rule.trial]")
        return Trial(
            near=read_near(table.at),
            ready_within=read_duration(table.ready_within) or 0,
            steady_for=read_duration(table.steady_for) or 0,
            on_failure=table.on_failure,
            keep_failed=read_duration(given(table.keep_failed)) or 0,
        )

    def _login(self) -> Login | None:
        table = given(self._table.login)
        if table is None:
            return None
        username = read_variable(self._environ, table.username_env)
        token = read_variable(self._environ, table.token_env)
        if username is None or token is None:
            for name, value in ((table.username_env, username), (table.token_env, token)):
                if value is None:
                    missing = shown(name)
                    fix = f"Set {missing} or {missing}_FILE"
                    self._fault("login", f"{missing} is not set", fix)
            return None
        bare = bare_token(token)
        for part, what, fix in login_faults(username, bare):
            variable = shown(table.username_env if part == "username" else table.token_env)
            self._fault("login", f"{variable}: {what}", fix)
        return Login(username, Secret(bare), f"{table.username_env} and {table.token_env}")

    def _settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = msgspec.to_builtins(self._table.settings)
        if "ports" in settings:
            settings["ports"] = spelled(list(settings["ports"]))
        if "envs" in settings:
            settings["envs"] = [self._env(env) for env in settings["envs"]]
            what = field_fault("envs", settings["envs"])
            if what is not None:
                fix = "See Edgegap's documentation of the field"
                self._fault("settings.envs", what, fix)
                del settings["envs"]
        for what in resource_faults(settings):
            self._fault("settings", what, "Change one of the two")
        return settings

    def _env(self, env: dict[str, Any]) -> object:
        if "value_from" not in env:
            return env
        key, variable = env["key"], env["value_from"]
        if "value" in env:
            self._fault("settings.envs", f"{key} has value and value_from", "Keep one of them")
        value = read_variable(self._environ, variable)
        if value is None:
            what = f"{shown(variable)} is not set"
            self._fault("settings.envs", what, f"Set it, for the key {key}")
        return with_value(env, INVALID_VALUE if value is None else value)


def given(value: T | UnsetType) -> T | None:
    """Return the value of a key, None if it is not written."""
    return None if isinstance(value, UnsetType) else value


def pattern_of(tags: str | tuple[str, ...] | VersionRange) -> TagPattern:
    """Return the filter of a valid `tags`."""
    return parse_tag_pattern(msgspec.to_builtins(tags))


def _channels(
    tables: Sequence[ChannelTable], rules: Sequence[Rule], faults: list[ConfigIssue]
) -> list[Channel]:
    channels: dict[TargetKey, Channel] = {}
    known = sorted({rule.app for rule in rules})
    for number, table in enumerate(tables, start=1):
        where = titled("channel", number, table.name)
        if INVALID_VALUE in (table.app, table.name):
            continue
        if table.app not in known:
            apps = " or ".join(f'"{name}"' for name in known) or '"…"'
            fix = f"Write app = {apps}, as in the rule that moves the channel"
            faults.append(ConfigIssue(f"{where}, app", f"no rule has app = {table.app!r}", fix))
        elif (table.app, table.name) in channels:
            what = f"{table.app}/{table.name} has a table already"
            faults.append(ConfigIssue(f"channel {number}", what, "Keep one of the two"))
        tags = table.tags
        channels[TargetKey(table.app, table.name)] = Channel(
            table.app,
            table.name,
            table.follow,
            None if isinstance(tags, UnsetType) else pattern_of(tags),
            table.restore,
            given(table.source),
            frozenset(table.needs),
        )
    return list(channels.values())


def _faults_of_needs(channels: Sequence[Channel], rules: Sequence[Rule]) -> list[ConfigIssue]:
    """Return what is wrong with the `from` and `needs` of channels."""
    faults = []
    for channel in channels:
        where = f"channel {channel.name}"
        own = [rule for rule in rules if channel.name in rule.channels and rule.app == channel.app]
        known = sorted({name for rule in own for name in rule.channels} - {channel.name})
        if channel.source is not None and channel.source not in known:
            names = " or ".join(f'"{name}"' for name in known) or "another channel of the app"
            what = f"no rule moves the channel {channel.source!r} of the app {channel.app}"
            faults.append(ConfigIssue(f"{where}, from", what, f"Write from = {names}"))
        elif _has_cycle(channel, own):
            what = f"{channel.name} takes what {channel.source} has, and that comes from it"
            faults.append(ConfigIssue(f"{where}, from", what, "Remove one of the two"))
        untried = [rule.name for rule in own if rule.trial is None]
        if Need.TRIAL in channel.needs and untried:
            what = f"the rule {untried[0]} has no [rule.trial], so that no move would ever happen"
            faults.append(ConfigIssue(f"{where}, needs", what, "Add [rule.trial] to the rule"))
    return faults


def _has_cycle(channel: Channel, rules: Sequence[Rule]) -> bool:
    """Return whether the channel's source takes what it has, by way of others."""
    if not rules:
        return False
    seen, name = {channel.name}, channel.source
    while name is not None and name not in seen:
        seen.add(name)
        name = rules[0].channel(name).source
    return name is not None


def _with_channels(rule: Rule, rules: Sequence[Rule], channels: Sequence[Channel]) -> Rule:
    own = [channel for channel in channels if channel.app == rule.app]
    listed = {name for other in rules if other.app == rule.app for name in other.channels}
    names = (*rule.channels, *(channel.name for channel in own if channel.name not in listed))
    options = tuple(channel for channel in own if channel.name in names)
    return replace(rule, channels=names, options=options)


def make_notices(
    tables: Sequence[NoticeTable],
    environ: Mapping[str, str],
    rules: Iterable[Rule],
    faults: list[ConfigIssue],
) -> tuple[Notice, ...]:
    """Return the notices whose variable is set."""
    known = sorted({rule.name for rule in rules})
    notices: list[Notice] = []
    for number, table in enumerate(tables, start=1):
        where, name = f"notice {number}", given(table.name) or f"notice {number}"
        url = read_secret(environ, table.url_env)
        if url is None and table.url_env != INVALID_VALUE:
            fix = 'Write url_env = "DISCORD_NOTICE_URL" and set it to an Apprise URL'
            faults.append(
                ConfigIssue(f"{where}, url_env", f"{shown(table.url_env)} is not set", fix)
            )
        if not set(table.rules) <= set(known):
            what, fix = "it names a rule that does not exist", f"There are {', '.join(known)}"
            faults.append(ConfigIssue(f"{where}, rules", what, fix))
        if any(name == notice.name for notice in notices):
            what = f"two notices have the name {name!r}"
            faults.append(ConfigIssue("notice", what, 'Give one of them another: name = "…"'))
        if url is not None:
            notices.append(Notice(name, url, table.on, table.rules))
    return tuple(notices)


def env_values(rules: Iterable[Rule]) -> list[str]:
    """Return all environment values that the rules send: each is masked in all output."""
    values = []
    for rule in rules:
        envs = rule.settings.get("envs")
        if isinstance(envs, list):
            values += [str(env["value"]) for env in envs]
    return values

"""The shape of `receiver.toml`: its tables and keys, each with type, bounds, default and meaning.

What reads the file, its JSON Schema and the test of the documentation follow from it. A `check` is
for a value that is more than its type says: it returns the error, None if the value is valid.
"""

import json
from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from receiver.config.checks import (
    PULL_PROFILE,
    channels_fault,
    envs_fault,
    every_fault,
    leave_out_fault,
    links_fault,
    max_image_fault,
    near_fault,
    ports_fault,
    pull_profiles_fault,
    tags_fault,
)
from receiver.config.values import UNITS, duration_fault, public_url_fault
from receiver.edgegap.fields import MAX_PORT, SETTINGS, Field, field_fault
from receiver.images import MAX_REPOSITORY, REPOSITORY, SIZE
from receiver.notifications.destinations import NotificationEvent
from receiver.rules.channel_order import Follow, Need
from receiver.rules.rule import (
    MAX_VERSION_NAME,
    VERSION_NAME,
    OnOverwrite,
    template_fault,
)
from receiver.rules.tag_patterns import MAX_PATTERN, MAX_RANGE
from receiver.rules.trial import OnFailure

HOW_TO_FILTER = 'Write for instance tags = ["v*", "!*-rc*"] or tags = { semver = ">=1.2 <2" }'

Check = Callable[[Any], str | None]
T = TypeVar("T")
Omittable: TypeAlias = T | UnsetType  # for a key without a default
Repository = Annotated[str, Meta(pattern=f"^{REPOSITORY}$", max_length=MAX_REPOSITORY)]
VersionName = Annotated[str, Meta(pattern=f"^{VERSION_NAME}$", max_length=MAX_VERSION_NAME)]
Name = Annotated[str, Meta(min_length=1)]
ProfileName = Annotated[str, Meta(pattern=f"^{PULL_PROFILE}$")]
Duration = Annotated[str, Meta(pattern="^[0-9]{1,6}[smhd]$")]


def doc(
    meaning: str,
    *,
    what: str | None = None,
    fix: str | None = None,
    check: Check | None = None,
    **bounds: Any,
) -> Meta:
    """Return what a key means; `what`, with {!r} for the value, and `fix` are for its errors."""
    return Meta(description=meaning, extra={"what": what, "fix": fix, "check": check}, **bounds)


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the file."""


class VersionRange(Table, frozen=True):
    """A range of version numbers."""

    semver: Annotated[
        str,
        doc(
            "as npm reads it",
            examples=[">=1.2 <2", "1.x", "^1.2", "~1.2"],
            max_length=MAX_RANGE,
        ),
    ]
    prerelease: Annotated[bool, doc("also prereleases such as 1.2.0-rc1")] = False


Tags = str | tuple[Annotated[str, Meta(max_length=MAX_PATTERN)], ...] | VersionRange


class LoginTable(Table, frozen=True):
    """The variables that hold a rule's own Docker Hub login."""

    username_env: Annotated[Name, doc("the variable that holds the username")]
    token_env: Annotated[Name, doc("the variable that holds the access token")]


class Port(Table, frozen=True):
    """A port of the game server."""

    port: Annotated[int, doc("its number", ge=0, le=MAX_PORT)]
    protocol: Annotated[str, doc("its protocol", examples=["UDP", "TCP", "WS"])]
    name: Omittable[Annotated[str, doc("its name", min_length=1)]] = UNSET
    to_check: Omittable[Annotated[bool, doc("Edgegap checks it")]] = UNSET
    tls_upgrade: Omittable[Annotated[bool, doc("Edgegap speaks TLS in front of it")]] = UNSET


class Env(Table, frozen=True):
    """A variable of the game server; `value` or `value_from`."""

    key: Annotated[str, doc("its name", min_length=1)]
    value: Omittable[Annotated[str, doc("its value")]] = UNSET
    value_from: Omittable[Annotated[Name, doc("the receiver's variable that holds the value")]] = (
        UNSET
    )
    is_hidden: Omittable[Annotated[bool, doc("Edgegap does not return it")]] = UNSET


def _setting(name: str, field: Field) -> tuple[str, Any, Any]:
    """Return one of Edgegap's fields as a key of [rule.settings]."""
    kinds: dict[str, Any] = {"ports": tuple[Port, ...], "envs": tuple[Env, ...]}
    checks: dict[str, Check] = {"ports": ports_fault, "envs": envs_fault}
    kind = Literal[field.choices] if field.choices else kinds.get(name, field.kind)
    meaning = doc(
        field.meaning,
        what="value_from in envs is not the name of a variable" if name == "envs" else None,
        fix="See Edgegap's documentation of the field",
        check=checks.get(name, lambda value: field_fault(name, value)),
        ge=field.low,
        le=field.high,
    )
    return name, Annotated[kind, meaning] | UnsetType, UNSET


VersionSettings = msgspec.defstruct(
    "VersionSettings",
    [_setting(name, field) for name, field in SETTINGS.items()],
    bases=(Table,),
    namespace={"__doc__": "Edgegap's own field names; each overrides what was copied."},
    frozen=True,
)


def _time(low: str, high: str) -> Check:
    """Return the check of a time between these two."""
    bounds = [(int(text[:-1]) * UNITS[text[-1]]) for text in (low, high)]
    return lambda value: duration_fault(value, *bounds)


class TrialTable(Table, frozen=True):
    """One deployment of each new version, to see it run. It costs money while it runs."""

    at: Annotated[
        str,
        doc(
            "where: `latitude,longitude`, or an IP address",
            fix='Write for instance at = "45.5,-73.6"',
            check=near_fault,
            examples=["45.5,-73.6", "203.0.113.7"],
        ),
    ]
    ready_within: Annotated[
        Duration,
        doc(
            "it fails if it is not Ready by then",
            fix='Write for instance ready_within = "3m"',
            check=_time("1s", "60m"),
        ),
    ] = "3m"
    steady_for: Annotated[
        Duration,
        doc(
            "it passes after this time without error or restart",
            fix='Write for instance steady_for = "60s"',
            check=_time("1s", "60m"),
        ),
    ] = "60s"
    on_failure: Annotated[OnFailure, doc('"park": no channel moves; "warn": only a warning')] = (
        OnFailure.PARK
    )
    keep_failed: Omittable[
        Annotated[
            Duration,
            doc(
                "how long a failed one runs on; if omitted: not at all",
                fix='Write for instance keep_failed = "10m"',
                check=_time("1s", "24h"),
            ),
        ]
    ] = UNSET


class RuleTable(Table, frozen=True):
    """Which pushes of a repository become which version of which app."""

    repository: Annotated[
        Repository,
        doc(
            "on Docker Hub",
            fix='Write repository = "group/project", lower case, without host and tag',
            what="{!r} is not a Docker Hub repository",
            examples=["studio/game-server"],
        ),
    ]
    app: Annotated[
        str,
        doc(
            "on Edgegap",
            what="{!r} is not the name of an app",
            fix='Write app = "…", an Edgegap app\'s name of 3 to 64 characters',
            min_length=3,
            max_length=64,
        ),
    ]
    name: Omittable[Annotated[str, doc("default: repository → app")]] = UNSET
    tags: Annotated[
        Tags,
        doc(
            "globs; `!` excludes; if omitted: every tag but `latest`",
            fix=HOW_TO_FILTER,
            check=tags_fault,
        ),
    ] = ()
    version: Annotated[
        str,
        doc(
            "also {group} and {project}",
            fix='Write for instance version = "{project}-{tag}"',
            check=lambda text: template_fault(text) if isinstance(text, str) else None,
        ),
    ] = "{tag}"
    copy_from: Annotated[str, doc("settings are copied from here; or a version's name")] = "newest"
    leave_out: Annotated[
        tuple[Name, ...],
        doc(
            "fields of that version that may be lost",
            fix='Write leave_out = ["…"], without settings: those belong under [rule.settings]',
            check=leave_out_fault,
        ),
    ] = ()
    versions: Annotated[bool, doc("false: create none, only move the channels")] = True
    preflight: Annotated[bool, doc("check the image before its version is created")] = True
    max_image: Omittable[
        Annotated[
            str,
            doc(
                "a larger image parks; compressed, as Docker Hub shows it",
                what="{!r} is not a size in MB or GB",
                fix='Write for instance max_image = "4GB"',
                check=max_image_fault,
                pattern=f"^{SIZE}$",
            ),
        ]
    ] = UNSET
    on_overwrite: Annotated[
        OnOverwrite, doc('if a tag was overwritten: "warn", "park", or "move" channels')
    ] = OnOverwrite.WARN
    channels: Annotated[
        tuple[VersionName, ...],
        doc(
            "channels that the pushes move",
            fix='Write for instance channels = ["staging"]',
            check=channels_fault,
        ),
    ] = ()
    pull_profiles: Annotated[
        tuple[ProfileName, ...],
        doc(
            "endpoint storage/pull profile, linked to each version",
            fix='Write for instance pull_profiles = ["bucket/maps"]',
            check=pull_profiles_fault,
            examples=[["bucket/maps"]],
        ),
    ] = ()
    keep: Omittable[
        Annotated[
            int,
            doc(
                "retention: how many versions to keep; off if omitted",
                what="{!r} is not a number of versions",
                fix="Write keep = 10, or omit it",
                ge=1,
            ),
        ]
    ] = UNSET
    pin: Annotated[tuple[Name, ...], doc("never deleted")] = ()
    make_room: Annotated[
        bool, doc("at Edgegap's version limit: delete the oldest and continue")
    ] = False
    login: Omittable[
        Annotated[
            LoginTable,
            doc(
                "the variables of a Docker Hub login for this rule",
                what="it does not name its two variables",
                fix='Write login = { username_env = "LOBBY_HUB_USER", '
                'token_env = "LOBBY_HUB_TOKEN" }',
            ),
        ]
    ] = UNSET
    trial: Omittable[TrialTable] = UNSET
    settings: VersionSettings = msgspec.field(default_factory=VersionSettings)  # type: ignore[valid-type]  # made above


class ChannelTable(Table, frozen=True):
    """A channel that differs from the defaults."""

    app: Annotated[
        str, doc("on Edgegap", fix='Write app = "…", as in the rule that moves the channel')
    ]
    name: Annotated[
        VersionName,
        doc(
            "the channel's name",
            what="Edgegap accepts no version named {!r}",
            fix="Write name with 1 to 64 letters, digits, . _ or -, a letter or digit first",
        ),
    ]
    follow: Annotated[Follow, doc('or "highest", "newest"')] = Follow.AUTO
    tags: Omittable[
        Annotated[
            Tags, doc("in addition to the rule's; globs too", fix=HOW_TO_FILTER, check=tags_fault)
        ]
    ] = UNSET
    restore: Annotated[bool, doc("move it back when somebody else moved it")] = False
    source: Omittable[
        Annotated[VersionName, doc("it takes only what this channel has, once that has moved")]
    ] = msgspec.field(default=UNSET, name="from")
    needs: Annotated[
        tuple[Need, ...],
        doc('what a move waits for: "trial", "approval"', fix='Write needs = ["approval"]'),
    ] = ()


class NoticeTable(Table, frozen=True):
    """A destination of notifications."""

    url_env: Annotated[
        str,
        doc(
            "the variable that holds the destination's Apprise URL",
            fix='Write url_env = "DISCORD_NOTICE_URL" and set it to an Apprise URL',
        ),
    ]
    name: Omittable[Annotated[str, doc("default: notice 1, notice 2 …")]] = UNSET
    on: Annotated[
        tuple[NotificationEvent, ...],
        doc(
            "default: all events",
            what="it names an unknown event",
            fix=f'Write for instance on = ["parked"]; there are {", ".join(NotificationEvent)}',
        ),
    ] = tuple(NotificationEvent)
    rules: Annotated[tuple[str, ...], doc("default: all rules")] = ()


class CatchUp(Table, frozen=True):
    """How pushes are found whose webhook never arrived."""

    every: Annotated[
        str,
        doc(
            '"off" turns it off',
            fix='Write for instance every = "15m" (s, m, h or d)',
            check=every_fault,
            pattern="^([0-9]{1,6}[smhd]|off)$",
        ),
    ] = "15m"


class LedgerTable(Table, frozen=True):
    """What stays in the ledger."""

    keep: Annotated[
        str,
        doc(
            "deliveries older than this are purged",
            fix='Write for instance keep = "90d" (s, m, h or d)',
            check=_time("1d", "3650d"),  # for a day, so that people can see them
            pattern="^[0-9]{1,6}[smhd]$",
        ),
    ] = "90d"
    bodies: Omittable[
        Annotated[
            Duration,
            doc(
                "how long to keep the webhooks' bodies; off if omitted",
                fix='Write for instance bodies = "7d" (s, m, h or d), or omit it',
                check=_time("1h", "3650d"),
                examples=["7d"],
            ),
        ]
    ] = UNSET


class Configuration(Table, frozen=True):
    """The configuration of a Docker Hub receiver for Edgegap."""

    public_url: Omittable[
        Annotated[
            str,
            doc(
                "where Docker Hub reaches this receiver",
                fix='Write it as "https://hooks.example.com"',
                check=public_url_fault,
                examples=["https://hooks.example.com"],
                pattern="^[Hh][Tt][Tt][Pp][Ss]?://[^/?#@]+/*$",
            ),
        ]
    ] = UNSET
    rule: tuple[RuleTable, ...] = ()
    channel: tuple[ChannelTable, ...] = ()
    notice: tuple[NoticeTable, ...] = ()
    catch_up: CatchUp = CatchUp()
    ledger: LedgerTable = LedgerTable()
    links: Annotated[
        dict[Repository, Annotated[int, Meta(ge=1)]],
        doc(
            "raise a repository's number to revoke its earlier links",
            fix='Write "group/project" = 2',
            check=links_fault,
        ),
    ] = msgspec.field(default_factory=dict)


def schema_text() -> str:
    """Return the JSON Schema of `receiver.toml`, in a draft that editors understand."""
    _, parts = msgspec.json.schema_components([Configuration], ref_template="#/definitions/{name}")
    whole = parts.pop("Configuration")
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        **whole,
        "title": "receiver.toml",
        "definitions": parts,
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"

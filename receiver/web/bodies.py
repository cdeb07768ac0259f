"""The request bodies of the API, and the answers that are not the ledger's own views."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from receiver.ledger.deliveries import DELIVERY
from receiver.ledger.ids import ALPHABET, RANDOM_LETTERS, TIME_LETTERS
from receiver.ledger.queries import MAX_ROWS
from receiver.ledger.views import (
    App,
    Channel,
    DeliveryId,
    Sentence,
    VersionName,
    described,
)
from receiver.pipeline.prune import Pruned
from receiver.reasons import Reason, State, Verdict
from receiver.rules.rule import MAX_VERSION_NAME, VERSION_NAME
from receiver.timestamps import Time

MAX_MISSED = 500
MAX_KEEP_SECONDS = 86_400
MAX_WAIT = 300  # seconds

# PostgreSQL accepts no NUL, and names here and at Docker Hub have no control characters.
PLAIN = r"^[^\x00-\x1f\x7f]*\Z"
SIXTEEN_DIGITS = r"^[0-9a-f]{16}\Z"
VERSION = rf"^{VERSION_NAME}\Z"
CURSOR = rf"^{DELIVERY}[{ALPHABET}]{{{TIME_LETTERS + RANDOM_LETTERS}}}\Z"
# What an error says instead of these patterns.
IN_WORDS = {
    PLAIN: "without control characters",
    SIXTEEN_DIGITS: "of 16 characters, each 0-9 or a-f, as `receiver api-token` prints it",
    VERSION: "of letters, digits and . _ - only, not . _ - first",
    CURSOR: "that is the `next` of a page",
}
Plain = Annotated[str, Meta(pattern=PLAIN)]
Text = Annotated[Plain, Meta(min_length=1)]
OptionalText = Text | UnsetType  # a parameter is left out instead of being empty
TokenId = Annotated[
    str,
    Meta(
        pattern=SIXTEEN_DIGITS,
        description="The id of an API token, as `receiver api-token` prints it.",
        examples=["0123456789abcdef"],
    ),
]
# These are checked by `images.py`, whose messages say what to write instead.
_PART = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_GROUP = "[a-z0-9]+(?:(?:_|__|-+)[a-z0-9]+)*"
_TAG = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}"
_Image = Annotated[
    str,
    Meta(
        examples=["studio/game-server:1.4.2"],
        extra_json_schema={
            "pattern": f"^(?:docker\\.io/)?{_GROUP}/{_PART}:{_TAG}$",
            "maxLength": 255,
        },
    ),
]
Image = Annotated[_Image, Meta(description="[docker.io/]group/project:tag")]
RepositoryName = Annotated[
    str,
    Meta(
        description="group/project",
        examples=["studio/game-server"],
        extra_json_schema={"pattern": f"^{_PART}/{_PART}$", "maxLength": 255},
    ),
]
RepositoryOrAll = Annotated[
    str,
    Meta(
        description="group/project, or * for all.",
        examples=["studio/game-server", "*"],
        extra_json_schema={"pattern": f"^(?:\\*|{_PART}/{_PART})$", "maxLength": 255},
    ),
]
_BYTE = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_LATITUDE, _LONGITUDE = r"-?[0-8]?\d(?:\.\d{1,9})?", r"-?(?:1[0-7]\d|\d?\d)(?:\.\d{1,9})?"
Location = Annotated[
    str,
    Meta(
        description="latitude,longitude or an IP address",
        examples=["45.5,-73.6"],
        extra_json_schema={"pattern": f"^(?:{_LATITUDE},{_LONGITUDE}|(?:{_BYTE}\\.){{3}}{_BYTE})$"},
    ),
]
TagName = Annotated[str, Meta(examples=["1.4.2"], extra_json_schema={"pattern": f"^{_TAG}$"})]
DigestName = Annotated[str, Meta(extra_json_schema={"pattern": "^sha256:[0-9a-f]{64}$"})]
WaitSeconds = Annotated[int, Meta(ge=0, le=MAX_WAIT)]
RequestSource = Annotated[
    Literal["api", "command"], described("The source of the request; recorded and logged.")
]
UserName = Annotated[
    Plain,
    Meta(max_length=100, description="The name of the user; recorded and logged."),
]
Ids = Annotated[
    list[Plain], described("Ids of registrations or deliveries.", ["r1jx5m0q8zk3t7w2n5d"])
]
AppName = Annotated[Text, Meta(examples=["my-game"])]
_Version = Annotated[str, Meta(pattern=VERSION, max_length=MAX_VERSION_NAME)]
OneVersion = Annotated[_Version, described("A version or channel.", "1.4.2")]
ChannelName = Annotated[Text, Meta(examples=["staging"])]


class DeliveriesQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which deliveries to list."""

    repository: Annotated[OptionalText, described("Only deliveries of this repository.")] = UNSET
    tag: Annotated[OptionalText, described("Only deliveries of this tag.")] = UNSET
    image: Annotated[
        _Image | UnsetType, described("Only deliveries of this image: its repository and tag.")
    ] = UNSET
    digest: Annotated[
        DigestName | UnsetType,
        described("Only deliveries of this digest; preflight finds that of a webhook."),
    ] = UNSET
    wait: Annotated[
        WaitSeconds | UnsetType,
        described(
            "With `image`, and perhaps `digest`, alone: wait up to this many seconds until each "
            "registration of the newest delivery is done or parked."
        ),
    ] = UNSET
    verdict: Annotated[Verdict | UnsetType, described("Only deliveries with this verdict.")] = UNSET
    state: Annotated[
        State | UnsetType, described("Only deliveries with a registration in this state.")
    ] = UNSET
    app: Annotated[OptionalText, described("Only deliveries with a registration of this app.")] = (
        UNSET
    )
    version: Annotated[
        OptionalText, described("Only deliveries with a registration of this version or channel.")
    ] = UNSET
    reason: Annotated[
        Reason | UnsetType,
        described("Only deliveries with this reason, or with a registration that has it."),
    ] = UNSET
    source: Annotated[
        Literal["webhook", "catch-up", "command", "restore", "test"] | UnsetType,
        described("Only deliveries that were reported in this way."),
    ] = UNSET
    overwritten: Annotated[
        bool, Meta(description="Only deliveries with a registration of a tag that was overwritten.")
    ] = False
    since: Annotated[
        Time | UnsetType, described("Only deliveries that were received then or later.")
    ] = UNSET
    until: Annotated[
        Time | UnsetType, described("Only deliveries that were received before then.")
    ] = UNSET
    text: Annotated[OptionalText, described("Only deliveries that contain this text.")] = UNSET
    before: Annotated[
        Annotated[str, Meta(pattern=CURSOR)] | UnsetType,
        described("Only deliveries older than this one: the `next` of a page."),
    ] = UNSET
    limit: Annotated[int, Meta(ge=1, le=MAX_ROWS, description="Maximum number of deliveries.")] = (
        100
    )


class CheckQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The image to check."""

    image: Image


class AppQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The app whose versions are listed."""

    app: Annotated[Text, described("An app that a rule names.", "my-game")]


class DiffQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The two versions to compare."""

    app: Annotated[Text, described("An app that a rule names.", "my-game")]
    a: OneVersion
    b: Annotated[_Version, described("The version or channel to compare it with.", "1.5.0")]


class ExportQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The version whose settings are written as TOML."""

    app: Annotated[Text, described("An app that a rule names.", "my-game")]
    version: OneVersion


class ChannelsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which channels to list."""

    app: Annotated[OptionalText, described("Only channels of this app.", "my-game")] = UNSET


class PushRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An image to push manually."""

    image: Image


class ReplayRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which deliveries to replay: by id, all parked, all since a time, or all of these."""

    ids: Annotated[list[Plain], described("Ids of deliveries or registrations.")] = []
    parked: Annotated[bool, described("Also all parked deliveries.", True)] = False
    since: Annotated[
        Time | None, described("Also all deliveries that were received then or later.")
    ] = None
    after: Annotated[
        Plain | None, described("With `parked` or `since`: the `next` of the previous answer.")
    ] = None


class RevokeRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The API token to revoke."""

    id: TokenId


class Revoked(msgspec.Struct, frozen=True):
    """A revoked token."""

    id: TokenId
    revoked: Annotated[bool, described("False if the token was revoked before.")]


ShownTag = Annotated[
    Text | None, described("Refuse the move if the channel would get another tag than this.")
]


class RollbackRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The channel to roll back."""

    app: AppName
    channel: ChannelName
    to: Annotated[
        Text | None,
        described(
            "The version whose image the channel gets, or group/project:tag; null for its previous "
            "image."
        ),
    ] = None
    tag: ShownTag = None


class PromoteRequest(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_channel": "from"}
):
    """The channel to promote, and the version or the channel whose image it gets."""

    app: AppName
    channel: ChannelName
    to: Annotated[
        Text | None,
        described(
            "The version whose image the channel gets, or group/project:tag; either this or "
            "`from`.",
            "1.4.2",
        ),
    ] = None
    from_channel: Annotated[
        Text | None, described("The channel of the app whose image the channel gets.")
    ] = None
    tag: ShownTag = None
    digest: Annotated[
        DigestName | None,
        described("Refuse the move if the tag has another digest than this by now."),
    ] = None


class RollbackQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The rollback to show."""

    app: Annotated[Text, described("The app of the channel.", "my-game")]
    channel: Annotated[Text, described("The channel.", "prod")]
    to: Annotated[OptionalText, described("As for the rollback.")] = UNSET


class PromotionQuery(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"from_channel": "from"}
):
    """The move to show: as for a promotion."""

    app: Annotated[Text, described("The app of the channel.", "my-game")]
    channel: Annotated[Text, described("The channel.", "prod")]
    to: Annotated[OptionalText, described("As for the promotion.")] = UNSET
    from_channel: Annotated[
        OptionalText, described("The channel whose image the channel would get.")
    ] = UNSET


class TrialRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The version to try."""

    app: AppName
    version: Annotated[Text, Meta(examples=["1.4.2"])]
    at: Annotated[Location | None, described("Where to deploy it; null for the rule's `at`.")] = (
        None
    )
    keep_seconds: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_KEEP_SECONDS)] | None,
        described("For how long the deployment runs on after the verdict.", 600),
    ] = None


class QueuedTrial(msgspec.Struct, frozen=True):
    """A trial that was recorded as a delivery and queued."""

    delivery: DeliveryId
    sentence: Sentence


class ReleaseRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The channel to release."""

    app: AppName
    channel: ChannelName


class QueuedMove(msgspec.Struct, frozen=True):
    """A move that was recorded as a delivery and queued."""

    delivery: DeliveryId
    sentence: Annotated[str, described("What the channel gets, and what moves it again.")]


class Released(msgspec.Struct, frozen=True):
    """A released channel."""

    sentence: Annotated[str, described("What moves the channel now.")]


class ChannelList(msgspec.Struct, frozen=True):
    """Channels, by app and name."""

    channels: tuple[Channel, ...]


class PauseRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The repository to pause or resume."""

    repository: RepositoryOrAll


class OpenGateRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The gate to open."""

    gate: Annotated[
        Literal["busy", "token"],
        described("busy: Edgegap's rate limit was reached; token: Edgegap refused the API token."),
    ]


class OpenedGate(msgspec.Struct, frozen=True):
    """The gate that was opened."""

    opened: Literal["busy", "token"]


class PruneRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The app whose versions are deleted."""

    app: AppName
    dry_run: Annotated[bool, described("Only list the versions.", True)] = False
    versions: Annotated[
        list[Plain] | None, described("Only these versions; null for all beyond `keep`.")
    ] = None
    source: RequestSource = "api"


class PrunableVersion(msgspec.Struct, frozen=True):
    """A version that may be deleted."""

    version: VersionName
    why: Annotated[str, described("Why it may be deleted.", "beyond keep = 10")]
    running: Annotated[
        int | None,
        described(
            "Its running deployments at Edgegap: it is kept while there are any. Null if that is "
            "not known in time, without `dry_run`, and for all but the first 50.",
            0,
        ),
    ] = None


class PruneResult(msgspec.Struct, frozen=True):
    """The versions that may be deleted, and the result of each deletion."""

    app: App
    prunable: tuple[PrunableVersion, ...]
    results: tuple[Pruned, ...]


class DismissRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to dismiss: `ids`, or `all` parked registrations, of one reason if it is given."""

    ids: Ids = []
    all: Annotated[bool, described("All parked registrations; without `ids`.")] = False
    reason: Annotated[
        Reason | None, described("With `all`: only those parked for this reason.")
    ] = None
    after: Annotated[Plain | None, described("With `all`: the `next` of the previous answer.")] = (
        None
    )
    source: RequestSource = "api"
    name: UserName = ""


IDS_OR_ALL = {
    "examples": [{"all": True, "reason": Reason.VERSION_LIMIT.value}],
    "oneOf": [
        {
            "required": ["ids"],
            "properties": {
                "ids": {"minItems": 1},
                "all": {"const": False},
                "reason": {"type": "null"},
                "after": {"type": "null"},
            },
        },
        {"required": ["all"], "properties": {"ids": {"maxItems": 0}, "all": {"const": True}}},
    ],
}


class UndoDismissalRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which dismissed registrations to park again."""

    ids: Ids
    source: RequestSource = "api"
    name: UserName = ""


class MissedPushReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A push that no webhook reported."""

    repository: RepositoryName
    tag: TagName
    pushed_at: Annotated[Time | None, described("When it was pushed, if that is known.")] = None
    digest: DigestName | None = None
    media_type: Plain | None = None


class CatchUpRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The pushes that no webhook reported."""

    missed: Annotated[
        list[MissedPushReport],
        Meta(
            description=f"At most {MAX_MISSED}.",
            extra_json_schema={"maxItems": MAX_MISSED},
        ),
    ]


class CaughtUp(msgspec.Struct, frozen=True):
    """The recorded deliveries; pushes that were already known are left out."""

    deliveries: tuple[DeliveryId, ...]


class Reloaded(msgspec.Struct, frozen=True):
    """The configuration that was read again and is in force now."""

    rules: int
    needs_a_restart: Annotated[
        tuple[str, ...],
        Meta(
            description="Variables whose new values are in force only after a restart.",
            examples=[["PORT"]],
        ),
    ]
    warnings: Annotated[tuple[str, ...], described("Probable mistakes.")]


class SettingsHashes(msgspec.Struct, frozen=True):
    """For each setting a keyed hash of its value, which `receiver doctor` compares with its own."""

    marks: Annotated[dict[str, str], Meta(examples=[{"PORT": "0123456789abcdef"}])]

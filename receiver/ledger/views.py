"""What the ledger returns to the API, the page and the commands: frozen, described once.

The API's document is generated from these types: their names, descriptions and examples.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import msgspec
from msgspec import Meta

from receiver.errors import LedgerError
from receiver.reasons import Outcome, Reason, State, Verdict
from receiver.rules.rule import Mode
from receiver.signing import LinkFault
from receiver.timestamps import Time, format_time, read_iso

V = TypeVar("V")


class Word(str):
    """A word in the ledger: one of `known`, or one that only a newer replica knows."""

    __slots__ = ()
    known: ClassVar[tuple[str, ...]] = ()


class ReasonWord(Word):
    """A reason as the ledger has it."""

    __slots__ = ()
    known = tuple(Reason)


class DeliverySource(Word):
    """How a push was reported, or that a channel was moved back to its image."""

    __slots__ = ()
    known = ("webhook", "catch-up", "command", "restore", "test")


class MoveSource(Word):
    """The source of a move: of its delivery (empty if that was purged), or page, API, command."""

    __slots__ = ()
    known = ("webhook", "catch-up", "command", "restore", "page", "api", "")


class MoveAction(Word):
    """Why a channel moved."""

    __slots__ = ()
    known = ("push", "rollback", "promote", "restore")


class Effect(Word):
    """Whether a write took effect, as far as the response shows."""

    __slots__ = ()
    known = ("done", "none", "unknown")


def read_view(kind: type[V], row: Mapping[Any, Any], **more: object) -> V:
    """Return a row of the ledger as this type, whose fields have the names of the columns."""
    fields = {str(name): value for name, value in row.items()}  # SQLAlchemy's own kind of text
    try:
        return msgspec.convert(fields | more, kind, dec_hook=from_plain)
    except msgspec.ValidationError as error:
        raise LedgerError(
            f"the ledger has a row that this version cannot read ({kind.__name__}: {error}); "
            "run the newest version"
        ) from None


def from_plain(kind: type, value: object) -> object:
    """Read a time from epoch milliseconds or ISO 8601 text, and a word from text."""
    if issubclass(kind, Word) and isinstance(value, str):
        return kind(value)
    moment = read_iso(value) if isinstance(value, str) else value
    if kind is Time and isinstance(moment, int):
        return Time(moment)
    what = "a time in ISO 8601, such as 2026-11-23T17:00:00Z" if kind is Time else "a text"
    raise ValueError(f"Expected {what}")


def to_plain(value: object) -> str:
    """Write a time as ISO 8601 text in UTC, and a word as text."""
    return format_time(value) if isinstance(value, Time) else str(value)


def described(text: str, *examples: object) -> Meta:
    """Return the description of a field, with examples."""
    return Meta(description=text, examples=list(examples) or None)


DeliveryId = Annotated[
    str, described("The id of a delivery; ids sort by time.", "d1jx5m0q8zk3t7w2n4c")
]
RegistrationId = Annotated[
    str, described("The id of a registration; ids sort by time.", "r1jx5m0q8zk3t7w2n5d")
]
AskedBy = Annotated[str | None, described("Who did it, if anybody did.", "command (anna)")]
Repository = Annotated[str, Meta(examples=["studio/game-server"])]
Tag = Annotated[str, Meta(examples=["1.4.2"])]
App = Annotated[str, Meta(examples=["my-game"])]
VersionName = Annotated[str, Meta(examples=["1.4.2"])]
Digest = Annotated[str, Meta(examples=[f"sha256:{'0' * 64}"])]
Why = Annotated[
    ReasonWord | None, described("The reason as one word; null if there is none.", "version_limit")
]
Sentence = Annotated[str, described("What happened, and what to do; empty if nothing is to do.")]


class Registration(msgspec.Struct, frozen=True):
    """The work that creates one version for an image, or moves one channel to it."""

    id: RegistrationId
    rule: Annotated[str, described("The name of the rule.", "main")]
    app: App
    version: Annotated[str, described("The version or the channel.", "1.4.2")]
    mode: Mode
    repository: Repository
    tag: Tag
    digest: Digest | None
    state: State
    outcome: Annotated[Outcome | None, described("Null until it is done.", "created")]
    reason: Why
    sentence: Sentence
    notes: Annotated[tuple[str, ...], described("What else was found.")]
    overwritten: Annotated[
        bool, described("The tag was overwritten: Edgegap may keep running the old image.")
    ]
    due_at: Annotated[Time, described("When it is tried next, if it is queued or waiting.")]
    tries: Annotated[int, described("The number of attempts so far.")]
    created_at: Time
    updated_at: Time
    finished_at: Annotated[Time | None, described("Null until it is done.")]
    dismissed_at: Annotated[Time | None, described("When it was dismissed; null if it was not.")]
    dismissed_by: AskedBy
    deleted_at: Annotated[
        Time | None, described("When its version was deleted later; null if it was not.")
    ]
    deleted_why: Annotated[
        str | None, described("Why its version was deleted.", "beyond keep = 10")
    ]


class HeldBack(msgspec.Struct, frozen=True):
    """What holds a registration back although it is due."""

    by: Annotated[
        Literal["pause", "busy", "token", "deletion"],
        described(
            "A pause; Edgegap's rate limit; a refused API token; a deletion of the version in "
            "progress."
        ),
    ]
    sentence: str
    since_at: Time
    until_at: Annotated[Time | None, described("Null if the end is not known.")]


class SentRequest(msgspec.Struct, frozen=True):
    """One request of one attempt, and its response, without secrets."""

    attempt: int
    step: Annotated[int, described("The number of the request in its attempt.")]
    at: Time
    method: Annotated[str, Meta(examples=["POST"])]
    path: Annotated[str, Meta(examples=["/v1/app/my-game/version"])]
    status: Annotated[int | None, described("Null if there was no response.", 200)]
    milliseconds: int | None
    message: Annotated[str, described("The error message of the response.")]
    effect: Effect


class TrialRun(msgspec.Struct, frozen=True):
    """One run of a trial: its deployment and the verdict."""

    deployment: Annotated[str | None, described("Its request id; null until it is known.")]
    requested_at: Annotated[Time | None, described("Null if a person wants it, and it waits.")]
    ready_at: Annotated[Time | None, described("Null if it was not Ready.")]
    decided_at: Annotated[Time | None, described("When there was a verdict.")]
    stopped_at: Annotated[Time | None, described("Since when no deployment of it runs.")]
    passed: Annotated[bool | None, described("The verdict; null while there is none.")]
    why: Annotated[str, described("Why it failed, or proves nothing; else empty.")]
    exit_code: int | None
    log: Annotated[tuple[str, ...], described("The last lines of a failed run, at most 40.")]
    notes: Annotated[
        tuple[str, ...],
        described("What it used.", ["CPU at most 0.4, on average 0.2; 1024 units requested"]),
    ]


class Approval(msgspec.Struct, frozen=True):
    """The approval of a channel's move to an image."""

    at: Time
    approver: Annotated[
        str,
        described("Link, page, api or command, with the name that was given.", "link (anna)"),
    ]
    address: Annotated[str, described("The client address; empty for a command.", "192.0.2.7")]


class RegistrationDetail(Registration, frozen=True):
    """A registration with what holds it back, its deliveries and its requests."""

    held_back: tuple[HeldBack, ...]
    deliveries: Annotated[
        tuple[DeliveryId, ...], described("All deliveries that led to this registration.")
    ]
    requests: Annotated[tuple[SentRequest, ...], described("Each request of each attempt.")]
    trial: Annotated[TrialRun | None, described("The last run of a trial; null if it has none.")]
    approval: Annotated[Approval | None, described("Of a channel's move; null if it has none.")]


class ReportedPush(msgspec.Struct, frozen=True):
    """One report of a push, and the decision on it."""

    id: DeliveryId
    received_at: Time
    source: DeliverySource
    repository: Repository
    tag: Annotated[Tag | None, described("Null for the untagged parts of an image.")]
    media_type: Annotated[str | None, Meta(examples=["application/vnd.oci.image.index.v1+json"])]
    pusher: Annotated[str | None, described("The user at Docker Hub.", "anna")]
    pushed_at: Annotated[Time | None, described("Docker Hub's time; null if it gave none.")]
    digest: Digest | None
    body_bytes: Annotated[int | None, described("The size of the webhook's body.", 812)]
    requested_by: AskedBy
    verdict: Verdict
    reason: Why
    sentence: Sentence


class Delivery(ReportedPush, frozen=True):
    """A delivery with its registrations in short."""

    registrations: tuple[Registration, ...]


class DeliveryDetail(ReportedPush, frozen=True):
    """A delivery with all that happened: the push, the rules, each request, and what to do now."""

    address: Annotated[str | None, described("The address of the webhook's sender.", "192.0.2.7")]
    user_agent: Annotated[str | None, described("The sender's User-Agent.", "Go-http-client/1.1")]
    status: Annotated[int | None, described("The status of the response to the webhook.", 202)]
    body_start: Annotated[str | None, described("The start of a body that was not accepted.")]
    headers: Annotated[str | None, described("Their names, if `[ledger] bodies` is set.", "host")]
    body: Annotated[str | None, described("Its first 8 kB, if `[ledger] bodies` is set.")]
    registrations: tuple[RegistrationDetail, ...]


class DeliveryPage(msgspec.Struct, frozen=True):
    """One page of deliveries, the newest first."""

    deliveries: tuple[Delivery, ...]
    next: Annotated[
        DeliveryId | None,
        described(
            "Pass it as `before` for the next page; null at the end. If no index supports the "
            "filter, a page ends after 20000 deliveries, however few of them match."
        ),
    ]


class OpenRegistration(msgspec.Struct, frozen=True):
    """A registration that is not done, with its newest delivery."""

    id: RegistrationId
    rule: str
    app: App
    version: str
    repository: Repository
    tag: Tag
    mode: Mode
    state: State
    reason: Why
    delivery_id: DeliveryId


class NewestPush(msgspec.Struct, frozen=True):
    """A rule's newest push and its result under this rule."""

    delivery: DeliveryId
    received_at: Time
    tag: Tag | None
    registrations: tuple[Registration, ...]


class RuleOverview(msgspec.Struct, frozen=True):
    """A rule and its newest push."""

    rule: Annotated[str, described("The name of the rule.", "main")]
    repository: Repository
    app: App
    versions: Annotated[bool, described("False: the rule only moves channels.")]
    channels: Annotated[tuple[str, ...], Meta(examples=[["staging"]])]
    newest: Annotated[NewestPush | None, described("Null if there was none lately.")]


class RepositoryOverview(msgspec.Struct, frozen=True):
    """A repository of the rules: its link, its pause and its catch-up."""

    repository: Repository
    last_use_at: Annotated[Time | None, described("When a webhook last used its link.")]
    last_test_at: Annotated[Time | None, described("When a test push last came by its link.")]
    paused_at: Annotated[Time | None, described("Null if it is not paused.")]
    caught_up_at: Annotated[Time | None, described("When catch-up last succeeded.")]
    catch_up_problem: Annotated[str, described("Why the last run failed; empty if it succeeded.")]


class ParkedRegistration(msgspec.Struct, frozen=True):
    """A parked registration and what to do about it."""

    id: RegistrationId
    app: App
    version: str
    repository: Repository
    tag: Tag
    rule: str
    reason: Why
    sentence: Sentence
    updated_at: Time
    delivery: Annotated[DeliveryId | None, described("Its newest delivery; null if purged.")]


class RecentRegistration(msgspec.Struct, frozen=True):
    """One of the newest registrations."""

    id: RegistrationId
    app: App
    version: str
    tag: Tag
    state: State
    outcome: Outcome | None
    reason: Why
    created_at: Time
    finished_at: Time | None


class Pause(msgspec.Struct, frozen=True):
    """A pause."""

    repository: Annotated[str, described("* for all repositories.", "studio/game-server")]
    since_at: Time


class RefusedLink(msgspec.Struct, frozen=True):
    """Requests with an invalid link, of one kind and repository."""

    reason: LinkFault
    repository: Annotated[
        str | None, described("The repository that the link was made for, if it is known.")
    ]
    requests: int
    first_at: Time
    last_at: Time
    message: str
    actionable: Annotated[
        bool, described("False for requests that anyone on the Internet may send.")
    ]


class WaitingMove(msgspec.Struct, frozen=True):
    """A channel's move that waits for a trial or for an approval."""

    registration_id: RegistrationId
    app: App
    channel: Annotated[str, Meta(examples=["prod"])]
    repository: Repository
    tag: Tag
    digest: Digest | None
    pushed_at: Time
    reason: Annotated[ReasonWord, described("What it waits for.", "needs_approval")]
    sentence: Sentence
    since_at: Time
    delivery: Annotated[DeliveryId | None, described("Its newest delivery; null if purged.")]


class NewestVersion(msgspec.Struct, frozen=True):
    """The newest version that was created here and still exists."""

    app: App
    version: VersionName
    created_at: Time
    delivery: Annotated[DeliveryId | None, described("Its newest delivery; null if purged.")]


class LedgerOverview(msgspec.Struct, frozen=True):
    """The state of everything by rule and by repository, and what is parked."""

    rules: tuple[RuleOverview, ...]
    repositories: tuple[RepositoryOverview, ...]
    parked: Annotated[tuple[ParkedRegistration, ...], described("The newest 20.")]
    parked_count: int
    waiting: Annotated[
        tuple[WaitingMove, ...],
        described("Moves of channels that wait for a trial or for an approval."),
    ]
    last: Annotated[tuple[RecentRegistration, ...], described("The newest 50 registrations.")]
    newest_version: Annotated[NewestVersion | None, described("Null if there is none.")]
    overwritten: Annotated[int, described("Number of tags overwritten in the last 24 hours.")]
    in_use: Annotated[bool, described("Whether a push ever led to a version or a channel.")]
    pauses: tuple[Pause, ...]
    refused_links: Annotated[
        tuple[RefusedLink, ...],
        described("Requests with an invalid link in the last 7 days, newest first."),
    ]


class Hold(msgspec.Struct, frozen=True):
    """A hold: no push moves the channel until it is released."""

    since_at: Time
    tag: Tag
    action: Literal["rollback", "promote"]
    lifted_above: Annotated[
        str | None,
        described(
            "A push above this version number lifts the hold; null: only a release lifts it."
        ),
    ]


class Move(msgspec.Struct, frozen=True):
    """One move of a channel."""

    at: Time
    from_repository: str | None
    from_tag: str | None
    repository: Repository
    tag: Tag
    digest: Digest | None
    pushed_at: Time
    action: MoveAction
    source: MoveSource
    by: Annotated[str | None, described("Who requested it, or pushed; null if not known.", "anna")]
    rule: str
    registration_id: RegistrationId


class Channel(msgspec.Struct, frozen=True):
    """A channel: its image, its hold, its drift and its last moves."""

    app: App
    channel: Annotated[str, Meta(examples=["staging"])]
    repository: Repository | None
    tag: Annotated[Tag | None, described("Null before the channel's first move.")]
    highest: Annotated[
        str | None,
        described("The highest version number that the channel got since its last manual move."),
    ]
    held: Annotated[Hold | None, described("Null if pushes move the channel.")]
    drift: Annotated[
        str | None, described("The image at Edgegap, if it differs from the channel's.")
    ]
    drift_at: Time | None
    moves: Annotated[tuple[Move, ...], described("The last moves, the newest first.")]
    waiting: Annotated[
        tuple[WaitingMove, ...], described("Moves that wait for a trial or for an approval.")
    ]


class EndedDeletion(msgspec.Struct, frozen=True):
    """One attempt to delete a version."""

    version: VersionName
    at: Time
    deleted: bool
    why: Annotated[str, described("Why it was deleted, or why not.", "beyond keep = 10")]


class ChangedRegistration(msgspec.Struct, frozen=True):
    """A registration that was dismissed, or parked again."""

    id: RegistrationId
    app: App
    version: str
    reason: Why


class Changed(msgspec.Struct, frozen=True):
    """What was dismissed or parked again."""

    registrations: Annotated[
        tuple[ChangedRegistration, ...], described("The registrations that were changed.")
    ]
    missing: Annotated[
        tuple[str, ...], described("Ids that are neither a registration nor a delivery.")
    ]
    unchanged: Annotated[tuple[str, ...], described("Ids without one that could be changed.")]
    superseded: Annotated[
        tuple[ChangedRegistration, ...],
        described(
            "Registrations that were to be parked again, but a later push has succeeded since."
        ),
    ]

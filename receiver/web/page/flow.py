"""A push as one line: repository and tag, digest, version, channels, each with its state."""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from receiver.ledger.gates import ALL
from receiver.ledger.views import Registration
from receiver.reasons import Outcome, State
from receiver.rules.rule import Mode, Rule, channels_of
from receiver.timestamps import duration
from receiver.upkeep.health import Code, Condition

SHOWN_OF_DIGEST = 4
_COLOURS = {
    "created": "good", "updated": "good", "unchanged": "good", "passed": "good", "failed": "bad",
    "superseded": "calm", "dismissed": "calm",
    "queued": "busy", "working": "busy", "waiting": "wait", "parked": "bad", "held": "wait",
    "accepted": "good", "ignored": "calm", "refused": "bad", "done": "good", "overwritten": "wait",
}  # fmt: skip
MADE = frozenset({Outcome.CREATED, Outcome.UPDATED})
ENDED = frozenset({State.DONE, State.PARKED})


def colour_of(word: str) -> str:
    """Return the color class of an outcome, a state or a verdict."""
    return _COLOURS.get(word, "calm")


class Status(msgspec.Struct, frozen=True):
    """One word for a delivery or a registration, its reason and its color."""

    word: str
    colour: str
    reason: str = ""


def status_of_registration(one: Registration, *, held: bool = False) -> Status:
    """Return the outcome or the state; what is done with an overwritten tag is no success.

    `held`: a gate or a pause holds back what is queued.
    """
    word = one.outcome or one.state
    if held and one.state is State.QUEUED:
        return Status(word.value, colour_of("held"), "held back")
    if one.state is not State.DONE:
        return Status(word.value, colour_of(word), one.reason or "")
    colour = colour_of(word)
    if one.overwritten:
        return Status(word.value, "wait" if colour == "good" else colour, "tag overwritten")
    return Status(word.value, colour, "later deleted" if one.deleted_at else "")


def holds_back(conditions: Iterable[Condition], repository: str | None) -> bool:
    """Return whether a gate or a pause holds back what is queued for a repository."""
    return any(
        one.code in {Code.TOKEN, Code.BUSY}
        or (one.code is Code.PAUSED and one.repository in {ALL, repository})
        for one in conditions
    )


class Step(msgspec.Struct, frozen=True):
    """One part of the line. `colour` is "next" if nothing happened yet.

    `name` is `app` and `version`, or the digest in short; `word` the outcome or the state.
    """

    kind: str
    colour: str
    name: str
    app: str = ""
    word: str = ""
    detail: str = ""
    whole: str = ""


def flow_of(
    tag: str | None,
    digest: str | None,
    registrations: Sequence[Registration],
    rules: Iterable[Rule] = (),
    *,
    held: bool = False,
) -> tuple[Step, ...]:
    """Return the parts of the line after the image; `rules` name the channels that come next.

    `held`: a gate or a pause holds back what is queued.
    """
    digests = [one.digest for one in registrations if one.digest] or [digest or ""]
    coming = not any(one.state in ENDED for one in registrations)
    steps = [_digest(digests[0])] if registrations and (digests[0] or coming) else []
    ordered = sorted(registrations, key=lambda one: list(Mode).index(one.mode))
    ordered.sort(key=lambda one: one.mode is Mode.CHANNEL)
    steps += [_step(one, held=held) for one in ordered]
    steps += _next(tag, registrations, rules)
    return tuple(steps)


def short_digest(digest: str) -> str:
    """Return the first and the last digits of a digest."""
    digits = digest.removeprefix("sha256:")
    if len(digits) <= 2 * SHOWN_OF_DIGEST:
        return digits
    return f"{digits[:SHOWN_OF_DIGEST]}…{digits[-SHOWN_OF_DIGEST:]}"


def _digest(digest: str) -> Step:
    if not digest:
        return Step("digest", "next", "digest")
    return Step("digest", "good", short_digest(digest), whole=digest)


def _step(one: Registration, *, held: bool) -> Step:
    status = status_of_registration(one, held=held)
    detail = status.reason or one.reason or ""
    if one.outcome in MADE and one.finished_at is not None:
        detail = status.reason or duration(max(0, one.finished_at - one.created_at))
    return Step(one.mode.value, status.colour, one.version, one.app, status.word, detail)


def _next(
    tag: str | None, registrations: Sequence[Registration], rules: Iterable[Rule]
) -> Iterator[Step]:
    """Yield the channels that follow once the version is created."""
    opened = {(one.app, one.version) for one in registrations}
    coming = {
        one.rule for one in registrations if one.mode is Mode.CREATE and one.state != State.DONE
    }
    for rule in rules:
        if tag is not None and rule.name in coming:
            for match in channels_of(rule, tag):
                if (match.app, match.version) not in opened:
                    yield Step("channel", "next", match.version, match.app, "next")

"""Manual operations: moving, holding and releasing a channel, pausing a repository."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from msgspec.structs import replace

from receiver import metrics
from receiver.errors import BadImageReference, ReceiverError
from receiver.images import ImageReference, parse_image_reference
from receiver.ledger import gates
from receiver.ledger.approvals import waiting_moves
from receiver.ledger.channels import (
    before,
    channel_images,
    hold_channel,
    newest_known,
    order,
    read_channel_state,
    release_channel,
    reported,
    wake_channel,
)
from receiver.ledger.deliveries import (
    COMMAND,
    NewDelivery,
    RecordedDelivery,
    forget_digest,
    record,
    set_digest,
)
from receiver.ledger.targets import last_names, read_target, rule_of, rule_to_repeat, version_with
from receiver.ledger.transaction import Tx
from receiver.ledger.trials import has_passed
from receiver.logs import log_operation
from receiver.reasons import Verdict
from receiver.rules.channel_order import (
    Channel,
    ChannelState,
    Hold,
    ManualAction,
    Need,
    lifted_above,
)
from receiver.rules.rule import Decision, Match, Mode, Rule, rules_moving
from receiver.signing import Approvable

MAX_NAMED = 10
DONE = {ManualAction.ROLLBACK: "rolled_back", ManualAction.PROMOTE: "promoted"}


class ChannelNotMoved(ReceiverError):
    """The channel does not exist, has no image to move to, or is not held."""


class UnknownRepository(ReceiverError):
    """The repository is unknown: neither a rule nor the ledger names it."""


def pause_repository(tx: Tx, repository: str, rules: Iterable[Rule], source: str) -> None:
    """Pause the registrations of a known repository, or of ALL; raises UnknownRepository.

    `source` is who requested it.
    """
    named = {rule.repository for rule in rules}
    if repository not in {gates.ALL, *named} and not gates.is_known(tx, repository):
        known = sorted(named.union(gates.repositories_held(tx)))
        close = get_close_matches(repository, known, n=1)
        names = f"{', '.join(known[:MAX_NAMED]) or 'none'}{', …' if known[MAX_NAMED:] else ''}"
        hint = f"did you mean {close[0]}?" if close else f"known are: {names}"
        raise UnknownRepository(f"no rule names {repository}, and no push to it ever came; {hint}")
    gates.pause(tx, repository, source)


def rollback_channel(
    tx: Tx,
    rules: Sequence[Rule],
    app: str,
    channel: str,
    to: str | None,
    *,
    source: str,
    by: str | None = None,
    tag: str | None = None,
) -> RecordedDelivery:
    """Move a channel back, and hold it; `source` is `page`, `api` or `command`, and `by` who asked.

    `tag` is the one that the person was shown, None if none was. Raises ChannelNotMoved.
    """
    move = rollback(tx, rules, app, channel, to)
    _check_tag(move, tag, "roll it back")
    has = read_channel_state(tx, app, channel).tag or "nothing"
    done = f"Rolled {app}/{channel} back from {has} to {move.image.tag}."
    return _move(tx, rules, move, action=ManualAction.ROLLBACK, source=source, by=by, done=done)


def rollback(tx: Tx, rules: Sequence[Rule], app: str, channel: str, to: str | None) -> Approvable:
    """Return the previous image of a channel, or the image of the version `to`.

    Of its previous images it is the last one that passed a trial, if one did; then the tag must
    still have the digest that passed. A named version is moved to anyway.
    The channel's current image may also be named: this cancels queued moves and reverts a change
    made outside the receiver. Raises ChannelNotMoved.
    """
    state = _known_channel(tx, rules, app, channel)
    if to is not None:
        return Approvable(app, channel, image_named(tx, rules, app, channel, to), None)
    has = ImageReference(repository=state.repository, tag=state.tag)
    found = before(tx, app, channel, has) if state.tag else None
    if found is None:
        raise ChannelNotMoved(
            f"{app}/{channel} held nothing before {state.tag or 'now'}; name a version with --to"
        )
    return Approvable(app, channel, found.image, found.digest)


def _check_tag(move: Approvable, tag: str | None, then: str) -> None:
    """Raise ChannelNotMoved if the channel would get another tag than the person was shown."""
    if tag is not None and tag != move.image.tag:
        raise ChannelNotMoved(
            f"{move.app}/{move.channel} would get {move.image.tag} now, not {tag}: look at it "
            f"again, then {then}"
        )


def promote(
    tx: Tx,
    rules: Sequence[Rule],
    app: str,
    channel: str,
    *,
    to: str | None,
    from_channel: str | None,
    source: str,
    by: str | None = None,
    tag: str | None = None,
    digest: str | None = None,
) -> RecordedDelivery:
    """Move a channel to the image of a version or of another channel, and hold it.

    Without either, it takes the image of the channel that its `from` names. `source` is `page`,
    `api` or `command`, and `by` who asked; `tag` and `digest` are those that the person was shown,
    None if none was. Raises ChannelNotMoved.
    """
    move = promotion(tx, rules, app, channel, to=to, from_channel=from_channel)
    _check_tag(move, tag, "promote it")
    if digest is not None and move.digest not in {None, digest}:
        raise ChannelNotMoved(
            f"{app}/{channel} would get {move.digest} now, which {move.image.tag} has since it was "
            f"overwritten, not {digest}: look at it again, then promote it"
        )
    done = f"Promoted {app}/{channel} to {move.image.tag}."
    move = replace(move, digest=move.digest or digest)
    return _move(tx, rules, move, action=ManualAction.PROMOTE, source=source, by=by, done=done)


def promotion(
    tx: Tx,
    rules: Sequence[Rule],
    app: str,
    channel: str,
    *,
    to: str | None,
    from_channel: str | None,
) -> Approvable:
    """Return the image that a promotion gives a channel, with its digest if the ledger knows it.

    Raises ChannelNotMoved.
    """
    _known_channel(tx, rules, app, channel)
    options = _options(rules, app, channel)
    if to is None and from_channel is None:
        from_channel = options.source
    if (to is None) == (from_channel is None):
        raise ChannelNotMoved(
            "name either a version (to) or another channel (from) to take the image of"
        )
    if from_channel is None:
        image = image_named(tx, rules, app, channel, to or "")
    else:
        other = _known_channel(tx, rules, app, from_channel)
        if not other.tag:
            raise ChannelNotMoved(
                f"{app}/{from_channel} was never moved, so it has no image to take"
            )
        image = ImageReference(repository=other.repository, tag=other.tag)
    taken = read_target(tx, app, from_channel or to or "")
    own = taken is not None and taken.image == image
    digest = taken.digest if taken is not None and own else digest_of(tx, app, image)
    digest = digest or _waiting(tx, app, channel, image.tag).get(image)
    if Need.TRIAL in options.needs and not has_passed(tx, app, image, digest):
        raise ChannelNotMoved(
            f"{app}/{channel} takes only what passed a trial, and {image.tag} did not: "
            f"{_to_try(tx, app, image)} first"
        )
    return Approvable(app, channel, image, digest)


def release(tx: Tx, rules: Sequence[Rule], app: str, channel: str) -> str:
    """Let pushes move a channel again; return the message to show. Raises ChannelNotMoved."""
    state = _known_channel(tx, rules, app, channel)
    if not release_channel(tx, app, channel):
        raise ChannelNotMoved(f"{app}/{channel} is not held")
    return f"Released {app}/{channel}: the next push above {state.tag or 'what it has'} moves it."


def log_moved(
    action: ManualAction, app: str, channel: str, recorded: RecordedDelivery, source: str
) -> None:
    """Log and count a rollback or promotion that is in the ledger."""
    metrics.count_delivery(COMMAND, recorded.ruling.verdict, recorded.ruling.reason)
    facts = {"app": app, "channel": channel, "delivery": recorded.delivery}
    log_operation(DONE[action], source=source, **facts)


def digest_of(tx: Tx, app: str, image: ImageReference) -> str | None:
    """Return the digest of the version with this image, None if the ledger does not know it."""
    version = version_with(tx, app, image)
    found = None if version is None else read_target(tx, app, version)
    return None if found is None else found.digest


def _options(rules: Iterable[Rule], app: str, channel: str) -> Channel:
    """Return the channel with its options: they are the same in every rule that moves it."""
    own = (rule for rule in rules if rule.app == app and channel in rule.channels)
    return next((rule.channel(channel) for rule in own), Channel(app, channel))


def _known_channel(tx: Tx, rules: Iterable[Rule], app: str, channel: str) -> ChannelState:
    """Return the channel's image; raises ChannelNotMoved if no rule or move ever named it."""
    known = set(channel_images(tx, app))
    known.update(name for rule in rules if rule.app == app for name in rule.channels)
    if channel not in known:
        raise ChannelNotMoved(
            f"this receiver moves no version {channel} of the app {app}; it moves: "
            f"{', '.join(sorted(known)) or 'none'}. To have it moved, write "
            f'channels = ["{channel}"] in a rule of that app, then run `receiver reload`'
        )
    return read_channel_state(tx, app, channel)


def image_named(tx: Tx, rules: Sequence[Rule], app: str, channel: str, name: str) -> ImageReference:
    """Return the image of a version, or of a tag that waits for the channel or was reported.

    `group/project:tag` names exactly that image. Any other name must be of one image only among
    those that a rule moves the channel to. Raises ChannelNotMoved.
    """
    if ":" in name:
        return _exact_image(tx, app, channel, name)
    version = read_target(tx, app, name)
    images = list(_waiting(tx, app, channel, name)) or reported(tx, app, channel, name)
    if version is not None:
        images = list(dict.fromkeys([version.image, *images]))
    able = [one for one in images if rules_moving(rules, app, channel, one.repository)]
    found = able or images
    if len(found) == 1:
        return found[0]
    if found:
        exact = " or ".join(f"--to {one.repository}:{one.tag}" for one in found)
        raise ChannelNotMoved(f"{name} names more than one image: write {exact}")
    raise _unknown(tx, app, name)


def _exact_image(tx: Tx, app: str, channel: str, name: str) -> ImageReference:
    try:
        image = parse_image_reference(name)
    except BadImageReference as error:
        raise ChannelNotMoved(str(error)) from None
    seen = {*_waiting(tx, app, channel, image.tag), *reported(tx, app, channel, image.tag)}
    if image not in seen and version_with(tx, app, image) is None:
        raise _unknown(tx, app, name)
    return image


def _unknown(tx: Tx, app: str, name: str) -> ChannelNotMoved:
    known = last_names(tx, app, MAX_NAMED)
    return ChannelNotMoved(
        f"the ledger knows no version {name} of the app {app}; the last it knows: "
        f"{', '.join(known) or 'none'}"
    )


def _to_try(tx: Tx, app: str, image: ImageReference) -> str:
    """Return how to have an image tried: a trial is of a version, whose name may not be the tag."""
    version = version_with(tx, app, image)
    if version is None:
        return f"no version has it, so push or replay it, then run `receiver trial {app} VERSION`"
    return f"run `receiver trial {app} {version}`"


def _waiting(tx: Tx, app: str, channel: str, tag: str) -> dict[ImageReference, str | None]:
    """Return the digests of the images of this tag that wait to move the channel."""
    return {
        ImageReference(repository=one.repository, tag=one.tag): one.digest
        for one in waiting_moves(tx, app, channel)
        if one.tag == tag
    }


def _move(
    tx: Tx,
    rules: Sequence[Rule],
    move: Approvable,
    *,
    action: ManualAction,
    source: str,
    by: str | None,
    done: str,
) -> RecordedDelivery:
    """Record the move as a delivery, hold the channel from now on, and let the worker do it."""
    app, channel, image, digest = move.app, move.channel, move.image, move.digest
    state = read_channel_state(tx, app, channel)
    if (state.repository, state.tag) == (image.repository, image.tag):
        done = f"Held {app}/{channel} at {image.tag}."
    above = lifted_above(state, image.tag)
    lifts = "" if above is None else f", or a push above {above}"
    sentence = f"{done} Nothing moves it until `receiver release {app} {channel}`{lifts}."
    match = Match(rule_to_move(tx, rules, app, channel, image), app, channel, Mode.CHANNEL)
    later = newest_known(tx, app, channel)  # no push so far is later than this time
    delivery = NewDelivery(
        source=COMMAND,
        repository=image.repository,
        tag=image.tag,
        pushed_at=later,
        digest=digest,
        requested_by=by,
    )
    ruling = Decision(Verdict.ACCEPTED, sentence=sentence, matches=(match,))
    recorded = record(tx, delivery, ruling, push_time=later)
    hold_channel(tx, app, channel, Hold(tx.now, image.tag, action.value, above))
    (registration,) = recorded.registrations
    if action is ManualAction.ROLLBACK:
        forget_digest(tx, registration)  # it may have waited for another digest
    set_digest(tx, registration, digest, overwritten=False)
    order(tx, app, channel, registration=registration, action=action, source=source)
    wake_channel(tx, app, channel)  # it may wait for an approval, which this is
    return recorded


def rule_to_move(
    tx: Tx, rules: Sequence[Rule], app: str, channel: str, image: ImageReference
) -> str:
    """Return the rule that moves the channel: the rule of its last move if that still applies.

    It is that rule also if no rule moves the channel any more: the move parks and says so. Raises
    ChannelNotMoved if no rule ever moved it to images of the repository.
    """
    state = read_channel_state(tx, app, channel)
    able = rules_moving(rules, app, channel, image.repository)
    rule = rule_to_repeat(tx, able, state.registration)
    if rule is not None:
        return rule.name
    last = rule_of(tx, state.registration)
    if last is None or state.repository != image.repository:
        raise ChannelNotMoved(
            f"no rule moves {app}/{channel} to images of {image.repository}: write "
            f'channels = ["{channel}"] in a rule of that repository'
        )
    return last

"""What a person steers by hand: rolling a channel back, and holding a repository back."""

from collections.abc import Iterable
from difflib import get_close_matches

from receiver import metrics
from receiver.errors import ReceiverError
from receiver.ledger import pauses
from receiver.ledger.recording import COMMAND, NewDelivery, Recorded, record
from receiver.ledger.targets import Target, rule_of, target, targets_of
from receiver.ledger.transactions import Tx
from receiver.reasons import Verdict
from receiver.rules import Match, Mode, Rule, Ruling
from receiver.upkeep.operations import log_operation

MOST_NAMED = 10


class CannotRollBack(ReceiverError):
    """There is nothing to roll back to, or no rule that moves the channel."""


class CannotPause(ReceiverError):
    """Nobody knows the repository: neither a rule nor the ledger names it."""


def pause_known(tx: Tx, repository: str, rules: Iterable[Rule]) -> None:
    """Hold back the registrations of a repository that is known, or of ALL. Raises CannotPause."""
    named = {rule.repository for rule in rules}
    if repository not in {pauses.ALL, *named} and not pauses.is_known(tx, repository):
        known = sorted(named.union(pauses.repositories_held(tx)))
        close = get_close_matches(repository, known, n=1)
        names = f"{', '.join(known[:MOST_NAMED]) or 'none'}{', …' if known[MOST_NAMED:] else ''}"
        hint = f"did you mean {close[0]}?" if close else f"known are: {names}"
        raise CannotPause(f"no rule names {repository}, and no push to it ever came; {hint}")
    pauses.pause(tx, repository)


def roll_back(tx: Tx, app: str, channel: str, to: str | None) -> Recorded:
    """Put a moving target back to what it held before, or to the image of another version.

    From now on only pushes after this moment move it. What it holds already may be named too: so
    what is queued is undone, and what another hand put there is put right; whether there is
    anything to do only Edgegap knows, and where not, it ends `unchanged`. Raises CannotRollBack.
    """
    moving = target(tx, app, channel)
    if moving is None or moving.mode == Mode.CREATE:
        known = [one.version for one in targets_of(tx, app) if one.mode != Mode.CREATE]
        raise CannotRollBack(
            f"this receiver moves no version {channel} of the app {app}; it moves: "
            f"{', '.join(known) or 'none'}"
        )
    repository, tag = _image_before(tx, moving, to)
    rule = rule_of(tx, moving.registration or "")
    if rule is None:
        raise CannotRollBack(f"the ledger no longer knows the rule that moved {app}/{channel}")
    match = Match(rule, app, channel, Mode(moving.mode))
    sentence = f"Rolled {app}/{channel} back from {moving.tag} to {tag}, by hand."
    if (repository, tag) == (moving.repository, moving.tag):
        sentence = f"Held {app}/{channel} at {tag}, by hand: only later pushes move it."
    # Later than what it holds, whatever that push's time was: else it could not be freed of it.
    later = max(tx.now, moving.push_time + 1)
    delivery = NewDelivery(source=COMMAND, repository=repository, tag=tag, pushed_at=later)
    ruling = Ruling(Verdict.ACCEPTED, sentence=sentence, matches=(match,))
    return record(tx, delivery, ruling, push_time=later)


def tell_rolled_back(app: str, channel: str, recorded: Recorded, source: str) -> None:
    """Log and count a rollback that is in the ledger; `source` is `page`, `api` or `command`."""
    metrics.count_delivery(COMMAND, recorded.ruling.verdict, recorded.ruling.reason)
    facts = {"app": app, "channel": channel, "delivery": recorded.delivery}
    log_operation("rolled_back", source=source, **facts)


def _image_before(tx: Tx, moving: Target, to: str | None) -> tuple[str, str]:
    if to is not None:
        source = target(tx, moving.app, to)
        if source is None:
            known = [one.version for one in targets_of(tx, moving.app) if one.mode == Mode.CREATE]
            raise CannotRollBack(
                f"the ledger knows no version {to} of the app {moving.app}; the last it knows: "
                f"{', '.join(known[-MOST_NAMED:]) or 'none'}"
            )
        return source.repository, source.tag
    if moving.before is None:
        raise CannotRollBack(
            f"{moving.app}/{moving.version} held nothing before {moving.tag}; name a version "
            "with --to"
        )
    return moving.before.repository, moving.before.tag

"""A trial by hand: a person has a version tried, wherever it came from."""

from collections.abc import Sequence

from receiver import metrics
from receiver.audit import log_operation
from receiver.errors import ReceiverError
from receiver.images import ImageReference
from receiver.ledger.deliveries import COMMAND, NewDelivery, RecordedDelivery, learn, record
from receiver.ledger.targets import rule_of, target
from receiver.ledger.transaction import Tx
from receiver.ledger.trials import is_under_way, plan_run
from receiver.reasons import Verdict
from receiver.rules.rule import Decision, Match, Mode, Rule


class NotTried(ReceiverError):
    """The version cannot be tried, or not so now; the message says why."""


def log_requested(app: str, version: str, recorded: RecordedDelivery, source: str) -> None:
    """Log and count a trial by hand that is in the ledger."""
    metrics.count_delivery(COMMAND, recorded.ruling.verdict, recorded.ruling.reason)
    facts = {"app": app, "version": version, "delivery": recorded.delivery}
    log_operation("trial_requested", source=source, **facts)


def try_version(
    tx: Tx, rules: Sequence[Rule], app: str, version: str, *, near: str | None, keep: int | None
) -> RecordedDelivery:
    """Record that a person wants a version tried; the worker does it.

    `near` is a valid location, None for that of the rule. The deployment runs on for `keep` (ms)
    after the verdict; neither is possible for a trial that is under way. Raises NotTried.
    """
    found = target(tx, app, version)
    if found is None or found.mode != Mode.CREATE:
        raise NotTried(
            f"the ledger knows no version {version} of the app {app}: `receiver versions {app}` "
            "lists them; a channel is tried under the name of its version"
        )
    able = [rule for rule in rules if rule.app == app and rule.repository == found.repository]
    last = rule_of(tx, found.registration or "")
    rule = next((one for one in able if one.name == last), able[0] if able else None)
    if rule is None:
        raise NotTried(f"no rule brings {found.repository} to the app {app}: write one and reload")
    if near is None and rule.trial is None:
        raise NotTried(
            f"the rule {rule.name} has no [rule.trial]: say where to deploy, such as "
            "--at 45.5,-73.6, or add the table and reload"
        )
    image = ImageReference(found.repository, found.tag)
    if (near is not None or keep is not None) and is_under_way(tx, app, version, image):
        raise NotTried(
            f"{app}/{version} is being tried already, elsewhere or without what was requested: "
            "wait until that trial is over (`receiver show` shows it), then request it again"
        )
    sentence = f"A trial of {app}/{version} was requested."
    match = Match(rule.name, app, version, Mode.TRIAL)
    delivery = NewDelivery(
        source=COMMAND, repository=found.repository, tag=found.tag, digest=found.digest
    )
    recorded = record(
        tx,
        delivery,
        Decision(Verdict.ACCEPTED, sentence=sentence, matches=(match,)),
        push_time=found.push_time,
    )
    (registration,) = recorded.registrations
    learn(tx, registration, found.digest, overwritten=False)
    if near is not None or keep is not None:
        plan_run(tx, registration, near=near or "", keep=keep)
    return recorded

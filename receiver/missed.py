"""Pushes that no webhook told of: found in Docker Hub's lists, held against the ledger, recorded.

A tag that is known never ends the search: the lost push may lie behind it.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from receiver import metrics
from receiver.dockerhub.hub import Hub, Waiting
from receiver.dockerhub.push import Push
from receiver.dockerhub.tag_record import HubTag
from receiver.intake import CATCH_UP, count_delivery, tell_parked_at_once
from receiver.ledger.cursors import SILENT_AFTER, count_unheard, is_known
from receiver.ledger.notices import tell
from receiver.ledger.recording import NewDelivery, Recorded, record
from receiver.ledger.transactions import Tx
from receiver.logs import get_logger
from receiver.notices import Happening, Notice
from receiver.rules import Login, Rule, rule_on

log = get_logger()


@dataclass(frozen=True, slots=True)
class Missed:
    """One tag that Docker Hub has, as a push that may have been missed."""

    push: Push
    digest: str | None


def login_for(rules: Sequence[Rule], repository: str) -> Login | None:
    """Return the login to list a repository with: its first rule's that has one."""
    own = (rule.login for rule in rules if rule.repository == repository)
    return next((login for login in own if login is not None), None)


async def pushed_since(
    hub: Hub,
    repository: str,
    login: Login | None,
    since: int,
    waiting: Waiting | None = None,
) -> AsyncIterator[tuple[list[Missed], int]]:
    """Yield the tags pushed since then, a page at a time with the whole number of tags.

    Stops at a page that was wholly updated before, if the pages do come newest first. A tag
    without a time is left: it may be of the past. Raises Unavailable.
    """
    newest_first = True
    before: int | None = None
    async for page in hub.pages(repository, login, waiting):
        times = [tag.updated_at for tag in page.tags if tag.updated_at is not None]
        for moment in times:
            newest_first = newest_first and (before is None or moment <= before)
            before = moment
        fresh = [tag for tag in page.tags if tag.pushed_at is not None and tag.pushed_at >= since]
        yield [_missed(repository, tag) for tag in fresh], page.total
        if newest_first and times and times[0] < since:
            return


def not_known(tx: Tx, missed: Sequence[Missed]) -> list[Missed]:
    """Return those that the ledger does not know, the oldest push first."""
    return [one for one in _by_age(missed) if not _is_known(tx, one)]


@dataclass(frozen=True, slots=True)
class Found:
    """What was recorded of missed pushes. `silent`: what to do, by repository without webhooks."""

    recorded: tuple[Recorded, ...] = ()
    silent: Mapping[str, str] = field(default_factory=dict)


def take_all(
    tx: Tx,
    rules: Sequence[Rule],
    missed: Sequence[Missed],
    notices: Sequence[Notice],
    *,
    up_since: int | None,
) -> Found:
    """Record the pushes that no webhook reported; those that the ledger knows are left out.

    `up_since` is since when a receiver runs (epoch ms), None if none does: what was pushed while
    none ran is no fault of the webhook.
    """
    recorded: list[Recorded] = []
    unheard: dict[str, list[Missed]] = {}
    for one in _by_age(missed):
        if _is_known(tx, one):  # asked after each: a tag may stand on two pages
            continue
        push = one.push
        delivery = NewDelivery(
            source=CATCH_UP,
            repository=push.repository,
            tag=push.tag,
            media_type=push.media_type,
            pushed_at=push.pushed_at,
            digest=one.digest,
        )
        ruling = rule_on(push, rules)
        tell_parked_at_once(tx, notices, ruling)
        taken_by = {match.rule for match in ruling.matches}
        listening = [
            notice
            for notice in notices
            if any(notice.wants(Happening.CAUGHT_UP, rule) for rule in taken_by)
        ]
        text = f"{push.repository}:{push.tag} was pushed, and no webhook told of it."
        tell(tx, listening, Happening.CAUGHT_UP, text)
        recorded.append(record(tx, delivery, ruling))
        if up_since is not None and (push.pushed_at or 0) >= up_since:
            unheard.setdefault(push.repository, []).append(one)
    silent = {
        repository: sentence
        for repository, ones in unheard.items()
        if (sentence := _webhook_is_silent(tx, rules, repository, ones, notices)) is not None
    }
    return Found(tuple(recorded), silent)


def _webhook_is_silent(
    tx: Tx,
    rules: Sequence[Rule],
    repository: str,
    missed: Sequence[Missed],
    notices: Sequence[Notice],
) -> str | None:
    """Return what to do if these are the pushes that show that no webhook arrives; else None.

    It is also sent as a notification. All tags of one image are one push.
    """
    pushes = {one.digest or one.push.tag for one in missed}
    if not count_unheard(tx, repository, len(pushes)):
        return None
    sentence = (
        f"{repository}: catch-up found the last {SILENT_AFTER} pushes or more; no webhook reported "
        "them. Check the repository's Webhooks tab on Docker Hub: its history shows failures, and "
        f"`receiver link {repository}` prints the URL that belongs there."
    )
    own = [rule.name for rule in rules if rule.repository == repository]
    happening = Happening.WEBHOOK_SILENT
    listening = [one for one in notices if any(one.wants(happening, rule) for rule in own)]
    tell(tx, listening, happening, sentence)
    return sentence


def tell_caught_up(found: Found) -> None:
    """Log and count each delivery that was caught up, and log that no webhook arrives."""
    for one in found.recorded:
        count_delivery(CATCH_UP, one.ruling)
        log.info(
            "delivery_caught_up",
            delivery=one.delivery,
            verdict=one.ruling.verdict,
            reason=one.ruling.reason,
            registrations=list(one.registrations),
        )
    metrics.catch_up_found.inc(len(found.recorded))
    for repository, sentence in found.silent.items():
        log.warning("webhook_silent", repository=repository, sentence=sentence)


def _missed(repository: str, tag: HubTag) -> Missed:
    push = Push(repository, tag.tag, media_type=tag.media_type, pushed_at=tag.pushed_at)
    return Missed(push, tag.digest)


def _by_age(missed: Sequence[Missed]) -> list[Missed]:
    return sorted(missed, key=lambda one: one.push.pushed_at or 0)


def _is_known(tx: Tx, one: Missed) -> bool:
    push = one.push
    return is_known(
        tx,
        repository=push.repository,
        tag=push.tag or "",
        digest=one.digest,
        pushed_at=push.pushed_at,
    )

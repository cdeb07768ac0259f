"""What the move of a channel would change, and its approval: only the first one counts."""

import asyncio
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated

import msgspec
from msgspec.structs import replace

from receiver.config.settings import LiveSettings, Settings
from receiver.edgegap.client import EdgegapClient
from receiver.edgegap.in_time import LATE, in_time, running_of
from receiver.edgegap.plans import Rejected, plan_update
from receiver.edgegap.responses import Answer
from receiver.edgegap.sent_settings import Difference, changes
from receiver.ledger.approvals import approval_of, approve, waiting_for_approval
from receiver.ledger.channels import channel_images
from receiver.ledger.claims import read_claimed
from receiver.ledger.ledger import Ledger
from receiver.ledger.queries import held_back_of
from receiver.ledger.sent_settings import sent_to
from receiver.ledger.targets import rule_of
from receiver.ledger.transaction import Tx
from receiver.ledger.trials import has_passed
from receiver.ledger.views import App, Approval, Digest, HeldBack, Repository, Tag, described
from receiver.logs import log_operation
from receiver.rules.channel_order import is_ordered, unmet, why_not
from receiver.rules.rule import TargetKey
from receiver.signing import Approvable
from receiver.upkeep.channels import digest_of, promotion, rollback, rule_to_move
from receiver.upkeep.operations import Requester

FRESH_SECONDS = 30.0  # of what Edgegap returned for the page of an approval
NOT_READ = "Edgegap did not return the channel, so it is not known which settings change"
NOT_IN_TIME = (
    f"{LATE}, so it is not known which settings change. Look again, or move the channel all the "
    "same: it is moved once Edgegap answers"
)
SHOWN_ANYWAY = frozenset({"image", "docker_image", "docker_tag"})


class ProposedMove(msgspec.Struct, frozen=True):
    """A channel's move to an image, before it is made."""

    app: App
    channel: Annotated[str, described("The name of the channel.", "prod")]
    from_repository: Annotated[Repository | None, described("Null before its first move.")]
    from_tag: Annotated[Tag | None, described("Null before the channel's first move.")]
    repository: Repository
    tag: Tag
    digest: Annotated[Digest | None, described("As the ledger knows it; null if it does not.")]
    passed: Annotated[
        bool | None, described("The verdict of the image's last trial; null if it had none.")
    ]
    differences: Annotated[
        tuple[Difference, ...],
        described("Settings that the move changes, as far as is known; never a variable's value."),
    ] = ()
    notes: Annotated[
        tuple[str, ...],
        described("Settings that stay although the rule has others, and what is not known."),
    ] = ()
    running: Annotated[
        int | None,
        described("Running deployments of the channel at Edgegap; null if that is not known."),
    ] = None


def proposed_move(tx: Tx, move: Approvable) -> ProposedMove:
    """Return what a move would change, as far as the ledger knows."""
    there = channel_images(tx, move.app).get(move.channel)
    return ProposedMove(
        app=move.app,
        channel=move.channel,
        from_repository=None if there is None else there.repository,
        from_tag=None if there is None else there.tag,
        repository=move.image.repository,
        tag=move.image.tag,
        digest=move.digest,
        passed=has_passed(tx, move.app, move.image, move.digest),
    )


def facts_of(move: ProposedMove) -> list[tuple[str, str]]:
    """Return what a move changes in words, each with its name: for a question before it is made."""
    has = f"{move.from_repository}:{move.from_tag}" if move.from_tag else "nothing yet"
    trial = {True: "passed", False: "failed", None: "it was not tried"}[move.passed]
    running = f"{move.running} deployment{'' if move.running == 1 else 's'} of the channel"
    return [
        ("has", has),
        ("gets", f"{move.repository}:{move.tag}"),
        ("digest", move.digest or "not known"),
        ("trial", trial),
        ("running", "not known" if move.running is None else running),
        *(("changes", f"{one.name}: {one.a} → {one.b}") for one in move.differences),
        *(("note", note) for note in move.notes),
    ]


class ApprovalRequest(msgspec.Struct, frozen=True):
    """What a person is asked to approve.

    `waits`: the move still waits for this approval. `stays` says why it is not made even so, empty
    if it is. `held_back` is what holds it back now.
    """

    move: ProposedMove
    approval: Approval | None
    waits: bool = False
    stays: str = ""
    held_back: tuple[HeldBack, ...] = ()


class Look(msgspec.Struct, frozen=True):
    """A channel at Edgegap: its response, None if it came too late, and its running deployments."""

    answer: Answer | None
    running: int | None


class MoveReader:
    """Reads what moves would change: from the ledger, and from the channel at Edgegap."""

    def __init__(self, ledger: Ledger, current: LiveSettings, client: EdgegapClient) -> None:
        self._ledger = ledger
        self._current = current
        self._client = client
        self._looks: dict[TargetKey, tuple[float, asyncio.Task[Look]]] = {}

    async def promotion(
        self, channel: TargetKey, *, to: str | None, from_channel: str | None
    ) -> ProposedMove:
        """Return what a promotion would change; raises ChannelNotMoved if it cannot be done."""
        rules = self._current.settings.rules
        return await self._proposed(
            lambda tx: promotion(tx, rules, *channel, to=to, from_channel=from_channel)
        )

    async def rollback(self, channel: TargetKey, to: str | None) -> ProposedMove:
        """Return what a rollback would change; raises ChannelNotMoved if it cannot be done."""
        rules = self._current.settings.rules

        def find(tx: Tx) -> Approvable:
            move = rollback(tx, rules, *channel, to)
            return replace(move, digest=move.digest or digest_of(tx, move.app, move.image))

        return await self._proposed(find)

    async def _proposed(self, find: Callable[[Tx], Approvable]) -> ProposedMove:
        rules = self._current.settings.rules

        def read(tx: Tx) -> tuple[Approvable, str, ProposedMove]:
            move = find(tx)
            rule = rule_to_move(tx, rules, move.app, move.channel, move.image)
            return move, rule, proposed_move(tx, move)

        move, rule, proposed = await self._ledger.read(read)
        return await self._with_changes(proposed, move, rule, await self._look(move))

    async def asked(self, move: Approvable) -> ApprovalRequest:
        """Return what approving this move would do."""
        settings = self._current.settings

        def read(tx: Tx) -> tuple[ApprovalRequest, str | None]:
            asked = ApprovalRequest(proposed_move(tx, move), approval_of(tx, move))
            waits = waiting_for_approval(tx, move)
            if waits is None:
                return asked, None
            stays, held = blocked_reason(tx, settings, waits), held_back_of(tx, waits)
            asked = replace(asked, waits=not stays, stays=stays, held_back=held)
            return asked, rule_of(tx, waits)

        asked, rule = await self._ledger.read(read)
        if rule is None or asked.approval is not None:
            return asked
        look = await self._recent_look(move)
        return replace(asked, move=await self._with_changes(asked.move, move, rule, look))

    async def _look(self, move: Approvable) -> Look:
        app, channel = move.app, move.channel
        answer, running = await asyncio.gather(
            in_time(self._client.get_version(app, channel)),
            running_of(self._client, app, [channel]),
        )
        return Look(answer, running[channel])

    async def _recent_look(self, move: Approvable) -> Look:
        """Return the channel at Edgegap, asked at most once in some seconds.

        The page of an approval is open to chat programs, each of which reads it for a preview. What
        was not returned is asked for again.
        """
        place, now = TargetKey(move.app, move.channel), time.monotonic()
        known = self._looks.get(place)
        if known is None or now - known[0] >= FRESH_SECONDS or _has_failed(known[1]):
            known = now, asyncio.create_task(self._look(move))
            self._looks[place] = known
        return await asyncio.shield(known[1])

    async def _with_changes(
        self, proposed: ProposedMove, move: Approvable, rule: str, look: Look
    ) -> ProposedMove:
        """Add what the move changes: by the plan of the attempt that makes it."""
        settings, there = self._current.settings, look.answer
        by, proposed = settings.rule_named(rule), replace(proposed, running=look.running)
        if there is None:
            return replace(proposed, notes=(NOT_IN_TIME,))
        if by is None or there.says(HTTPStatus.NOT_FOUND):
            return proposed  # it will be parked, or the channel is created
        if not there.ok or there.body is None:
            return replace(proposed, notes=(NOT_READ,))
        wanted = by.wanted(move.app, move.channel, move.image, settings.edgegap_token)
        plan = plan_update(wanted, there.body, resend=True)
        if isinstance(plan, Rejected):
            why = f"the move would be parked: {plan.sentence}"
            return replace(proposed, notes=(why, *plan.notes))
        sent = await self._ledger.read(lambda tx: sent_to(tx, move.app, move.channel))
        known, keys = None if sent is None else sent.settings, settings.secret_keys
        found = changes(plan.body, there.body, keys, known=known, profiles=by.pull_profiles)
        changed = tuple(one for one in found if one.name not in SHOWN_ANYWAY)
        return replace(proposed, differences=changed, notes=plan.notes)


def _has_failed(look: asyncio.Task[Look]) -> bool:
    if not look.done():
        return False
    there = look.result().answer
    return there is None or not (there.ok or there.says(HTTPStatus.NOT_FOUND))


class Approved(msgspec.Struct, frozen=True):
    """The result: `approval` is None if nothing waits for it; `now`: it was given just now."""

    approval: Approval | None
    now: bool


def blocked_reason(tx: Tx, settings: Settings, registration: str) -> str:
    """Return why a channel is not moved by what waits for an approval, empty if it may be."""
    claimed = read_claimed(tx, registration)
    rule = settings.rule_named(claimed.rule)
    if rule is None:
        return ""
    channel, state = rule.channel(claimed.version), claimed.channel_state
    ordered = is_ordered(claimed.pushed, state)
    lacks = unmet(channel, claimed.image, claimed.evidence, ordered=ordered)
    never = "" if lacks is None or lacks.need is not None else lacks.sentence
    return why_not(channel, claimed.pushed, state) or never


async def approve_move(
    ledger: Ledger, settings: Settings, move: Approvable, asker: Requester, address: str
) -> Approved:
    """Approve a move that waits for it; the first approval counts."""

    def write(tx: Tx) -> Approved:
        waits = waiting_for_approval(tx, move, to_approve=True)
        known = approval_of(tx, move)
        if waits is None or known is not None or blocked_reason(tx, settings, waits):
            return Approved(known, now=False)
        now = approve(tx, move, approver=str(asker), address=address)
        return Approved(approval_of(tx, move), now)

    done = await ledger.write(write)
    if done.now:
        facts = {"app": move.app, "channel": move.channel, "tag": move.image.tag}
        log_operation(
            "approved", source=asker.source, by=asker.name or None, address=address, **facts
        )
    return done

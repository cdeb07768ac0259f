"""What the move of a channel would change, and its approval: once, however many approve it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec

from receiver.edgegap.client import EdgegapClient
from receiver.edgegap.listing import running_in
from receiver.edgegap.version_diff import Difference, Seen, differences
from receiver.ledger.approvals import approval_of, approve, waiting_for_approval
from receiver.ledger.channels import channel_images
from receiver.ledger.ledger import Ledger
from receiver.ledger.sent_settings import sent_to
from receiver.ledger.targets import version_with
from receiver.ledger.transaction import Tx
from receiver.ledger.trials import has_passed
from receiver.ledger.views import App, Approval, Digest, Repository, Tag, described
from receiver.logs import log_operation
from receiver.rules.rule import Rule
from receiver.signing import Approvable
from receiver.upkeep.channels import promotion
from receiver.upkeep.operations import Asker

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
        described("Settings that differ from what the channel was sent last, as far as is known."),
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
        differences=_differences(tx, move),
    )


def _differences(tx: Tx, move: Approvable) -> tuple[Difference, ...]:
    """Compare what the channel and the image's own version were sent, if the ledger has both."""
    version = version_with(tx, move.app, move.image)
    before = sent_to(tx, move.app, move.channel)
    after = None if version is None else sent_to(tx, move.app, version)
    if before is None or after is None:
        return ()
    found, _ = differences(Seen(before.settings, sent=True), Seen(after.settings, sent=True))
    return tuple(one for one in found if one.name not in SHOWN_ANYWAY)


async def propose(
    ledger: Ledger,
    client: EdgegapClient | None,
    rules: Sequence[Rule],
    channel: tuple[str, str],
    *,
    to: str | None,
    from_channel: str | None,
) -> ProposedMove:
    """Return what a promotion would change; raises ChannelNotMoved if it cannot be done.

    Without a client the number of deployments is not known.
    """

    def read(tx: Tx) -> ProposedMove:
        found = promotion(tx, rules, *channel, to=to, from_channel=from_channel)
        return proposed_move(tx, found)

    proposed = await ledger.read(read)
    if client is None:
        return proposed
    running = running_in(await client.deployments(*channel))
    return msgspec.structs.replace(proposed, running=running)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person is asked to approve. `waits`: the move still waits for this approval."""

    move: ProposedMove
    approval: Approval | None
    waits: bool


@dataclass(frozen=True, slots=True)
class Approved:
    """The result: `approval` is None if nothing waits for it; `now`: it was given just now."""

    approval: Approval | None
    now: bool


def what_is_asked(tx: Tx, move: Approvable) -> Asked:
    """Return what approving this move would do."""
    return Asked(
        proposed_move(tx, move),
        approval_of(tx, move),
        waiting_for_approval(tx, move) is not None,
    )


async def approve_move(
    ledger: Ledger, wake: Callable[[], None], move: Approvable, asker: Asker, address: str
) -> Approved:
    """Approve a move that waits for it; the first approval counts."""

    def write(tx: Tx) -> Approved:
        waits = waiting_for_approval(tx, move, to_approve=True)
        known = approval_of(tx, move)
        if waits is None or known is not None:
            return Approved(known, now=False)
        now = approve(tx, move, approver=str(asker), address=address)
        return Approved(approval_of(tx, move), now)

    done = await ledger.write(write)
    if done.now:
        facts = {"app": move.app, "channel": move.channel, "tag": move.image.tag}
        log_operation(
            "approved", source=asker.source, by=asker.name or None, address=address, **facts
        )
        wake()
    return done

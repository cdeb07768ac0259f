"""Approving the move of a channel, by its link or on the page: once, however many do it."""

from collections.abc import Callable
from dataclasses import dataclass

from receiver.approval_link import Approvable
from receiver.audit import log_operation
from receiver.ledger.approvals import approval_of, approve, waiting_for_approval
from receiver.ledger.ledger import Ledger
from receiver.ledger.transaction import Tx
from receiver.ledger.views import Approval
from receiver.upkeep.operations import Asker
from receiver.upkeep.promotion import ProposedMove, proposed_move


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

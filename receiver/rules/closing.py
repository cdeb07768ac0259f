"""Which parked registrations a later success closes: a pure decision."""

import msgspec

from receiver.reasons import REASONS, Reason
from receiver.rules.rule import Mode


class Ended(msgspec.Struct, frozen=True):
    """A registration that is parked for a reason, or that ended well, without one.

    If it ended well, its version is at Edgegap, or its channel has moved. `push_time` in epoch ms;
    ids sort by time.
    """

    id: str
    rule: str
    app: str
    version: str
    tag: str
    mode: Mode
    push_time: int
    reason: str = ""


def is_closed_by(parked: Ended, success: Ended) -> bool:
    """Return whether the parked registration is obsolete, because a later push succeeded.

    It is obsolete if it was to do the same with the same target, or if the rule created another
    version since and the reason is in the image or its tag. If the reason is in the configuration,
    at Edgegap or in the receiver, the registration stays open; so does a trial whose own push is
    only reported again.
    """
    if _age(parked) >= _age(success):
        return False
    if (parked.app, parked.version, parked.mode) == (success.app, success.version, success.mode):
        return True
    if success.mode is not Mode.CREATE:  # recorded later than its version: the push may be older
        return False
    own = (parked.app, parked.version) == (success.app, success.version)
    if own and parked.push_time // 1000 == success.push_time // 1000:
        return False
    known = parked.reason in set(Reason)  # a newer release may have added the reason
    return parked.rule == success.rule and known and REASONS[Reason(parked.reason)].in_image


def _age(one: Ended) -> tuple[int, str]:
    """Sort by push time; Docker Hub's times are whole seconds, so then by time of recording."""
    return one.push_time // 1000, one.id

"""Which parked registrations a later success closes: a pure decision."""

from dataclasses import dataclass

from receiver.reasons import REASONS, Reason


@dataclass(frozen=True, slots=True)
class Parked:
    """A parked registration. `push_time` in epoch ms; ids sort by time."""

    id: str
    rule: str
    app: str
    version: str
    tag: str
    reason: str
    push_time: int


@dataclass(frozen=True, slots=True)
class Success:
    """A registration that ended well: its version is at Edgegap, or its channel has moved."""

    id: str
    rule: str
    app: str
    version: str
    tag: str
    push_time: int
    moved_channel: bool = False


def is_closed_by(parked: Parked, success: Success) -> bool:
    """Return whether the parked registration is obsolete, because a later push succeeded.

    It is obsolete if the target is the same, or if the rule is the same and the reason is in the
    image or its tag. If the reason is in the configuration, at Edgegap or in the receiver, the
    registration stays open.
    """
    if _age(parked) >= _age(success):
        return False
    if (parked.app, parked.version) == (success.app, success.version):
        return True
    if success.moved_channel:  # recorded after its version: perhaps an older push than the parked
        return False
    return parked.rule == success.rule and _lies_in_image(parked.reason)


def _lies_in_image(reason: str) -> bool:
    known = reason in set(Reason)  # a newer release may have added the reason
    return known and REASONS[Reason(reason)].in_image


def _age(one: Parked | Success) -> tuple[int, str]:
    """Sort by push time; Docker Hub's times are whole seconds, so then by time of recording."""
    return one.push_time // 1000, one.id

"""What was parked, and whether that comes of what was done to the receiver."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from receiver.images import ImageReference
from receiver.reasons import Reason
from tests.crash.asking import asked, logged

# The design's number, and not the program's own: five crashes, and one more while it is alone.
CRASHES_THAT_PARK = 6
NOW = "SELECT repository, tag, reason, crashes FROM registrations WHERE state = 'parked'"


@dataclass(frozen=True, slots=True)
class Parkings:
    """All that were parked at any time, and those that nothing done to the receiver explains."""

    by_reason: dict[str, int]
    unexplained: tuple[str, ...]


def explained_reasons(kills: int) -> frozenset[str]:
    """The reasons that may park here: Edgegap's own misbehaviour is waited out, never parked for.

    What was worked on at six kills in a row, at the last alone, is parked: it may be the cause.
    """
    return frozenset({Reason.CRASHES_THE_WORKER.value} if kills >= CRASHES_THAT_PARK else ())


def parkings(ledger: Path, log: Path, kills: int) -> Parkings:
    """Read them from the ledger before any is replayed, and from the log, too.

    A start queues some of what is parked once more: only the log lists these.
    """
    answer = [
        (str(line["image"]), str(line["reason"]))
        for line in logged(log)
        if line["event"] == "registration_parked"
    ]
    standing = [
        (str(ImageReference(repository=repository, tag=tag)), str(reason), int(crashes))
        for repository, tag, reason, crashes in asked(ledger, NOW)
    ]
    too_soon = {
        f"{image} ({reason}, after {crashes})"
        for image, reason, crashes in standing
        if reason == Reason.CRASHES_THE_WORKER and crashes < CRASHES_THAT_PARK
    }
    found = {*answer, *((image, reason) for image, reason, _ in standing)}
    explained = explained_reasons(kills)
    return Parkings(
        by_reason=dict(Counter(reason for _, reason in found)),
        unexplained=tuple(
            sorted(
                too_soon
                | {f"{image} ({reason})" for image, reason in found if reason not in explained}
            )
        ),
    )

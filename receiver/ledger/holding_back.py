"""What holds a registration back though it is due: a pause, a closed gate, a deletion."""

from typing import Any

from receiver.ledger.deletions import deletion_under_way
from receiver.ledger.gates import BUSY, closed_gates
from receiver.ledger.pauses import ALL, paused
from receiver.ledger.transactions import Tx
from receiver.reasons import State

PAUSE = "pause"
DELETION = "deletion"
BEING_DELETED = "The version is being deleted; then it is created again."

Row = dict[str, Any]


def held_back_by(tx: Tx, registration: Row) -> list[Row]:
    """Return each thing that holds it back now, with a sentence; none once it is claimed.

    `until_at` is None for what does not end by itself at a known time.
    """
    if registration["state"] not in {State.QUEUED, State.WAITING}:
        return []
    repository = registration["repository"]
    told = [
        {"by": PAUSE, "sentence": _of_pause(name), "since_at": since, "until_at": None}
        for name, since in paused(tx).items()
        if name in {ALL, repository}
    ]
    for gate in closed_gates(tx):
        until = gate.until if gate.name == BUSY else None
        told.append(
            {
                "by": gate.name,
                "sentence": gate.sentence,
                "since_at": gate.since,
                "until_at": until,
            }
        )
    locked = deletion_under_way(tx, registration["app"], registration["version"])
    if locked is not None:
        since, until = locked
        told.append(
            {"by": DELETION, "sentence": BEING_DELETED, "since_at": since, "until_at": until}
        )
    return told


def _of_pause(name: str) -> str:
    if name == ALL:
        return "Everything is paused; `receiver resume --all` lets it go on."
    return f"{name} is paused; `receiver resume {name}` lets it go on."

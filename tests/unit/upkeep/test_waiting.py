"""What counts as the result of a push: decided from the states of its registrations."""

from typing import Any

import pytest

from receiver.ledger.views import Delivery, Registration, read_view
from receiver.upkeep.waiting import Progress, progress_of

COMMON: dict[str, Any] = {
    "id": "r1", "rule": "main", "app": "my-game", "version": "1.0.0", "mode": "create",
    "repository": "studio/game-server", "tag": "1.0.0", "digest": None, "state": "done",
    "outcome": "created", "reason": None, "sentence": "", "notes": (), "overwritten": False,
    "due_at": 1, "tries": 1, "created_at": 1, "updated_at": 1, "finished_at": 1,
    "dismissed_at": None, "dismissed_by": None, "deleted_at": None, "deleted_why": None,
}  # fmt: skip
CREATED: dict[str, Any] = {}
MOVED = {"mode": "channel", "outcome": "updated"}
HELD = {"mode": "channel", "outcome": "superseded"}
PASSED = {"mode": "trial", "outcome": "passed"}
WARNED = {"mode": "trial", "outcome": "failed"}
RUNNING = {"mode": "trial", "state": "waiting", "outcome": None, "reason": "trial_running"}
QUEUED = {"state": "queued", "outcome": None}
PARKED = {"mode": "channel", "state": "parked", "outcome": None, "reason": "not_amd64"}
DISMISSED = {"outcome": "dismissed"}
OBSOLETE = {"outcome": "superseded"}
DELETED = {"deleted_at": 2, "deleted_why": "beyond keep = 1"}


def delivery(*registrations: dict[str, Any], verdict: str = "accepted") -> Delivery:
    push = {
        "id": "d1", "received_at": 1, "source": "webhook", "repository": "studio/game-server",
        "tag": "1.0.0", "media_type": None, "pusher": None, "pushed_at": None, "digest": None,
        "body_bytes": None, "requested_by": None, "verdict": verdict, "reason": None,
        "sentence": "",
    }  # fmt: skip
    made = [read_view(Registration, {**COMMON, **one}) for one in registrations]
    return read_view(Delivery, push, registrations=made)


@pytest.mark.parametrize(
    ("registrations", "progress"),
    [
        ([CREATED], Progress.DONE),
        ([CREATED, PASSED, MOVED, HELD], Progress.DONE),
        ([CREATED, WARNED, MOVED], Progress.DONE),
        ([CREATED, RUNNING], Progress.OPEN),
        ([CREATED, PARKED], Progress.NOT_DONE),
        ([PARKED, QUEUED], Progress.OPEN),
        ([DISMISSED], Progress.NOT_DONE),
        ([OBSOLETE], Progress.NOT_DONE),
        ([DELETED], Progress.NOT_DONE),
    ],
)
def test_the_result_is_that_of_all_registrations(
    registrations: list[dict[str, Any]], progress: Progress
) -> None:
    assert progress_of(delivery(*registrations)) is progress


def test_what_is_not_known_or_not_wanted_has_no_version() -> None:
    assert progress_of(None) is Progress.UNKNOWN
    assert progress_of(delivery(verdict="ignored")) is Progress.NOT_DONE
    assert progress_of(delivery(verdict="refused")) is Progress.NOT_DONE

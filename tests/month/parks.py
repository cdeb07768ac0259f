"""Which registrations may still be parked: rules that say why nobody but a person resolves them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from tests.month.month import Facts
from tests.month.studio import GOOD, Project


@dataclass(frozen=True, slots=True)
class Row:
    """A registration of the ledger. Times in epoch ms."""

    rule: str
    app: str
    version: str
    mode: str
    tag: str
    state: str
    outcome: str | None
    reason: str | None
    waiting_reason: str | None
    updated_at: int
    push_time: int
    sentence: str
    notes: str

    def __str__(self) -> str:
        when = datetime.fromtimestamp(self.updated_at / 1000, UTC).isoformat(timespec="seconds")
        return f"{self.mode} {self.app}/{self.version} {self.tag} ({when})"

    def is_open_for(self, app: str, version: str) -> bool:
        """Return whether it is to create this version, and is not done."""
        return self.state != "done" and (self.app, self.version) == (app, version)


STORED = 33  # the `max_duration` of a fault
SUCCESSES = frozenset({"created", "updated", "unchanged", "passed"})
IN_IMAGE = frozenset({"image_not_pullable", "not_amd64", "tag_overwritten", "trial_failed"})


def is_explained(row: Row, rows: Sequence[Row], facts: Facts) -> bool:
    """Return whether only a person can resolve it.

    `stored_differently` and `version_limit` are for a person as long as Edgegap has what they name.
    Anything else is not, if a later push did the same with the same target; if the cause is in the
    image and a later push of the rule was created; or if the last start read the configuration
    again, which is why no other reason may remain.
    """
    project = next(one for one in facts.studio if row.app in one.apps)
    later = [one for one in rows if _is_later(one, row)]
    if any((one.version, one.mode) == (row.version, row.mode) for one in later):
        return False
    if row.reason == "stored_differently":
        return _is_stored_otherwise(row, facts)
    if row.reason == "version_limit":
        return project.room is not None and _is_older_than_all(row, project, facts)
    if row.reason not in IN_IMAGE:
        return False
    if any(one.mode == "create" and one.rule == row.rule for one in later):
        return False
    return _has_cause(row, project, facts)


def _is_later(one: Row, row: Row) -> bool:
    return (
        one.app == row.app
        and one.outcome in SUCCESSES
        and one.push_time // 1000 > row.push_time // 1000
    )


def _has_cause(row: Row, project: Project, facts: Facts) -> bool:
    """Return whether the studio or a fault of the month caused this."""
    if row.reason == "not_amd64":
        pushes = [one.push for one in facts.pushed if one.push.tag == row.tag]
        return any(push.platforms != GOOD for push in pushes)
    if row.reason == "trial_failed":
        return not project.lives.get(row.tag, True)
    if row.reason == "tag_overwritten":
        return project.parks_overwritten
    causes = ("pullable", "POST 424", "PATCH 424")
    return any(
        period.begin * 1000 <= row.updated_at and any(cause in period.name for cause in causes)
        for period in facts.periods
    )


def _is_stored_otherwise(row: Row, facts: Facts) -> bool:
    """Return whether Edgegap has the version as a fault stored it: no API call says it is wrong."""
    version = facts.edgegap.versions.get((row.app, row.version))
    return version is not None and (not version["ports"] or version["max_duration"] == STORED)


def _is_older_than_all(row: Row, project: Project, facts: Facts) -> bool:
    """Return whether room for it could be made only by deleting what was pushed after it."""
    pushed = {one.push.tag: one.at for one in facts.pushed if one.project is project}
    there = [name for app, name in facts.edgegap.versions if app == row.app]
    return len(there) == project.room and all(pushed[name] >= pushed[row.tag] for name in there)

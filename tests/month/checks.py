"""What must be true after the month, and the report."""

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from receiver.rules.channel_order import version_number
from tests.month.history import Change
from tests.month.month import Facts, Parking, Pushed
from tests.month.parks import Row, is_explained
from tests.month.studio import GOOD, Channel, Project

MEGABYTE = 1024 * 1024
ROWS = """SELECT rule, app, version, mode, tag, state, outcome, reason, waiting_reason, updated_at,
 push_time, sentence, notes FROM registrations"""
LATE_SECONDS = 5.0  # a late PATCH that lands between a GET and the next PATCH is not seen


def check(facts: Facts, ledger: Path) -> list[str]:
    """Return all that is wrong, nothing if all is well."""
    with closing(sqlite3.connect(ledger)) as connection:
        connection.row_factory = sqlite3.Row
        rows = [Row(**dict(row)) for row in connection.execute(ROWS)]
    checks = _Checks(facts, rows)
    return [
        *facts.failures,
        *checks.ended(),
        *checks.parked(),
        *checks.versions(),
        *checks.channels(),
    ]


class _Checks:
    def __init__(self, facts: Facts, rows: Sequence[Row]) -> None:
        self._facts, self._rows = facts, rows
        self._of_tag: defaultdict[tuple[str, str], list[Pushed]] = defaultdict(list)
        for pushed in facts.pushed:
            self._of_tag[pushed.project.repository, pushed.push.tag].append(pushed)
        self._changes: defaultdict[tuple[str, str], list[Change]] = defaultdict(list)
        for change in facts.edgegap.changes:
            self._changes[change.app, change.version].append(change)
        self._parkings: defaultdict[tuple[str, str], list[Parking]] = defaultdict(list)
        for parking in facts.parkings:
            self._parkings[parking.app, parking.version].append(parking)

    def ended(self) -> Iterator[str]:
        """Nothing is left to do."""
        for row in self._rows:
            if row.state not in {"done", "parked"}:
                yield f"{row} is still {row.state} ({row.waiting_reason})"

    def parked(self) -> Iterator[str]:
        """What is parked needs a person: neither a start nor a later push could resolve it."""
        for row in self._rows:
            if row.state == "parked" and not is_explained(row, self._rows, self._facts):
                yield f"{row} is still parked: {row.reason}: {row.sentence[:300]}"

    def versions(self) -> Iterator[str]:
        """Each tag that a rule takes has its version, with its image, and was created once."""
        for (repository, tag), pushes in self._of_tag.items():
            for app in pushes[0].push.apps:
                yield from self._version(app, tag, repository, pushes)

    def _version(
        self, app: str, tag: str, repository: str, pushes: Sequence[Pushed]
    ) -> Iterator[str]:
        project, changes = pushes[0].project, self._changes[app, tag]
        created = [change for change in changes if change.what == "create"]
        if len(created) > len(pushes):
            yield f"{app}/{tag} was created {len(created)} times for {len(pushes)} pushes"
        version = self._facts.edgegap.versions.get((app, tag))
        runs = any(one.push.platforms == GOOD for one in pushes)
        if version is not None:
            if (version["docker_image"], version["docker_tag"]) != (repository, tag):
                yield f"{app}/{tag} has {version['docker_image']}:{version['docker_tag']}"
            if (not version["ports"] or version["req_cpu"] != 1024) and not self._was_parked(
                app, tag, "stored_differently"
            ):
                yield f"{app}/{tag} has not the settings of its rule"
            if not runs and not self._was_unseen(app, tag):
                yield f"{app}/{tag} was created, and its image cannot run"
        elif created:
            yield from self._pruned(project, app, tag, changes[-1])
        elif runs and not self._is_excused(project, app, tag, pushes):
            yield f"{app}/{tag} was never created ({self._why(app, tag)})"

    def _was_unseen(self, app: str, tag: str) -> bool:
        """Return whether it was created without a look at the image: Docker Hub did not answer."""
        return any(
            "made without preflight" in row.notes
            for row in self._rows
            if (row.app, row.version) == (app, tag)
        )

    def _was_too_old(self, app: str, tag: str) -> bool:
        """Return whether there was room for later pushes only."""
        return any(
            "are of later pushes" in one.sentence
            for one in self._facts.superseded
            if (one.app, one.version) == (app, tag)
        )

    def _was_parked(self, app: str, version: str, *reasons: str) -> bool:
        return any(one.reason in reasons for one in self._parkings[app, version])

    def _is_excused(self, project: Project, app: str, tag: str, pushes: Sequence[Pushed]) -> bool:
        """Return whether it is parked, or was for its image, and a later push took its place."""
        if any(row.is_open_for(app, tag) for row in self._rows):  # `parked` judges it
            return True
        if project.room is not None and self._was_too_old(app, tag):
            return True
        parked = self._was_parked(app, tag, "image_not_pullable", "not_amd64", "digest_changed")
        last = max(one.at for one in pushes)
        return parked and any(
            one.at > last and (app, one.push.tag) in self._changes
            for one in self._facts.pushed
            if one.project is project and app in one.push.apps
        )

    def _why(self, app: str, tag: str) -> str:
        parked = ", ".join(one.reason for one in self._parkings[app, tag])
        rows = [row for row in self._rows if (row.app, row.version) == (app, tag)]
        ended = ", ".join(f"{row.mode} {row.state} {row.outcome}: {row.sentence}" for row in rows)
        return f"parked: {parked or 'never'}; now: {ended or 'nothing is known'}"

    def _pruned(self, project: Project, app: str, tag: str, last: Change) -> Iterator[str]:
        """A version that is gone was beyond the newest that the rule keeps."""
        if last.what != "delete":
            yield f"{app}/{tag} is gone, and nobody deleted it"
            return
        mine = self._last(project, tag, last.at)
        newer = {
            change.version
            for change in self._facts.edgegap.changes
            if change.app == app and change.what == "create" and change.at <= last.at
            if change.version != tag and self._last(project, change.tag, last.at) >= mine
        }
        least = project.keep if app == project.apps[0] else None
        if project.room is not None:
            least = 1
        if least is None or len(newer) < least:
            yield f"{app}/{tag} was deleted, and only {len(newer)} newer ones existed"

    def _last(self, project: Project, tag: str, until: float) -> int:
        """Return the second of the last push of a tag before a time."""
        pushes = self._of_tag[project.repository, tag]
        return max((int(one.at) for one in pushes if one.at <= until), default=0)

    def _first(self, project: Project, tag: str) -> float:
        return min((one.at for one in self._of_tag[project.repository, tag]), default=0.0)

    def channels(self) -> Iterator[str]:
        """No channel moved back, and each has what it should have."""
        for project in self._facts.studio:
            for channel in project.channels:
                moves = self._changes[channel.app, channel.name]
                yield from self._backwards(project, channel, moves)
                yield from self._missing(project, channel)

    def _backwards(
        self, project: Project, channel: Channel, moves: Sequence[Change]
    ) -> Iterator[str]:
        for number, move in enumerate(moves):
            landed = [
                one
                for one in moves[:number]
                if one.tag == move.had and one.at > one.sent + LATE_SECONDS
                if move.sent - LATE_SECONDS < one.at <= move.sent
            ]
            if move.had and not landed and self._is_before(project, channel, move.tag, move.had):
                where = f"{channel.app}/{channel.name}"
                yield f"{where} moved back from {move.had} to {move.tag} at {move.at:.0f}"

    def _is_before(self, project: Project, channel: Channel, tag: str, had: str) -> bool:
        if channel.by_number:
            one, other = version_number(tag), version_number(had)
            return one is not None and other is not None and one < other
        pushes = self._of_tag[project.repository, tag]
        # Docker Hub's times are whole seconds: within one there is no order.
        return int(max(one.at for one in pushes)) < int(self._first(project, had))

    def _missing(self, project: Project, channel: Channel) -> Iterator[str]:
        """Look for a tag that should have moved it further."""
        where = f"{channel.app}/{channel.name}"
        version = self._facts.edgegap.versions.get((channel.app, channel.name))
        has = "" if version is None else str(version["docker_tag"])
        if channel.source is not None:
            source = self._facts.edgegap.versions.get((channel.app, channel.source), {})
            if source.get("docker_tag", "") != has and not self._is_parked(channel):
                yield f"{where} has {has}, and {channel.source} {source.get('docker_tag')}"
            return
        for tag in {one.push.tag for one in self._facts.pushed if one.project is project}:
            if not tag.startswith(channel.takes) or "-rc" in tag:
                continue
            if project.tried and not project.lives[tag]:
                continue
            created = (channel.app, tag) in self._changes or not channel.by_number
            further = not has or self._is_before(project, channel, has, tag)
            if created and further and not self._is_parked(channel, tag):
                yield f"{where} has {has}, and not {tag}"

    def _is_parked(self, channel: Channel, tag: str | None = None) -> bool:
        """Return whether the move, or the trial before it, is parked: that is judged elsewhere."""
        return any(
            row.state == "parked"
            and row.app == channel.app
            and (tag is None or row.tag == tag)
            and (row.version == channel.name or row.mode != "channel")
            for row in self._rows
        )


@dataclass(frozen=True)
class Report:
    """What a month did, and what must not be: it passed if `faults` is empty."""

    facts: Facts
    ledger: Path
    faults: Sequence[str]
    seed: int

    @property
    def passed(self) -> bool:
        """Whether nothing is as it must not be."""
        return not self.faults

    def __str__(self) -> str:
        lines = [f"{name}: {value}" for name, value in self.counts().items()]
        result = "SOUND" if self.passed else "NOT SOUND"
        return "\n".join([*lines, *self.faults, f"{result} (seed {self.seed})"])

    def counts(self) -> dict[str, Any]:
        """Return what is reported, by its name."""
        facts, memory = self.facts, self.facts.memory
        changes = Counter(change.what for change in facts.edgegap.changes)
        kinds = {period.name for period in facts.periods}
        with closing(sqlite3.connect(self.ledger)) as connection:
            left = connection.execute(
                "SELECT reason, count(*) FROM registrations WHERE state = 'parked' GROUP BY 1"
            ).fetchall()
        return {
            "wall time": f"{facts.counts['seconds']} s",
            "simulated time": f"{facts.simulated / 86_400:.1f} days",
            "pushes": len(facts.pushed),
            **{name: facts.counts[name] for name in sorted(facts.counts) if name != "seconds"},
            "versions created": changes["create"],
            "versions deleted": changes["delete"],
            "channels moved": changes["move"],
            "parked": dict(Counter(one.reason for one in facts.parkings).most_common()),
            "parked at the end": dict(left),
            "periods of faults": f"{len(facts.periods)} of {len(kinds)} kinds",
            "calls with a fault": facts.taken.total(),
            "by fault": dict(facts.taken.most_common()),
            "memory in MB": {
                "at the start": memory[0] // MEGABYTE,
                "in the middle": memory[len(memory) // 2] // MEGABYTE,
                "at the end": memory[-1] // MEGABYTE,
                "most": max(memory) // MEGABYTE,
            },
            "ledger in MB": round(self.ledger.stat().st_size / MEGABYTE, 1),
        }

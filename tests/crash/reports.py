"""What must be true in the end, read from the ledger's file and from Edgegap's stand-in."""

import json
import sqlite3
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from receiver.sandbox.edgegap import EdgegapSandbox
from tests.running import APP
from tests.storm import Told

DUE = """SELECT count(*) FROM registrations WHERE state IN ('queued', 'working')
  OR (state = 'waiting' AND due_at < unixepoch() * 1000)"""
LEFT = """SELECT max(l.delivery_id) FROM registrations r
  JOIN led_to l ON l.registration_id = r.id WHERE r.state <> 'done' GROUP BY r.id"""
EXPECTED = frozenset({"202", "503"})
OPEN = "SELECT tag, state, reason FROM registrations WHERE state <> 'done'"


@dataclass(frozen=True, slots=True)
class Report:
    """The counts, and all that is wrong: nothing, if all is well."""

    counts: Mapping[str, object]
    wrong: Mapping[str, object]

    @property
    def sound(self) -> bool:
        """Whether nothing was lost, made twice or stuck."""
        return not any(self.wrong.values())

    def did(self, torment: str) -> bool:
        """Whether that was done to it at all."""
        return torment in cast("Mapping[str, int]", self.counts["torments"])

    def __str__(self) -> str:
        lines = [f"{name}: {count}" for name, count in self.counts.items()]
        lines += [f"{name}: {found or 'none'}" for name, found in self.wrong.items()]
        return "\n".join([*lines, "SOUND" if self.sound else "NOT SOUND"])


def ledger_of(folder: Path) -> Path:
    """The ledger's file on its disk."""
    return folder / "receiver.db"


def asked(ledger: Path, sql: str) -> list[Any]:
    """Ask the ledger's file as another process would."""
    with closing(sqlite3.connect(ledger, timeout=10)) as connection:
        return connection.execute(sql).fetchall()


def waits_for_nothing(ledger: Path, *, also_waiting: bool = False) -> bool:
    """Tell whether nothing is due; or nothing open at all."""
    if also_waiting:
        return not asked(ledger, OPEN)
    return asked(ledger, DUE) == [(0,)]


def waiting_deliveries(ledger: Path) -> list[str]:
    """The newest delivery of each registration that is not done."""
    return [row[0] for row in asked(ledger, LEFT)]


def count_up(
    ledger: Path,
    told: Told,
    sandbox: EdgegapSandbox,
    torments: Counter[str],
    *,
    faults: int,
    log: Path,
    replayed: int,
) -> Report:
    """Compare what was answered with what is there."""
    recorded = {row[0] for row in asked(ledger, "SELECT id FROM deliveries")}
    outcomes = asked(ledger, "SELECT outcome, count(*) FROM registrations GROUP BY outcome")
    made = {tag: sandbox.posts_that_created(APP, tag) for tag in told.tags}
    twice = {str(version): count for version, count in sandbox.created.items() if count > 1}
    events = Counter(_events(log))
    return Report(
        counts={
            "answers": dict(sorted(told.answers.items())),
            "torments": dict(sorted(torments.items())),
            "faults of Edgegap": faults,
            "202s": len(told.accepted),
            "deliveries in the ledger": len(recorded),
            "tags accepted": len(made),
            "versions": len(sandbox.versions),
            "registrations by outcome": dict(outcomes),
        },
        wrong={
            "202s that are not in the ledger": sorted(told.accepted.keys() - recorded),
            "accepted tags without a version": sorted(t for t, count in made.items() if not count),
            "versions made more than once": twice,
            "answers that are neither 202 nor 503": {
                answer: count
                for answer, count in told.answers.items()
                if answer.isdigit() and answer not in EXPECTED
            },
            "registrations that are stuck": asked(ledger, OPEN),
            "damage to the ledger": [
                row for row in asked(ledger, "PRAGMA integrity_check") if row != ("ok",)
            ],
            "faults of our own": {name: n for name, n in events.items() if name.endswith("_fault")},
            "the replay's exit code": replayed,
        },
    )


def _events(log: Path) -> list[str]:
    lines = log.read_text("utf-8", "replace").splitlines()
    found = []
    for line in lines:
        try:
            found.append(str(json.loads(line)["event"]))
        except (ValueError, TypeError, KeyError):
            continue  # killed in the midst of a line
    return found

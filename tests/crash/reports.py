"""What must be true in the end, read from the ledger's file and from Edgegap's stand-in."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from receiver.sandbox.edgegap import EdgegapSandbox
from tests.crash.asking import asked, logged
from tests.crash.endings import OPEN, End
from tests.crash.lateness import FOLLOWED, HIGHEST
from tests.crash.prunings import prunings
from tests.support.receiver_process import APP
from tests.support.storm import SentPushes

OUTCOMES = f"SELECT outcome, count(*) FROM registrations WHERE app = '{APP}' GROUP BY outcome"
EXPECTED = frozenset({"202", "503"})


@dataclass(frozen=True, slots=True)
class Report:
    """The counts, and all that is wrong: nothing, if all is well."""

    counts: Mapping[str, object]
    wrong: Mapping[str, object]

    @property
    def passed(self) -> bool:
        """Whether nothing was lost, made twice or stuck."""
        return not any(self.wrong.values())

    def had(self, fault: str) -> bool:
        """Whether that was done to it at all."""
        return fault in cast("Mapping[str, int]", self.counts["faults"])

    def __str__(self) -> str:
        lines = [f"{name}: {count}" for name, count in self.counts.items()]
        lines += [f"{name}: {found or 'none'}" for name, found in self.wrong.items()]
        return "\n".join([*lines, "SOUND" if self.passed else "NOT SOUND"])


def count_up(
    ledger: Path,
    result: SentPushes,
    sandbox: EdgegapSandbox,
    faults: Counter[str],
    *,
    edgegap_faults: int,
    races: int = 0,
    log: Path,
    end: End,
) -> Report:
    """Compare what was answered with what is there."""
    recorded = {row[0] for row in asked(ledger, "SELECT id FROM deliveries")}
    outcomes = asked(ledger, OUTCOMES)
    made = {tag: sandbox.posts_that_created(APP, tag) for tag in result.tags}
    twice = {
        version: count
        for (app, version), count in sandbox.created.items()
        if app == APP and count > 1
    }
    versions = [version for app, version in sandbox.versions if app == APP]
    channels = {one: sandbox.versions.get(one, {}).get("docker_tag") for one in FOLLOWED}
    rows = asked(ledger, "SELECT app, version, tag FROM targets WHERE mode = 'channel'")
    put = {(app, name): tag for app, name, tag in rows}
    moves = asked(ledger, "SELECT action, count(*) FROM channel_moves GROUP BY action")
    highest = max(made, key=_as_number, default=None)
    pruned = prunings(ledger, sandbox)
    events = Counter(str(line["event"]) for line in logged(log))
    return Report(
        counts={
            "answers": dict(sorted(result.answers.items())),
            "faults": dict(sorted(faults.items())),
            "faults of Edgegap": edgegap_faults,
            "202s": len(result.accepted),
            "deliveries in the ledger": len(recorded),
            "tags accepted": len(made),
            "versions": len(versions),
            "old versions deleted": pruned.deleted,
            "pushed again while they were to be deleted": races,
            "registrations by outcome": dict(outcomes),
            "moves of channels": dict(moves),
            "parked at any time, by reason": end.parked.by_reason,
            "waiting in the end, and replayed": end.waiting,
            "parked in the end, and replayed": end.parked_and_replayed,
        },
        wrong={
            "202s that are not in the ledger": sorted(result.accepted.keys() - recorded),
            "accepted tags without a version": sorted(t for t, count in made.items() if not count),
            "versions made more than once": twice,
            "versions said to be made that are not": max(
                0, dict(outcomes).get("created", 0) - len(versions)
            ),
            "versions deleted that a newer push protected": pruned.protected,
            "newest push's version that is absent": pruned.newest_absent,
            "versions absent without a recorded deletion": pruned.absent,
            "answers that are neither 202 nor 503": {
                answer: count
                for answer, count in result.answers.items()
                if answer.isdigit() and answer not in EXPECTED
            },
            "registrations that are stuck": asked(ledger, OPEN),
            "damage to the ledger": [
                row for row in asked(ledger, "PRAGMA integrity_check") if row != ("ok",)
            ],
            "channels that Edgegap has otherwise than the ledger": {
                one: (tag, put.get(one)) for one, tag in channels.items() if tag != put.get(one)
            },
            "a channel that is not at the highest accepted tag": (
                [] if channels[HIGHEST] in {None, highest} else [channels[HIGHEST], highest]
            ),
            "faults of our own": {name: n for name, n in events.items() if name.endswith("_fault")},
            "waiting longer than any may": end.waiting_too_long,
            "parked for what was not done to it": end.parked.unexplained,
            "the replay's exit code": end.exit_code,
        },
    )


def _as_number(tag: str) -> tuple[int, ...]:
    """The senders' tags are of two numbers; any other, as a test makes it, is the lowest."""
    parts = tag.split(".")
    return tuple(map(int, parts)) if all(part.isdigit() for part in parts) else ()

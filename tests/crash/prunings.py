"""Pruning under pushes, kills and faults: what is reported as done must be there, or be recorded.

A second rule registers some pushes for another app and keeps only a few of its versions.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs

from receiver.sandbox.calls import Call
from receiver.sandbox.edgegap import EdgegapSandbox
from tests.crash.asking import asked
from tests.support.receiver_process import REPOSITORY, RULE, ReceiverProcess, until

PRUNED = "lobby"
KEEP = 3
PRUNING = f"""
{RULE}
[[rule]]
name = "pruned"
repository = "{REPOSITORY}"
app = "{PRUNED}"
tags = ["race-*", "*3", "*7"]
preflight = false
keep = {KEEP}

[rule.settings]
req_cpu = 1024
req_memory = 2048
ports = [{{ port = 7777, protocol = "UDP", name = "gameport" }}]
"""
LATENCY_SECONDS = 0.1
MAX_RACE_SECONDS = 3.0
RACES = 4
BUSY = """SELECT 1 FROM registrations WHERE state NOT IN ('done', 'parked')
 UNION ALL SELECT 1 FROM deletions WHERE ended_at IS NULL LIMIT 1"""
OPEN_DELETIONS = "SELECT version FROM deletions WHERE ended_at IS NULL"
DELETED = "SELECT count(*) FROM deletions WHERE deleted"
# The newest push by Docker Hub's whole seconds; in one second, the one recorded last.
NEWEST = f"""SELECT version FROM registrations WHERE app = '{PRUNED}' AND state = 'done'
  ORDER BY push_time / 1000 DESC, id DESC LIMIT 1"""
# Reported as done, and no deletion began or ended since.
THERE = f"""SELECT DISTINCT r.version FROM registrations r
 WHERE r.app = '{PRUNED}' AND r.state = 'done' AND r.outcome IN ('created', 'unchanged')
  AND NOT EXISTS (SELECT 1 FROM deletions d WHERE d.app = r.app AND d.version = r.version
   AND coalesce(d.deleted, true) AND coalesce(d.ended_at, d.until_at) >= r.finished_at)"""


# Deleted though fewer than `keep` others were pushed later, by what was recorded when it began.
PROTECTED = f"""SELECT d.version FROM deletions d
 WHERE d.app = '{PRUNED}' AND d.deleted AND d.why LIKE 'beyond%' AND {KEEP} > (
  SELECT count(DISTINCT w.version) FROM registrations w
   WHERE w.app = d.app AND w.version <> d.version AND w.state = 'done'
    AND w.created_at < d.began_at AND (w.push_time / 1000, w.id) > (
     SELECT v.push_time / 1000, v.id FROM registrations v
      WHERE v.app = d.app AND v.version = d.version AND v.created_at < d.began_at
      ORDER BY v.push_time / 1000 DESC, v.id DESC LIMIT 1))"""


@dataclass(frozen=True, slots=True)
class Prunings:
    """How many versions were deleted, which wrongly, and what is absent that should be there."""

    deleted: int
    protected: tuple[str, ...]
    newest_absent: tuple[str, ...]
    absent: tuple[str, ...]


def prunings(ledger: Path, sandbox: EdgegapSandbox) -> Prunings:
    """Compare the ledger with what is at Edgegap."""
    there = {version for app, version in sandbox.versions if app == PRUNED}
    ((deleted,),) = asked(ledger, DELETED)
    newest = [str(row[0]) for row in asked(ledger, NEWEST)]
    reported = {str(row[0]) for row in asked(ledger, THERE)}
    return Prunings(
        deleted=int(deleted),
        protected=tuple(str(row[0]) for row in asked(ledger, PROTECTED)),
        newest_absent=tuple(version for version in newest if version not in there),
        absent=tuple(sorted(reported - there)),
    )


def pushed_again_while_pruning(
    receiver: ReceiverProcess, sandbox: EdgegapSandbox, ledger: Path
) -> int:
    """Push new tags, and push that of each version again that is looked at to be deleted.

    Returns how many there were, once all is done.
    """
    sandbox.latency = LATENCY_SECONDS
    races, seen = 0, len(sandbox.calls)
    for number in range(KEEP + RACES):
        receiver.push(f"race-{number}")
        end = time.monotonic() + MAX_RACE_SECONDS
        while time.monotonic() < end and asked(ledger, BUSY):
            calls = sandbox.calls[seen:]
            seen += len(calls)
            for version in filter(None, map(_looked_at, calls)):
                receiver.push(version)
                races += 1
            time.sleep(LATENCY_SECONDS / 10)
    sandbox.latency = 0.0
    until(lambda: not asked(ledger, BUSY))
    return races


def _looked_at(call: Call) -> str | None:
    """The version of which this call asks whether anything runs."""
    if call.path != "/v1/deployments":
        return None
    filters = json.loads(parse_qs(call.query)["query"][0])["filters"]
    return {one["field"]: str(one["value"]) for one in filters}["version"]

"""Pruning under pushes, kills and misery: what is reported as done must be there, or be recorded.

A second rule registers each push for another app and keeps only a few of its versions.
"""

from dataclasses import dataclass
from pathlib import Path

from receiver.sandbox.edgegap import EdgegapSandbox
from tests.crash.asking import asked
from tests.running import REPOSITORY, RULE

PRUNED = "lobby"
PRUNING = f"""
{RULE}
[[rule]]
name = "pruned"
repository = "{REPOSITORY}"
app = "{PRUNED}"
preflight = false
keep = 3

[rule.settings]
req_cpu = 1024
req_memory = 2048
ports = [{{ port = 7777, protocol = "UDP", name = "gameport" }}]
"""
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


@dataclass(frozen=True, slots=True)
class Prunings:
    """How many versions were deleted, and what of the rest is not as the ledger says."""

    deleted: int
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
        newest_absent=tuple(version for version in newest if version not in there),
        absent=tuple(sorted(reported - there)),
    )

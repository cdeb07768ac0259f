"""A short text that changes whenever what the pages show changes: pages are then sent again."""

import time

from receiver.ledger.ledger import Ledger
from receiver.ledger.transaction import Tx

ASK_EVERY_SECONDS = 1.0

# For replicas, which also write: each part is read from the end of an index, or is small.
_SHARED = """SELECT (SELECT max(id) FROM deliveries) AS d, (SELECT max(id) FROM registrations) AS r,
 (SELECT count(*) FROM registrations
   WHERE state IN ('queued', 'waiting', 'working', 'parked')) AS o,
 (SELECT max(updated_at) FROM registrations
   WHERE state IN ('queued', 'waiting', 'working', 'parked')) AS u,
 (SELECT max(updated_at) FROM (SELECT updated_at FROM registrations ORDER BY id DESC LIMIT 100) n)
  AS n,
 (SELECT max(id) FROM channel_moves) AS m, (SELECT sum(coalesce(held_at, 0)) FROM channels) AS h,
 (SELECT max(id) FROM deletions WHERE ended_at IS NULL) AS b, (SELECT max(id) FROM deletions) AS e,
 (SELECT sum(since) FROM pauses) AS p, (SELECT sum(since) FROM gates WHERE closed) AS g,
 (SELECT max(id) FROM trials) AS t, (SELECT max(at) FROM approvals) AS a,
 (SELECT sum(coalesce(ran_at, 0)) FROM cursors) AS c, (SELECT sum(requests) FROM refused_links) AS l
"""


class Revision:
    """The revision: our own commits, and for replicas what the others have changed.

    What others changed is asked for at most once a second, however many tabs poll.
    """

    def __init__(self) -> None:
        self._shared = ""
        self._asked_at = float("-inf")

    async def read(self, ledger: Ledger) -> str:
        """Return it for the ledger, which is always the same one."""
        if not ledger.shared:
            return str(ledger.commits)
        if time.monotonic() - self._asked_at >= ASK_EVERY_SECONDS:
            self._asked_at = time.monotonic()
            self._shared = await ledger.read(shared_revision)
        return f"{ledger.commits} {self._shared}"


def shared_revision(tx: Tx) -> str:
    """Return a text that changes whenever a replica changes what the pages show."""
    row = tx.run(_SHARED).one()
    minute = tx.now // 60_000  # for what no part of it shows
    return " ".join(str(part) for part in (*row, minute))

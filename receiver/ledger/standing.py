"""How the whole stands, in few numbers: for metrics and the overview. All from small indexes."""

from dataclasses import dataclass

from receiver.ledger.gates import TOKEN, closed_gates
from receiver.ledger.transactions import Tx

_OPEN = """SELECT state, count(*) AS many FROM registrations
 WHERE state IN ('queued', 'waiting', 'working', 'parked') GROUP BY state"""
_OLDEST = """SELECT min(created_at) FROM registrations
 WHERE state IN ('queued', 'waiting', 'working')"""
_LAST = """SELECT max(finished_at) FROM (SELECT finished_at FROM registrations
  WHERE state = 'done' AND outcome IN ('created', 'updated') ORDER BY id DESC LIMIT 100) newest"""


@dataclass(frozen=True, slots=True)
class Standing:
    """Open registrations by state, and times in epoch milliseconds."""

    open: dict[str, int]
    oldest_unfinished: int | None
    last_success: int | None
    token_refused: bool
    now: int


def read_standing(tx: Tx) -> Standing:
    """Read how the whole stands."""
    return Standing(
        open={row.state: row.many for row in tx.run(_OPEN)},
        oldest_unfinished=tx.run(_OLDEST).scalar(),
        last_success=tx.run(_LAST).scalar(),
        token_refused=any(gate.name == TOKEN for gate in closed_gates(tx)),
        now=tx.now,
    )

"""Purging by age, in small bites: the writer is never held for long, and no open work is touched.

Targets stay, and so does the registration each was made or moved by last.
"""

from receiver.ledger.ids import first_id
from receiver.ledger.recording import DELIVERY, REGISTRATION
from receiver.ledger.targets import RETIREMENT
from receiver.ledger.transactions import Tx

BITE = 500
FREED_PAGES = 200

_DELIVERIES = """DELETE FROM deliveries WHERE id IN (
 SELECT d.id FROM deliveries d WHERE d.id < :bound AND NOT EXISTS (
   SELECT 1 FROM led_to l JOIN registrations r ON r.id = l.registration_id
    WHERE l.delivery_id = d.id AND r.state <> 'done')
  ORDER BY d.id LIMIT :most)"""
_ATTEMPTS = """DELETE FROM attempts WHERE (registration_id, attempt, step) IN (
 SELECT a.registration_id, a.attempt, a.step FROM attempts a
  JOIN registrations r ON r.id = a.registration_id
  WHERE a.at < :before AND r.state = 'done' ORDER BY a.at LIMIT :most)"""
_RETIREMENTS = """DELETE FROM retirements WHERE id IN (
 SELECT id FROM retirements WHERE id < :bound ORDER BY id LIMIT :most)"""
_WINDOW = """SELECT id FROM registrations WHERE id > :after AND id < :bound
 ORDER BY id LIMIT :most"""
_REGISTRATIONS = """DELETE FROM registrations WHERE id > :after AND id <= :last AND state = 'done'
  AND NOT EXISTS (SELECT 1 FROM targets t WHERE t.registration_id = registrations.id)
  AND NOT EXISTS (SELECT 1 FROM led_to l WHERE l.registration_id = registrations.id)"""


def purge_deliveries(tx: Tx, before: int) -> int:
    """Delete a bite of the deliveries that came before then (epoch ms); return how many."""
    bound = first_id(DELIVERY, before)
    return tx.run(_DELIVERIES, bound=bound, most=BITE).rowcount


def purge_attempts(tx: Tx, before: int) -> int:
    """Delete a bite of the attempts made before then (epoch ms); return how many."""
    return tx.run(_ATTEMPTS, before=before, most=BITE).rowcount


def purge_retirements(tx: Tx, before: int) -> int:
    """Delete a bite of what is told of versions deleted before then (epoch ms); return how many."""
    return tx.run(_RETIREMENTS, bound=first_id(RETIREMENT, before), most=BITE).rowcount


def purge_registrations(tx: Tx, before: int, after: str) -> str | None:
    """Delete what may go among the next registrations after that id.

    Returns the id to go on from, None when all that are old enough have been looked at.
    """
    bound = first_id(REGISTRATION, before)
    window = [row.id for row in tx.run(_WINDOW, after=after, bound=bound, most=BITE)]
    if not window:
        return None
    tx.run(_REGISTRATIONS, after=after, last=window[-1])
    return str(window[-1])


def give_back_space(tx: Tx) -> None:
    """Give freed pages back to the file system, a few at a time (SQLite)."""
    if not tx.postgresql:
        free = int(tx.run("PRAGMA freelist_count").scalar_one())
        for _ in range(min(free, FREED_PAGES)):  # one at a time: of more the driver frees one
            tx.run("PRAGMA incremental_vacuum(1)")

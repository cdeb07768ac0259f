"""Notices to send: written in the transaction of their event, sent later, deleted when sent."""

from collections.abc import Iterable, Sequence

import msgspec

from receiver.ledger.transaction import Tx
from receiver.notifications.destinations import Notice, NotificationEvent

NOTICE = "n"
MAX_BATCH = 500
MAX_QUIET_PERIODS = 12  # a recurring event is sent after at most this many quiet periods
LEASE_MS = 120_000  # how long a replica has to send notices before another may

_INSERT = """INSERT INTO outbox (id, destination, event, text, about, created_at, due_at)
 VALUES (:id, :destination, :event, :text, :about, :now, :due)"""
_DUE = """SELECT id, destination, event, text, about, tries, created_at FROM outbox
 WHERE due_at <= :now AND event IN ({known}) ORDER BY id LIMIT :most {lock}"""
_KNOWN = ", ".join(f"'{one}'" for one in NotificationEvent)  # others are a newer replica's


class OutboxEntry(msgspec.Struct, frozen=True):
    """One notice to send. `created_at` in epoch ms; `about` is its registration or delivery."""

    id: str
    notice: str
    event: NotificationEvent
    text: str
    tries: int
    created_at: int
    about: str | None = None


def enqueue(
    tx: Tx,
    notices: Iterable[Notice],
    event: NotificationEvent,
    text: str,
    *,
    rule: str | None = None,
    about: str | None = None,
) -> None:
    """Write a notice for each destination that is subscribed to this event."""
    for notice in notices:
        if notice.wants(event, rule):
            tx.run(
                _INSERT,
                id=tx.new_id(NOTICE),
                destination=notice.name,
                event=event.value,
                text=text,
                about=about,
                now=tx.now,
                due=tx.now,
            )


def lease_due(tx: Tx, quiet_ms: int = 0) -> list[OutboxEntry]:
    """Claim the notices that are due, so that no other replica sends them meanwhile.

    A notice of a recurring event waits until the event has stopped for a while, but not forever.
    """
    lock = "FOR UPDATE SKIP LOCKED" if tx.postgresql else ""
    rows = tx.run(_DUE.format(lock=lock, known=_KNOWN), now=tx.now, most=MAX_BATCH).all()
    kinds: dict[tuple[str, NotificationEvent], list[OutboxEntry]] = {}
    for row in rows:
        kind = row.destination, NotificationEvent(row.event)
        one = OutboxEntry(row.id, *kind, row.text, row.tries, row.created_at, row.about)
        kinds.setdefault(kind, []).append(one)
    taken: list[OutboxEntry] = []
    for group in kinds.values():
        moments = [one.created_at for one in group]
        goes_on = max(moments) > tx.now - quiet_ms
        if not goes_on or min(moments) <= tx.now - quiet_ms * MAX_QUIET_PERIODS:
            taken += group
    for one in taken:
        reschedule(tx, [one.id], tx.now + LEASE_MS, tries=one.tries)
    tx.quiet = not taken
    return taken


def reschedule(tx: Tx, identities: Sequence[str], due_at: int, *, tries: int) -> None:
    """Try these again at that time (epoch ms)."""
    for identity in identities:
        tx.run(
            "UPDATE outbox SET due_at = :due, tries = :tries WHERE id = :id",
            id=identity,
            due=due_at,
            tries=tries,
        )


def forget(tx: Tx, identities: Sequence[str]) -> None:
    """Delete these notices: they were sent, or will never be."""
    for identity in identities:
        tx.run("DELETE FROM outbox WHERE id = :id", id=identity)

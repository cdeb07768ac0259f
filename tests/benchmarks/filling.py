"""A SQLite ledger with as many deliveries as wanted, in the states that a busy one holds."""

import sqlite3
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from receiver.ledger.deliveries import DELIVERY, REGISTRATION
from receiver.ledger.ids import first_id
from receiver.ledger.ledger import Ledger
from tests.support.receiver_process import APP, REPOSITORY

# The first is the one that the benchmarks push to: its own place in each index is as full.
REPOSITORIES = (REPOSITORY, *(f"studio/game-{number}" for number in range(1, 5)))
SPAN_MS = 80 * 24 * 3600 * 1000  # younger than what is purged
IGNORED_EVERY = 5  # one in five is an untagged part of a multi-platform push
NEWEST = 200  # of these some are queued, some parked; all older ones are done, but few
PARKED_EVERY = 5000
OVERWRITTEN_EVERY = 500
ROWS_AT_ONCE = 20_000

Row = dict[str, Any]
_DONE = {"state": "done", "outcome": "created", "reason": None, "sentence": ""}
_QUEUED = {"state": "queued", "outcome": None, "reason": None, "sentence": ""}
_PARKED = {
    "state": "parked",
    "outcome": None,
    "reason": "gave_up",  # none that a start queues again
    "sentence": "It was tried for 24 hours. Fix what its attempts report, then replay.",
}


def app_of(repository: str) -> str:
    """The one app that the rule of a repository makes versions of."""
    return APP if repository == REPOSITORY else repository.partition("/")[2]


def fill(path: Path, many: int) -> None:
    """Make a ledger of `many` deliveries, evenly spread over the time before now."""
    ledger = Ledger(make_url(f"sqlite:///{path}"))
    ledger.open_to_write()
    ledger.close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("INSERT INTO pauses (repository, since) VALUES ('*', 0)")  # nothing is worked
        rows = _rows(many)
        while some := list(islice(rows, ROWS_AT_ONCE)):
            for table in ("deliveries", "registrations", "led_to", "requests", "targets"):
                _insert(db, table, [row for found, row in some if found == table])
            db.commit()
    db.close()


def _insert(db: sqlite3.Connection, table: str, rows: list[Row]) -> None:
    if rows:
        names = ", ".join(rows[0])
        values = ", ".join(f":{name}" for name in rows[0])
        db.executemany(f"INSERT INTO {table} ({names}) VALUES ({values})", rows)


def _rows(many: int) -> Iterator[tuple[str, Row]]:
    """Yield table and row, the oldest delivery first; a row comes after those it points to."""
    now = time.time_ns() // 1_000_000
    for number in range(many):
        at = now - SPAN_MS * (many - number) // many
        yield from _one(number, many - number, at)


def _one(number: int, from_newest: int, at: int) -> Iterator[tuple[str, Row]]:
    repository = REPOSITORIES[number % len(REPOSITORIES)]
    ignored = (number // len(REPOSITORIES)) % IGNORED_EVERY == 0
    tag = None if ignored else f"1.{number // 100}.{number % 100}"
    delivery = first_id(DELIVERY, at)
    yield (
        "deliveries",
        {
            "id": delivery,
            "received_at": at,
            "source": "webhook",
            "repository": repository,
            "tag": tag,
            "media_type": "application/vnd.oci.image.index.v1+json",
            "pusher": "builder",
            "pushed_at": at - 1000,
            "body_bytes": 900,
            "verdict": "ignored" if ignored else "accepted",
            "reason": "no_tag" if ignored else None,
            "sentence": "Nothing to do." if ignored else "",
        },
    )
    if tag is not None:
        yield from _worked(number, delivery, tag, _standing(number, from_newest), at)


def _standing(number: int, from_newest: int) -> Row:
    if number % PARKED_EVERY == 7 or (from_newest <= NEWEST and number % 7 == 0):
        return _PARKED
    return _QUEUED if from_newest <= NEWEST else _DONE


def _worked(
    number: int, delivery: str, tag: str, standing: Row, at: int
) -> Iterator[tuple[str, Row]]:
    repository = REPOSITORIES[number % len(REPOSITORIES)]
    app, registration = app_of(repository), first_id(REGISTRATION, at)
    image = {"repository": repository, "tag": tag}
    target = {"app": app, "version": tag, "mode": "create", "push_time": at - 1000}
    queued = standing is _QUEUED
    yield (
        "registrations",
        {
            "id": registration,
            "rule": f"{repository} → {app}",
            **target,
            **image,
            **standing,
            "due_at": at,
            "attempts": 0 if queued else 1,
            "created_at": at,
            "updated_at": at + 2000,
            "finished_at": None if queued else at + 2000,
            "overwritten": standing is _DONE and number % OVERWRITTEN_EVERY == 1,
        },
    )
    yield "led_to", {"delivery_id": delivery, "registration_id": registration}
    if queued:
        return
    for step, (method, status) in enumerate((("GET", 404), ("POST", 200))):
        yield (
            "requests",
            {
                "registration_id": registration,
                "attempt": 1,
                "step": step,
                "at": at + 500,
                "method": method,
                "path": f"/v1/app/{app}/version/{tag}",
                "status": status,
                "milliseconds": 350,
            },
        )
    if standing is _DONE:
        yield (
            "targets",
            {
                **target,
                **image,
                "created_here": True,
                "made_at": at + 2000,
                "registration_id": registration,
                "updated_at": at + 2000,
            },
        )

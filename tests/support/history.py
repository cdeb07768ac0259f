"""A ledger with a long history, and how much work each statement on it is."""

import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from receiver.ledger.channels import MOVE
from receiver.ledger.deletions import DELETION
from receiver.ledger.deliveries import DELIVERY, REGISTRATION
from receiver.ledger.engine import read_database_url
from receiver.ledger.ids import first_id
from receiver.ledger.ledger import Ledger
from receiver.ledger.trials import TRIAL
from tests.support.receiver_process import APP, REPOSITORY

AGE_MS = 40 * 24 * 3600 * 1000  # no chart shows it, and none of it is purged
AT_ONCE = 20  # instructions
Row = dict[str, Any]
Work = dict[str, list[int]]
CHANNELS = ("staging", "prod")
MOVING_TAG = "nightly"
KEPT = "0.1"  # Edgegap refuses to delete it each time


@contextmanager
def counting() -> Iterator[Work]:
    """Count, by statement, the instructions that SQLite's virtual machine runs for each.

    On every connection that is opened meanwhile, for reads and for writes.
    """
    work: Work = defaultdict(list)
    running: dict[int, list[int]] = {}

    def connected(connection: sqlite3.Connection, _: Any) -> None:
        def note() -> int:
            counts = running.get(id(connection))
            if counts:
                counts[-1] += AT_ONCE
            return 0

        connection.set_progress_handler(note, AT_ONCE)

    def begins(*given: Any) -> None:
        counts = work[" ".join(given[2].split())]
        counts.append(0)
        running[id(given[0].connection.driver_connection)] = counts

    event.listen(Engine, "connect", connected)
    event.listen(Engine, "before_cursor_execute", begins)
    try:
        yield work
    finally:
        event.remove(Engine, "connect", connected)
        event.remove(Engine, "before_cursor_execute", begins)


def fill(path: Path, many: int) -> None:
    """Make a ledger of that many pushes that are over: each with all that a push can leave."""
    ledger = Ledger(read_database_url(f"sqlite:///{path}"))
    ledger.open_to_write()
    ledger.close()
    began = time.time_ns() // 1_000_000 - AGE_MS
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA synchronous = OFF")
        for number in range(many):
            for table, row in _one(number, began + number * 1000):
                names, values = ", ".join(row), ", ".join(f":{name}" for name in row)
                db.execute(f"INSERT INTO {table} ({names}) VALUES ({values})", row)
        for name in CHANNELS:
            db.execute(
                "INSERT INTO channels (app, name, highest) VALUES (?, ?, '0.0')", (APP, name)
            )
    db.close()


def _one(number: int, at: int) -> Iterator[tuple[str, Row]]:
    tag = MOVING_TAG if number % 2 == 0 else f"0.{number}"
    delivery = first_id(DELIVERY, at)
    image = {"repository": REPOSITORY, "tag": tag}
    yield (
        "deliveries",
        {
            "id": delivery,
            "received_at": at,
            "source": "webhook",
            **image,
            "pusher": "builder",
            "pushed_at": at // 1000 * 1000 - 1000,
            "verdict": "accepted",
        },
    )
    outcome = ("unchanged", "superseded", "unchanged", "dismissed")[number // 2 % 4]
    digest = f"sha256:{number:064x}" if number % 16 else None
    modes = [("create", tag, outcome), ("trial", tag, "passed")]
    modes += [("channel", name, "superseded" if number else "updated") for name in CHANNELS]
    for step, (mode, version, ended) in enumerate(modes):
        identity = first_id(REGISTRATION, at + step)
        target = {"app": APP, "version": version, "mode": mode, **image}
        yield "registrations", _registration(identity, at, target, ended, digest)
        yield "led_to", {"delivery_id": delivery, "registration_id": identity}
        yield from _requests(identity, at, "PATCH" if mode == "channel" else "POST")
        if mode == "trial":
            yield "trials", _trial(identity, at, target, digest)
        elif mode == "channel":
            move = {"app": APP, "channel": version, **image, "digest": digest, "push_time": at}
            yield "channel_moves", _move(identity, at + step, move)
            if tag != MOVING_TAG:
                yield "channel_reports", {**move, "registration_id": identity}
                yield (
                    "approvals",
                    {**move, "digest": "", "at": at, "approver": "anna", "address": ""},
                )
        if tag != MOVING_TAG or number == 0:
            yield from _target(identity, at, target, number)


def _registration(identity: str, at: int, target: Row, outcome: str, digest: str | None) -> Row:
    return {
        "id": identity,
        "rule": f"{REPOSITORY} → {APP}",
        **target,
        "push_time": at // 1000 * 1000 - 1000,
        "digest": digest,
        "state": "done",
        "outcome": outcome,
        "due_at": at,
        "attempts": 1,
        "created_at": at,
        "updated_at": at,
        "finished_at": at,
        "dismissed_at": at if outcome == "dismissed" else None,
    }


def _requests(identity: str, at: int, method: str) -> Iterator[tuple[str, Row]]:
    for step, (verb, effect) in enumerate((("GET", "none"), (method, "done"))):
        row = {"registration_id": identity, "attempt": 1, "step": step, "at": at, "method": verb}
        yield "requests", {**row, "path": "/v1/app", "status": 200, "effect": effect}


def _trial(identity: str, at: int, target: Row, digest: str | None) -> Row:
    return {
        "id": first_id(TRIAL, at),
        "registration_id": identity,
        **{name: target[name] for name in ("app", "version", "repository", "tag")},
        "digest": digest,
        "at": "45.5,-73.6",
        "request_id": identity,
        "requested_at": at,
        "decided_at": at,
        "passed": True,
        "stopped_at": at,
    }


def _move(identity: str, at: int, move: Row) -> Row:
    return {
        "id": first_id(MOVE, at),
        **move,
        "at": at,
        "action": "push",
        "source": "webhook",
        "rule": f"{REPOSITORY} → {APP}",
        "registration_id": identity,
    }


def _target(identity: str, at: int, target: Row, number: int) -> Iterator[tuple[str, Row]]:
    """A version, of which every other one was deleted; a channel has its first image still."""
    channel = target["mode"] == "channel"
    if target["mode"] == "trial" or (channel and number):
        return
    app, version = target["app"], target["version"]
    deleted = at if number // 2 % 2 and not channel else None
    yield (
        "targets",
        {
            **target,
            "push_time": at,
            "created_here": True,
            "made_at": at,
            "by_hand": not channel,  # retention neither counts nor deletes it
            "deleted_at": deleted,
            "registration_id": identity,
            "updated_at": at,
        },
    )
    row = {"app": app, "version": version, "registration_id": identity, "at": at}
    yield "sent_settings", {**row, "settings": "{}"}
    if channel:
        return
    row = {"app": app, "why": "beyond keep", "began_at": at, "until_at": at, "ended_at": at}
    for place, name in enumerate((version, KEPT) if deleted else (KEPT,)):
        gone = name != KEPT
        yield (
            "deletions",
            {**row, "id": first_id(DELETION, at + place), "version": name, "deleted": gone},
        )

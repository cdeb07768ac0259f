"""Reading the ledger's file and the log as a stranger would."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any


def ledger_of(folder: Path) -> Path:
    """The ledger's file on its disk."""
    return folder / "receiver.db"


def asked(ledger: Path, sql: str) -> list[Any]:
    """Ask the ledger's file as another process would."""
    with closing(sqlite3.connect(ledger, timeout=10)) as connection:
        return connection.execute(sql).fetchall()


def logged(log: Path) -> Iterator[dict[str, Any]]:
    """Yield the log's lines, but for those in the midst of which it was killed."""
    for text in log.read_text("utf-8", "replace").splitlines():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and "event" in line:
            yield line

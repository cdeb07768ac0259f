"""The secret keys in RECEIVER_SECRET_KEY, and how to get one.

Where a ledger is found, the advice is to look for the key that it was used with: another key would
invalidate all of its links.
"""

import os
from pathlib import Path

from sqlalchemy.engine import URL

from receiver.config.environment import clean
from receiver.ledger.engine import sqlite_path

DEFAULT_LEDGER = "receiver.db"
SHORTEST_KEY = 16
MAKE_A_KEY = "python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"
HOW_TO_MAKE_A_KEY = (
    f"Make one with: {MAKE_A_KEY}  and set it; keep it, since another key invalidates all links"
)
LOOK_FIRST = (
    "Look first for the key that made the existing links, for instance in the settings of another "
    "replica, and set that"
)


def keys_in(text: str) -> list[str]:
    """Return the keys of a list with commas, without what was pasted around each."""
    cleaned = (clean("", part, parsed=True).value for part in text.split(","))
    return [key for key in cleaned if key]


def existing_ledger(database_url: URL | None, *folders: Path) -> Path | None:
    """Return the SQLite file of a ledger that exists, None if there is none.

    Without a URL, it is looked for in these folders and in the folders of the working directory: it
    may be that of a receiver whose configuration was in a file there.
    """
    if database_url is not None:
        paths = [sqlite_path(database_url)]
    else:
        paths = [folder / DEFAULT_LEDGER for folder in (*folders, Path())]
        paths += sorted(Path().glob(f"*/{DEFAULT_LEDGER}"))
    return next((path for path in paths if path is not None and os.path.lexists(path)), None)


def how_to_get_the_key(database_url: URL | None, *folders: Path) -> str:
    """Return how to set a key that is missing or too short; arguments as in `existing_ledger`."""
    ledger = existing_ledger(database_url, *folders)
    if ledger is not None:
        return (
            f"The links of the ledger {ledger} were signed with a key: set that key again, "
            "since another key invalidates all of them"
        )
    if database_url is None or sqlite_path(database_url) is not None:
        return HOW_TO_MAKE_A_KEY
    return f"{LOOK_FIRST}; only if this database has no ledger yet, make one with: {MAKE_A_KEY}"

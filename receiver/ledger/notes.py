"""Single values about the ledger itself, by key."""

from receiver.ledger.transaction import Tx


def read_note(tx: Tx, key: str) -> str | None:
    """Return a value, None if there is none."""
    found = tx.run("SELECT value FROM meta WHERE key = :key", key=key).scalar()
    return None if found is None else str(found)


def write_note(tx: Tx, key: str, value: str) -> None:
    """Set a value."""
    tx.run(
        "INSERT INTO meta (key, value) VALUES (:key, :value)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        key=key,
        value=value,
    )

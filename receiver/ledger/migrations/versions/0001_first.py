"""The first schema. A new ledger is made from `ledger/schema.py`, so nothing is left to do."""

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Do nothing: every ledger has this schema from its beginning."""

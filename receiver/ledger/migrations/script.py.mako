"""${message}."""

import sqlalchemy as sa
from alembic import op

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}


def upgrade() -> None:
    """Add only: the version before must go on working beside this one."""
    ${upgrades if upgrades else "pass"}
    # The oldest schema whose programs may go on beside it:
    op.execute("UPDATE meta SET value = ${repr(down_revision)} WHERE key = 'serves_schema'")

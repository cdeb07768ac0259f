"""Whether each write took effect, as far as its answer shows."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the column; of what was sent before it is not known."""
    op.add_column(
        "attempts", sa.Column("effect", sa.Text(), nullable=False, server_default="unknown")
    )

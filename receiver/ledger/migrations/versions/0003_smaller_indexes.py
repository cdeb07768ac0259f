"""Three indexes hold only the rows that are looked for by them: an accept writes into none of them.

The old ones go first: it is their going that waits for whoever reads, and nothing has been done yet
that would be done again at each try, while all who write stand still.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make them in the old ones' place; programs of older schemas may go on."""
    op.drop_index("deliveries_by_verdict", "deliveries")
    op.drop_index("registrations_by_tag", "registrations")
    op.drop_index("registrations_by_target", "registrations")
    _partial("deliveries_not_accepted", "deliveries", ["verdict", "id"], "verdict <> 'accepted'")
    _partial("registrations_digests", "registrations", ["repository", "tag"], "digest IS NOT NULL")
    _partial("registrations_done", "registrations", ["app", "version", "id"], "state = 'done'")


def _partial(name: str, table: str, columns: list[str], rows: str) -> None:
    where = sa.text(rows)
    op.create_index(name, table, columns, sqlite_where=where, postgresql_where=where)

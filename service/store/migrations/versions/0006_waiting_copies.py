"""An index of the copies that wait to be sent, in the order in which they are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

WAITING = "state = 'pending' AND not_before < 1e+15"


def upgrade() -> None:
    op.create_index(
        "ix_copies_waiting",
        "copies",
        ["region", "suspect", "priority", "execution_id", sa.text("started DESC"), "id"],
        sqlite_where=sa.text(WAITING),
        postgresql_where=sa.text(WAITING),
    )
    op.drop_index("ix_copies_state_not_before", "copies")  # SQLite would take it instead
    op.create_index("ix_copies_state", "copies", ["state"])
